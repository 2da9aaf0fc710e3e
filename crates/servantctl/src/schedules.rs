//! `schedules`.

use crate::{
    audit::Whom,
    jobs::parse_json,
    output::{self, time},
    paged::Paged,
    refusal::Refusal,
};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use domain::Schedule as Rule;
use manager_api::{
    BackfillRequest, CreateSchedule, DeleteQuery, Job, ManagerClient, PauseSchedule, PreviewQuery, Schedule,
    ScheduleDetail, ScheduleQuery, ScheduleSettings, UpdateSchedule,
};
use serde_json::{Value, json};

/// What to do with schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists them, newest first.
    List {
        /// Of one account.
        #[arg(long)]
        account: Option<i64>,
        /// Only those that somebody paused, the latest paused first.
        #[arg(long)]
        paused: bool,
        #[command(flatten)]
        page: Paged,
    },
    /// Shows everything known of a schedule, and the jobs that it made last.
    Show {
        /// The schedule.
        id: i64,
    },
    /// Makes a schedule.
    Create(Box<Create>),
    /// Changes a schedule; what is not said stays.
    Update(Box<Update>),
    /// Keeps a schedule from firing.
    Pause {
        /// The schedule.
        id: i64,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Who, where nobody signs on.
        #[arg(long)]
        by: Option<String>,
    },
    /// Lets a schedule fire again; what it missed meanwhile is not made good.
    Resume {
        /// The schedule.
        id: i64,
        #[command(flatten)]
        whom: Whom,
    },
    /// Makes a job now, by the overlap policy; the next fire stays.
    Run {
        /// The schedule.
        id: i64,
    },
    /// Makes one job for each due time of a range in the past, each once, at the lowest priority.
    Backfill {
        /// The schedule.
        id: i64,
        /// The range's first instant (RFC 3339).
        #[arg(long)]
        from: DateTime<Utc>,
        /// The first instant after it (RFC 3339).
        #[arg(long)]
        to: DateTime<Utc>,
    },
    /// Deletes a schedule; its jobs stay.
    Delete {
        /// The schedule.
        id: i64,
        /// Even one that the catalogue declares.
        #[arg(long)]
        force: bool,
    },
    /// Shows the next fires, and which of them a change of the zone's clock touches.
    Preview {
        /// The schedule.
        id: i64,
        /// Fires, 500 at the most.
        #[arg(long)]
        count: Option<usize>,
    },
}

/// A schedule to be.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name, unique.
    name: String,
    /// The type of work.
    kind: String,
    #[command(flatten)]
    when: When,
    /// Whose jobs; the system's unless said.
    #[arg(long)]
    account: Option<i64>,
    /// The connection they work on.
    #[arg(long)]
    connection: Option<i64>,
    /// Their attempts in all.
    #[arg(long)]
    attempts_max: Option<u16>,
    #[command(flatten)]
    settings: Settings,
}

/// What to change.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The schedule.
    id: i64,
    #[command(flatten)]
    when: When,
    /// No bound at the start.
    #[arg(long, conflicts_with = "starts_at")]
    no_start: bool,
    /// No bound at the end.
    #[arg(long, conflicts_with = "ends_at")]
    no_end: bool,
    #[command(flatten)]
    settings: Settings,
}

