//! `groups`.

use crate::{jobs, output, paged::Paged, refusal::Refusal};
use clap::Subcommand;
use domain::GroupState;
use manager_api::{
    AddJobs, CancelGroup, CreateGroup, Group, GroupDetail, GroupQuery, GroupReply, JobQuery, ManagerClient,
    OnboardingQuery,
};
use serde::de::DeserializeOwned;
use std::io::Read as _;

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes a group as a JSON file says: name, jobs, finishing (kind, payload, priority, when), seal.
    Create {
        /// The file; - reads standard input.
        file: String,
        /// Who, where nobody signs on.
        #[arg(long)]
        by: Option<String>,
    },
    /// Adds members to an open group, as a JSON file with a list of jobs says.
    Add {
        /// The group.
        id: i64,
        /// The file; - reads standard input.
        file: String,
    },
    /// Lists groups, newest first.
    List {
        /// open, sealed, cancelling, finished, failed or cancelled.
        #[arg(long)]
        state: Option<String>,
        /// An account.
        #[arg(long)]
        account: Option<i64>,
        #[command(flatten)]
        page: Paged,
    },
    /// Lists what customers' connections read for the first time, and how far that is; for a day after it has ended.
    Onboardings {
        /// Of those that go on, and of those that ended: 10 at the most.
        #[arg(long)]
        limit: Option<i64>,
    },
    /// Shows a group: its members by state, its progress, what runs in the end.
    Show {
        /// The group.
        id: i64,
    },
    /// Lists a group's members, newest first.
    Jobs {
        /// The group.
        id: i64,
        /// States, comma-separated; pending = scheduled, ready, queued.
        #[arg(long)]
        state: Option<String>,
        /// Ids below this one.
        #[arg(long)]
        before: Option<String>,
        /// Rows, 200 at the most.
        #[arg(long)]
        limit: Option<String>,
    },
    /// Says that all members are known: the group ends with the last of them.
    Seal {
        /// The group.
        id: i64,
    },
    /// Ends a group's members; its finishing job does not run.
    Cancel {
        /// The group.
        id: i64,
        /// Why; everybody who wonders reads it.
        #[arg(long, default_value = "")]
        reason: String,
        /// Who, where nobody signs on.
        #[arg(long)]
        by: Option<String>,
    },
}

pub(crate) async fn run(client: &ManagerClient, verb: &Verb, json: bool) -> anyhow::Result<()> {
    match verb {
        Verb::Create { file, by } => {
            let mut value: serde_json::Value = read(file)?;
            let Some(group) = value.as_object_mut() else {
                let what = format!("{file} is no group: it holds an object with name, jobs, finishing and seal");
                return Err(Refusal::usage(what, None).into());
            };
            if let Some(by) = by {
                group.entry("by").or_insert_with(|| by.as_str().into());
            }
            let group: CreateGroup = shaped(file, value)?;
            added(&client.create_group(&group).await.map_err(Refusal::from)?, json)
        }
        Verb::Add { id, file } => {
            let jobs = AddJobs { jobs: shaped(file, read(file)?)? };
            added(&client.add_jobs(*id, &jobs).await.map_err(Refusal::from)?, json)
        }
        Verb::List { state, account, page } => {
            let query = GroupQuery { state: state.clone(), account: *account, before: page.before, limit: page.limit };
            let page = client.groups(&query).await.map_err(Refusal::from)?;
            let rows = page.groups.iter().map(row);
            output::table(json, &page, &HEAD, rows.collect())?;
            output::more(json, page.next_before, "--before");
            Ok(())
        }
        Verb::Onboardings { limit } => {
            let list = client.onboardings(&OnboardingQuery { limit: *limit }).await.map_err(Refusal::from)?;
            let rows = list.onboardings.iter().map(|detail| {
                let (group, progress) = (&detail.group, &detail.progress);
                let ids = [group.id, group.account_id].map(|id| id.to_string());
                let done =
                    format!("{} / {}{}", progress.done, progress.total, if progress.is_partial { "+" } else { "" });
                let failed = group.counts.failed.to_string();
                ids.into_iter().chain([group.state.to_string(), done, left_of(detail), failed]).collect()
            });
            output::table(json, &list, &["GROUP", "ACCOUNT", "STATE", "READ", "LEFT", "FAILED"], rows.collect())
        }
        Verb::Show { id } => {
            let detail = client.group(*id).await.map_err(Refusal::from)?;
            output::print(&if json { serde_json::to_string_pretty(&detail)? } else { text(&detail) })
        }
        Verb::Jobs { id, state, before, limit } => {
            let query =
                JobQuery { state: state.clone(), before: before.clone(), limit: limit.clone(), ..JobQuery::default() };
            jobs::table(&client.group_jobs(*id, &query).await.map_err(Refusal::from)?, json)
        }
        Verb::Seal { id } => {
            client.seal_group(*id).await.map_err(Refusal::from)?;
            output::done(json, &format!("group {id} is sealed; it ends with its last member"))
        }
        Verb::Cancel { id, reason, by } => {
            if reason.is_empty() {
                let way_out = Some("say it with --reason \"…\"");
                return Err(Refusal::usage("cancelling a group needs a reason", way_out).into());
            }
            let cancel = CancelGroup { reason: reason.clone(), by: by.clone() };
            client.cancel_group(*id, &cancel).await.map_err(Refusal::from)?;
            output::done(json, &format!("group {id} is being cancelled; running members stop as their servants obey"))
        }
    }
}

