//! `assume`.

use crate::{output, paged::Paged, refusal::Refusal};
use clap::Subcommand;
use manager_api::{AssumeRequest, Assumption, AssumptionEvent, AssumptionQuery, ManagerClient};

/// What to do about looks at accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Begins to look at an account as its customer does: 30 minutes, nothing can be changed, everything is written down.
    Start {
        /// The account.
        account: i64,
        /// Why.
        #[arg(long)]
        reason: String,
        /// The ticket of whoever asked for it.
        #[arg(long)]
        ticket: String,
    },
    /// Ends a look before its time.
    End {
        /// The look.
        id: i64,
    },
    /// Lists who looked at which account, and why, the latest first.
    List {
        /// At this account.
        #[arg(long)]
        account: Option<i64>,
        #[command(flatten)]
        page: Paged,
    },
    /// Shows one look and what was looked at, the latest first.
    Show {
        /// The look.
        id: i64,
        #[command(flatten)]
        page: Paged,
    },
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    match verb {
        Verb::Start { account, reason, ticket } => {
            let request = AssumeRequest { account_id: *account, reason: reason.clone(), ticket: ticket.clone() };
            let reply = client.assume(&request).await.map_err(Refusal::from)?;
            if json {
                return output::print(&serde_json::to_string_pretty(&reply)?);
            }
            let until = output::time(Some(reply.assumption.ends_at));
            output::print(&format!(
                "look {} at account {account}, until {until}. GET requests with this cookie, beside what signs you on, \
                 see what the customer sees:\n__Host-servant-assumed={}\nIn a browser, begin on the account's page.",
                reply.assumption.id, reply.token
            ))
        }
        Verb::End { id } => {
            client.end_assumption(*id).await.map_err(Refusal::from)?;
            output::done(json, &format!("look {id} has ended"))
        }
        Verb::List { account, page } => {
            let query = AssumptionQuery { account: *account, before: page.before, limit: page.limit };
            let page = client.assumptions(&query).await.map_err(Refusal::from)?;
            let row = |look: &Assumption| {
                let ended =
                    if look.is_open { "open".to_owned() } else { output::time(look.ended_at.or(Some(look.ends_at))) };
                let (id, account) = (look.id.to_string(), look.account_id.to_string());
                let started = output::time(Some(look.started_at));
                vec![id, account, look.by.clone(), started, ended, look.ticket.clone(), look.reason.clone()]
            };
            let head = ["ID", "ACCOUNT", "BY", "SINCE", "ENDED", "TICKET", "REASON"];
            output::table(json, &page, &head, page.assumptions.iter().map(row).collect())?;
            output::more(json, page.next_before, "--before");
            Ok(())
        }
        Verb::Show { id, page } => {
            let page = (*page).into();
            let detail = client.assumption(*id, &page).await.map_err(Refusal::from)?;
            let row =
                |event: &AssumptionEvent| vec![output::time(Some(event.at)), event.what.clone(), event.at_what.clone()];
            output::table(json, &detail, &["AT", "WHAT", "ADDRESS"], detail.events.iter().map(row).collect())?;
            output::more(json, detail.next_before, "--before");
            Ok(())
        }
    }
}