/// The rule: one of the three.
#[derive(Debug, Args)]
struct When {
    /// Every so many seconds.
    #[arg(long, value_name = "SECS", conflicts_with_all = ["cron", "once"])]
    every_secs: Option<u32>,
    /// By a cron expression of 5 or 6 fields.
    #[arg(long, value_name = "EXPRESSION", requires = "zone", conflicts_with = "once")]
    cron: Option<String>,
    /// The zone whose clock the expression reads, as Europe/Berlin.
    #[arg(long, requires = "cron")]
    zone: Option<String>,
    /// Once, at that time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    once: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
struct Settings {
    /// While its last job is unfinished: skip, buffer_one, cancel_older or allow.
    #[arg(long)]
    overlap: Option<String>,
    /// Spreads the fires of many accounts over so many seconds.
    #[arg(long)]
    jitter_secs: Option<u32>,
    /// No fire before this time (RFC 3339).
    #[arg(long)]
    starts_at: Option<DateTime<Utc>>,
    /// No fire from this time on (RFC 3339).
    #[arg(long)]
    ends_at: Option<DateTime<Utc>>,
    /// How old a missed fire may be that is made good, in seconds.
    #[arg(long)]
    catch_up_secs: Option<u32>,
    /// How many missed fires are made good.
    #[arg(long)]
    catch_up_max: Option<u16>,
    /// What the jobs are to do, as JSON.
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    payload: Option<Value>,
    /// The jobs' priority, 0 (urgent) to 4 (whenever).
    #[arg(long)]
    priority: Option<i16>,
}

impl When {
    fn rule(&self) -> Option<Value> {
        match (self.every_secs, &self.cron, self.once) {
            (Some(secs), _, _) => Some(json!({ "every_secs": secs })),
            (_, Some(expression), _) => Some(json!({ "cron": { "expression": expression, "zone": self.zone } })),
            (_, _, Some(at)) => Some(json!({ "once": at })),
            (None, None, None) => None,
        }
    }
}

impl Settings {
    fn on_the_wire(&self) -> ScheduleSettings {
        ScheduleSettings {
            overlap: self.overlap.clone(),
            jitter_secs: self.jitter_secs,
            starts_at: self.starts_at.map(Some),
            ends_at: self.ends_at.map(Some),
            catch_up_secs: self.catch_up_secs,
            catch_up_max: self.catch_up_max,
            payload: self.payload.clone(),
            priority: self.priority,
        }
    }
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    let schedule = match verb {
        Verb::List { account, paused, page } => {
            let (before, limit) = (page.before, page.limit);
            let query = ScheduleQuery { account: *account, paused: paused.then_some(true), before, limit };
            return list(client, &query, json).await;
        }
        Verb::Show { id } => return show(client, *id, json).await,
        Verb::Preview { id, count } => return preview(client, *id, *count, json).await,
        Verb::Run { id } => {
            let reply = client.run_schedule(*id).await.map_err(Refusal::from)?;
            let job = reply.job_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            let outcome = if reply.job_id.is_some() { "new" } else { "waits for the unfinished job" };
            return output::table(json, &reply, &["JOB", "OUTCOME"], vec![vec![job, outcome.to_owned()]]);
        }
        Verb::Backfill { id, from, to } => {
            let range = BackfillRequest { from: *from, to: *to };
            let reply = client.backfill_schedule(*id, &range).await.map_err(Refusal::from)?;
            let row = vec![reply.due_times.to_string(), reply.inserted.to_string()];
            return output::table(json, &reply, &["DUE TIMES", "NEW JOBS"], vec![row]);
        }
        Verb::Delete { id, force } => {
            let query = DeleteQuery { force: force.then_some(true) };
            client.delete_schedule(*id, &query).await.map_err(Refusal::from)?;
            return output::done(json, &format!("schedule {id} is deleted; its jobs stay"));
        }
        Verb::Create(new) => create(client, new).await?,
        Verb::Update(change) => {
            let mut settings = change.settings.on_the_wire();
            if change.no_start {
                settings.starts_at = Some(None);
            }
            if change.no_end {
                settings.ends_at = Some(None);
            }
            client.update_schedule(change.id, &UpdateSchedule { rule: change.when.rule(), settings }).await
        }
        Verb::Pause { id, reason, by } => {
            client.pause_schedule(*id, &PauseSchedule { by: by.clone(), reason: reason.clone() }).await
        }
        Verb::Resume { id, whom } => client.resume_schedule(*id, &whom.said()).await,
    };
    let schedule = schedule.map_err(Refusal::from)?;
    output::print(&if json { serde_json::to_string_pretty(&schedule)? } else { text(&schedule) })
}

async fn create(client: &ManagerClient, new: &Create) -> anyhow::Result<Result<Schedule, manager_api::ClientError>> {
    let rule = new.when.rule().ok_or_else(|| {
        Refusal::usage("it is not said when it fires", Some("pass --every-secs, --cron with --zone, or --once"))
    })?;
    let schedule = CreateSchedule {
        name: new.name.clone(),
        kind: new.kind.clone(),
        rule,
        account_id: new.account,
        connection_id: new.connection,
        attempts_max: new.attempts_max,
        settings: new.settings.on_the_wire(),
    };
    Ok(client.create_schedule(&schedule).await)
}

async fn show(client: &ManagerClient, id: i64, json: bool) -> anyhow::Result<()> {
    let detail = client.schedule(id).await.map_err(Refusal::from)?;
    if json {
        return output::print(&serde_json::to_string_pretty(&detail)?);
    }
    let ScheduleDetail { schedule, jobs } = &detail;
    let line = |job: &Job| format!("\n{:11} {} {} {}", "made", job.id, time(Some(job.created_at)), job.state);
    output::print(&(text(schedule) + &jobs.iter().map(line).collect::<String>()))
}

async fn list(client: &ManagerClient, query: &ScheduleQuery, json: bool) -> anyhow::Result<()> {
    let page = client.schedules(query).await.map_err(Refusal::from)?;
    let rows = page.schedules.iter().map(|s| {
        let next = if s.paused_by.is_some() { "paused".to_owned() } else { time(s.next_due_at) };
        let account = s.account_id.to_string();
        vec![s.id.to_string(), s.name.clone(), s.kind.clone(), account, rule(&s.rule), s.overlap.clone(), next]
    });
    output::table(json, &page, &["ID", "NAME", "KIND", "ACCOUNT", "RULE", "OVERLAP", "NEXT"], rows.collect())?;
    output::more(json, page.next_before, "--before");
    Ok(())
}

async fn preview(client: &ManagerClient, id: i64, count: Option<usize>, json: bool) -> anyhow::Result<()> {
    let preview = client.preview_schedule(id, &PreviewQuery { count }).await.map_err(Refusal::from)?;
    let rows = preview.fires.iter().map(|fire| {
        vec![time(Some(fire.at)), fire.local.clone(), preview.zone.clone(), fire.dst.clone().unwrap_or_default()]
    });
    output::table(json, &preview, &["FIRES", "LOCAL", "ZONE", "CHANGE OF THE CLOCK"], rows.collect())?;
    if let Some(by) = preview.paused_by.as_ref().filter(|_| !json) {
        eprintln!("servantctl: paused by {by}: nothing fires until it is resumed");
    }
    Ok(())
}

/// A schedule's rule in words.
fn rule(rule: &Value) -> String {
    match serde_json::from_value(rule.clone()) {
        Ok(Rule::EverySecs(secs)) => format!("every {secs} s"),
        Ok(Rule::Once(at)) => format!("once, {}", time(Some(at))),
        Ok(Rule::Cron(cron)) => format!("{} ({})", cron.expression(), cron.zone()),
        // A newer manager's.
        Err(_) => rule.to_string(),
    }
}

/// The whole as text.
fn text(schedule: &Schedule) -> String {
    let s = schedule;
    let bounds = (s.starts_at.is_some() || s.ends_at.is_some())
        .then(|| format!("from {} until {}", time(s.starts_at), time(s.ends_at)));
    let paused = s.paused_by.as_ref().map(|by| {
        let why = s.paused_reason.as_deref().unwrap_or("no reason given");
        format!("by {by}, since {}: {why}", time(s.paused_at))
    });
    let mut text = format!("{} {}: {}", s.name, s.id, rule(&s.rule));
    for (key, value) in [
        ("kind", Some(s.kind.clone())),
        ("account", Some(s.account_id.to_string())),
        ("connection", s.connection_id.map(|id| id.to_string())),
        ("priority", Some(s.priority.to_string())),
        ("attempts", Some(s.attempts_max.to_string())),
        ("payload", Some(s.payload.to_string())),
        ("overlap", Some(s.overlap.clone())),
        ("jitter", Some(format!("{} s", s.jitter_secs)).filter(|_| s.jitter_secs > 0)),
        ("bounds", bounds),
        ("catch-up", Some(format!("{} at the most, of the last {} s", s.catch_up_max, s.catch_up_secs))),
        ("next", Some(time(s.next_due_at))),
        ("last", Some(time(s.last_due_at))),
        ("buffered", s.buffered_due_at.map(|at| time(Some(at)))),
        ("dropped", Some(s.dropped_fires.to_string()).filter(|_| s.dropped_fires > 0)),
        ("declared", Some("in the catalogue of jobs".to_owned()).filter(|_| s.declared)),
        ("paused", paused),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("\n{key:11} {value}"));
        }
    }
    text
}