const HEAD: [&str; 9] = ["ID", "NAME", "STATE", "ACCOUNT", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"];

fn row(group: &Group) -> Vec<String> {
    let counts = &group.counts;
    let pending = counts.scheduled + counts.ready + counts.queued;
    let ended = [counts.succeeded, counts.failed, counts.cancelled];
    let numbers = [group.account_id, pending, counts.running].into_iter().chain(ended);
    let mut cells = vec![group.id.to_string(), group.name.clone(), group.state.to_string()];
    cells.extend(numbers.map(|number| number.to_string()));
    cells
}

fn added(reply: &GroupReply, json: bool) -> anyhow::Result<()> {
    let duplicates = reply.jobs.iter().filter(|job| job.duplicate).count();
    output::table(json, reply, &HEAD, vec![row(&reply.group)])?;
    if duplicates > 0 && !json {
        eprintln!("servantctl: {duplicates} of {} jobs did not join: their unique keys are taken", reply.jobs.len());
    }
    Ok(())
}

fn text(detail: &GroupDetail) -> String {
    let group = &detail.group;
    let counts = &group.counts;
    let mut lines = vec![
        format!("group {} ({}): {} since {}", group.id, group.name, group.state, output::time(Some(group.state_since))),
        format!("account     {}", group.account_id),
        format!("made by     {} at {}", group.created_by, output::time(Some(group.created_at))),
        format!(
            "members     {}: {} scheduled, {} ready, {} queued, {} running, {} succeeded, {} failed, {} cancelled",
            group.members,
            counts.scheduled,
            counts.ready,
            counts.queued,
            counts.running,
            counts.succeeded,
            counts.failed,
            counts.cancelled
        ),
    ];
    let progress = &detail.progress;
    let bound = if progress.is_partial { "at least " } else { "" };
    lines.push(format!("progress    {bound}{} of {}", progress.done, progress.total));
    if !group.state.is_ended() {
        lines.push(format!("time left   {}", left_of(detail)));
    }
    if let Some(finishing) = &group.finishing {
        let when = serde_json::to_value(finishing.when).unwrap_or_default();
        let job = group.finishing_job_id.map_or_else(String::new, |id| format!(", job {id}"));
        lines.push(format!("finishing   {} when {}{job}", finishing.kind, when.as_str().unwrap_or_default()));
    }
    if group.state == GroupState::NotUnderstood {
        let says =
            "another version wrote it, or its row is damaged: it does not end until one that understands it is there";
        lines.push(says.to_owned());
    }
    if let (Some(by), Some(reason)) = (&group.cancelled_by, &group.cancel_reason) {
        lines.push(format!("cancelled   by {by}: {reason}"));
    }
    lines.join("\n")
}

/// How long it will still take; nothing once it has ended.
fn left_of(detail: &GroupDetail) -> String {
    if detail.group.state.is_ended() {
        return String::new();
    }
    detail.progress.secs_left.map_or_else(|| "unknown".to_owned(), domain::about)
}

fn read(file: &str) -> Result<serde_json::Value, Refusal> {
    let mut text = String::new();
    let done = if file == "-" {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    done.map_err(|error| Refusal::usage(format!("{file} cannot be read: {error}"), None))?;
    serde_json::from_str(&text).map_err(|error| Refusal::usage(format!("{file} is no JSON: {error}"), None))
}

fn shaped<T: DeserializeOwned>(file: &str, value: serde_json::Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::usage(format!("{file}: {error}"), None))
}
