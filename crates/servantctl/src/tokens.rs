//! `tokens` and `credentials`: what programs and servants' heartbeats are known by. A secret goes to standard output once,
//! when it is made, and alone, so that it can be written to a file.

use crate::{output, refusal::Refusal};
use clap::Subcommand;
use domain::Role;
use manager_api::{CreateCredential, CreateToken, ManagerClient, NewSecret, PageQuery};

#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Makes a token and prints it, this once.
    Create {
        /// What people read.
        name: String,
        /// viewer, support, operator or admin.
        #[arg(long, default_value = "viewer")]
        role: Role,
        /// How long it is good, 366 at the most.
        #[arg(long, default_value_t = 90)]
        days: u32,
    },
    /// Lists them, the newest first.
    List,
    /// Makes one good no more, at once.
    Revoke {
        /// The token.
        id: i64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Credentials {
    /// Makes a credential for a kind's servants and prints it, this once.
    Create {
        /// The kind.
        kind: String,
        /// The one host they run on.
        #[arg(long)]
        host: Option<String>,
    },
    /// Lists them, the newest first.
    List,
    /// Makes one good no more, at once: work goes on, heartbeats do not.
    Revoke {
        /// The credential.
        id: i64,
    },
}

fn print_secret(new: &NewSecret, json: bool) -> anyhow::Result<()> {
    if json { output::print(&serde_json::to_string_pretty(new)?) } else { output::print(&new.secret) }
}

pub(crate) async fn tokens(client: &ManagerClient, verb: &Tokens, json: bool) -> anyhow::Result<()> {
    match verb {
        Tokens::Create { name, role, days } => {
            let token = CreateToken { name: name.clone(), role: role.to_string(), days: *days };
            print_secret(&client.create_token(&token).await.map_err(Refusal::from)?, json)
        }
        Tokens::List => {
            let mut page = client.tokens(&PageQuery::default()).await.map_err(Refusal::from)?;
            while page.next_before.is_some() {
                let next = PageQuery { before: page.next_before, limit: None };
                let more = client.tokens(&next).await.map_err(Refusal::from)?;
                page.tokens.extend(more.tokens);
                page.next_before = more.next_before;
            }
            let rows = page.tokens.iter().map(|token| {
                let until = match token.revoked_at {
                    Some(at) => format!("revoked {}", output::time(Some(at))),
                    None => output::time(Some(token.expires_at)),
                };
                let used = output::time(token.used_at);
                vec![
                    token.id.to_string(),
                    token.name.clone(),
                    token.role.clone(),
                    token.created_by.clone(),
                    used,
                    until,
                ]
            });
            output::table(json, &page, &["ID", "NAME", "ROLE", "MADE BY", "USED", "GOOD UNTIL"], rows.collect())
        }
        Tokens::Revoke { id } => {
            client.revoke_token(*id).await.map_err(Refusal::from)?;
            output::done(json, &format!("token {id} is good no more"))
        }
    }
}

pub(crate) async fn credentials(client: &ManagerClient, verb: &Credentials, json: bool) -> anyhow::Result<()> {
    match verb {
        Credentials::Create { kind, host } => {
            let credential = CreateCredential { kind: kind.clone(), host: host.clone() };
            print_secret(&client.create_credential(&credential).await.map_err(Refusal::from)?, json)
        }
        Credentials::List => {
            let mut page = client.credentials(&PageQuery::default()).await.map_err(Refusal::from)?;
            while page.next_before.is_some() {
                let next = PageQuery { before: page.next_before, limit: None };
                let more = client.credentials(&next).await.map_err(Refusal::from)?;
                page.credentials.extend(more.credentials);
                page.next_before = more.next_before;
            }
            let rows = page.credentials.iter().map(|row| {
                let host = row.host.clone().unwrap_or_else(|| "any".to_owned());
                let (used, revoked) = (output::time(row.used_at), output::time(row.revoked_at));
                vec![row.id.to_string(), row.kind.clone(), host, row.created_by.clone(), used, revoked]
            });
            output::table(json, &page, &["ID", "KIND", "HOST", "MADE BY", "USED", "REVOKED"], rows.collect())
        }
        Credentials::Revoke { id } => {
            client.revoke_credential(*id).await.map_err(Refusal::from)?;
            output::done(json, &format!("credential {id} is good no more"))
        }
    }
}
