//! The operator's command line. Owns arguments, tables and exit codes: 0 done, 1 failed, 64 wrong usage.
//! Jobs, groups, servants and schedules go through the manager's API; migrate, queues and doctor go straight to the thing,
//! and what they do there is in the audit as done by the operating system's user (`actor`).

mod accounts;
mod actor;
mod anomalies;
mod assume;
mod audit;
mod breakers;
mod connections;
mod doctor;
mod errors;
mod find;
mod groups;
mod jobs;
mod keys;
mod limits;
mod operations;
mod output;
mod paged;
mod pauses;
mod quarantine;
mod queues;
mod refusal;
mod schedules;
mod servants;
mod show;
mod throughput;
mod tokens;
mod users;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use domain::Clock;
use manager_api::ManagerClient;
use refusal::Refusal;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use store::Store;

/// Where `cargo up` leaves an admin's token.
const TOKEN_FILE: &str = ".servant/admin.token";
const TOKEN_WAY_OUT: &str = "--token-file and SERVANT_TOKEN_FILE name a file that holds a token, SERVANT_TOKEN is one";
/// Longest that a statement runs which reads the audit page by page, in seconds; the manager's have as long. It ends when
/// this program does, so that an export that nobody wants any more keeps no server busy.
const READING_SECS_MAX: u32 = 5;
/// Wrong usage or configuration (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Operates Servant.
#[derive(Debug, Parser)]
#[command(name = "servantctl", version)]
struct Arguments {
    /// Where the database is.
    #[arg(long, env = "DATABASE_URL", global = true, hide_env_values = true)]
    database_url: Option<String>,
    /// Where the manager is.
    #[arg(long, env = "SERVANT_MANAGER_URL", global = true, default_value = "http://127.0.0.1:8080")]
    manager: String,
    /// The file that holds the token to be shown to the manager; SERVANT_TOKEN holds the token itself.
    #[arg(long, env = "SERVANT_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Applies the migrations that are missing.
    Migrate,
    /// Creates, shows and redrives queues.
    #[command(subcommand)]
    Queues(queues::Verb),
    /// Inserts a job.
    Enqueue(jobs::Enqueue),
    /// Lists, shows, retries and cancels jobs, says why one waits, and lets one go before its time.
    #[command(subcommand)]
    Jobs(jobs::Verb),
    /// Retries or cancels every job that a search finds, in the background.
    #[command(subcommand)]
    Operations(operations::Verb),
    /// Finds what a text may stand for: a job, a kind, an account, a unique key, an error.
    Find(find::Find),
    /// Lists and shows errors by group.
    #[command(subcommand)]
    Errors(errors::Verb),
    /// Makes, lists, shows, seals and cancels groups of jobs.
    #[command(subcommand)]
    Groups(groups::Verb),
    /// Lists servants and gives them orders.
    Servants(servants::Servants),
    /// Holds jobs back: everything, a kind, an account, a connection or a group.
    Pause(pauses::Pause),
    /// Ends a pause.
    Resume(pauses::Resume),
    /// Lists what is paused, by whom and why.
    Pauses,
    /// Lists, makes, changes, pauses, runs and previews schedules.
    #[command(subcommand)]
    Schedules(schedules::Verb),
    /// Lists, sets and removes limits on kinds, accounts, connections and vendors.
    #[command(subcommand)]
    Limits(limits::Limits),
    /// Shows customers' quotas at vendors, and sets our share of one.
    #[command(subcommand)]
    Budgets(limits::Budgets),
    /// Lists accounts, and sets an account's share of what is dispatched.
    #[command(subcommand)]
    Accounts(accounts::Verb),
    /// Looks at an account as its customer does, and lists who did, when and why.
    #[command(subcommand)]
    Assume(assume::Verb),
    /// Lists connections, shows one, has one authorised, parks it and brings it back.
    #[command(subcommand)]
    Connections(connections::Verb),
    /// Makes, lists and rotates the keys that seal customers' credentials.
    Keys(keys::Keys),
    /// Lists services' circuit breakers, holds one open or closed, and lets go.
    #[command(subcommand)]
    Breakers(breakers::Verb),
    /// Lists what is out of the ordinary in customers' data, shows one, acknowledges, resolves and mutes it.
    #[command(subcommand)]
    Anomalies(anomalies::Verb),
    /// Lists records that could not be stored, shows one with its bytes, lets it rest, and has it asked for once more.
    #[command(subcommand)]
    Quarantine(quarantine::Verb),
    /// Lists, exports and verifies what anybody did, was denied or failed at.
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Makes the first admin, lists people, adds one, gives another role, disables, enables and signs out.
    #[command(subcommand)]
    Users(users::Verb),
    /// Makes, lists and revokes programs' tokens.
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Makes, lists and revokes what servants' heartbeats are known by.
    #[command(subcommand)]
    Credentials(tokens::Credentials),
    /// Says as whom the manager knows this program.
    Whoami,
    /// Counts of jobs by kind and state.
    Stats,
    /// How many jobs ended over time, how long they waited and ran.
    Throughput(throughput::Throughput),
    /// Checks database, schema, queues, manager and clock, and says what to do.
    Doctor(doctor::Doctor),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Printing fails when nobody reads; there is nobody left to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the async runtime cannot be built")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("servantctl: {error:#}");
            let is_usage = error.chain().any(|cause| {
                cause.is::<daemon::ConfigError>() || cause.downcast_ref::<Refusal>().is_some_and(|r| r.is_usage)
            });
            ExitCode::from(if is_usage { EXIT_USAGE } else { 1 })
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let json = arguments.json;
    let client = || client_of(&arguments.manager, arguments.token_file.as_deref());
    match &arguments.verb {
        Verb::Migrate => {
            let store = open(arguments.database_url.as_deref()).await?;
            store.migrate_by(&actor::granted()?).await.map_err(Refusal::from)?;
            output::done(json, "the database is at this program's schema")
        }
        Verb::Queues(verb) => {
            let store = match verb.needs_ledger() {
                true => Some(open(arguments.database_url.as_deref()).await?),
                false => None,
            };
            queues::run(client, store, verb, json).await
        }
        Verb::Enqueue(job) => jobs::enqueue(&client()?, job, json).await,
        Verb::Jobs(verb) => jobs::run(&client()?, verb, json).await,
        Verb::Operations(verb) => operations::run(&client()?, verb, json).await,
        Verb::Find(find) => find::run(&client()?, find, json).await,
        Verb::Errors(verb) => errors::run(&client()?, verb, json).await,
        Verb::Groups(verb) => groups::run(&client()?, verb, json).await,
        Verb::Servants(verb) => servants::run(&client()?, verb, json).await,
        Verb::Pause(pause) => pauses::pause(&client()?, pause, json).await,
        Verb::Resume(resume) => pauses::resume(&client()?, resume, json).await,
        Verb::Pauses => pauses::list(&client()?, json).await,
        Verb::Schedules(verb) => schedules::run(&client()?, verb, json).await,
        Verb::Limits(verb) => limits::limits(&client()?, verb, json).await,
        Verb::Budgets(verb) => limits::budgets(&client()?, verb, json).await,
        Verb::Accounts(verb) => accounts::run(&client()?, verb, json).await,
        Verb::Assume(verb) => assume::run(&client()?, verb, json).await,
        Verb::Connections(verb) => connections::run(&client()?, verb, json).await,
        Verb::Keys(keys) => {
            let url = arguments.database_url.as_deref().filter(|url| !url.is_empty());
            let store = match url.is_some() || keys.needs_ledger() {
                true => Some(open(url).await?),
                false => None,
            };
            keys::run(keys, store, json).await
        }
        Verb::Breakers(verb) => breakers::run(&client()?, verb, json).await,
        Verb::Anomalies(verb) => anomalies::run(&client()?, verb, json).await,
        Verb::Quarantine(verb) => quarantine::run(&client()?, verb, json).await,
        Verb::Audit(audit::Verb::List(list)) => audit::list(&client()?, list, json).await,
        Verb::Audit(verb) => {
            let url = checked(arguments.database_url.as_deref())?;
            let store =
                Store::connect_within(url, 1, Clock::system(), READING_SECS_MAX).await.map_err(Refusal::from)?;
            audit::run(&store, verb, json).await
        }
        Verb::Users(users::Verb::Bootstrap(bootstrap)) => {
            let store = open(arguments.database_url.as_deref()).await?;
            users::bootstrap(&store, bootstrap, &arguments.manager, json).await
        }
        Verb::Users(verb) => users::run(&client()?, verb, json).await,
        Verb::Tokens(verb) => tokens::tokens(&client()?, verb, json).await,
        Verb::Credentials(verb) => tokens::credentials(&client()?, verb, json).await,
        Verb::Whoami => users::whoami(&client()?, json).await,
        Verb::Stats => {
            let stats = client()?.stats().await.map_err(Refusal::from)?;
            let rows = stats.counts.iter().map(|c| vec![c.kind.clone(), c.state.to_string(), c.jobs.to_string()]);
            output::table(json, &stats, &["KIND", "STATE", "JOBS"], rows.collect())
        }
        Verb::Throughput(throughput) => throughput::run(&client()?, throughput, json).await,
        Verb::Doctor(doctor) => doctor::run(arguments.database_url.as_deref(), client, doctor, json).await,
    }
}

/// The manager, with the token that is there for it: `SERVANT_TOKEN`, the file that is named, or what `cargo up` has left
/// beneath this directory. That one stays on this machine.
fn client_of(manager: &str, file: Option<&Path>) -> anyhow::Result<ManagerClient> {
    let token = match (std::env::var("SERVANT_TOKEN").ok().filter(|token| !token.is_empty()), file) {
        (Some(token), _) => Some(token),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file);
            Some(text.map_err(|error| Refusal::usage(format!("{}: {error}", file.display()), Some(TOKEN_WAY_OUT)))?)
        }
        (None, None) if is_here(manager) => std::fs::read_to_string(TOKEN_FILE).ok(),
        (None, None) => None,
    };
    let client = match token {
        Some(token) => ManagerClient::with_token(manager, &token.trim().to_owned().into()),
        None => ManagerClient::new(manager),
    };
    Ok(client.map_err(Refusal::from)?)
}

fn is_here(manager: &str) -> bool {
    reqwest::Url::parse(manager).is_ok_and(|url| matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")))
}

/// The ledger, or what to set.
async fn open(url: Option<&str>) -> anyhow::Result<Store> {
    Ok(Store::connect(checked(url)?, 1, Clock::system()).await.map_err(Refusal::from)?)
}

/// An address of a ledger, or what to set.
fn checked(url: Option<&str>) -> Result<&str, Refusal> {
    let url = url.filter(|url| !url.is_empty()).ok_or_else(|| {
        Refusal::usage("there is no address of a database", Some("pass --database-url or set DATABASE_URL"))
    })?;
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        // It may hold a password, and is not shown.
        let what = "the database's address is none; it looks like postgres://user@host/name";
        return Err(Refusal::usage(what, Some("correct --database-url or DATABASE_URL")));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_operation_of_the_api_has_a_verb() {
        let lines = include_str!("../../manager-api/parity.txt").lines().filter(|line| !line.starts_with('#'));
        let mut count = 0;
        for line in lines {
            let verb = line.rsplit(" | ").next().unwrap_or_default();
            let mut command = Arguments::command();
            for word in verb.split(' ') {
                let found = command.find_subcommand(word).cloned();
                command = found.unwrap_or_else(|| panic!("{line}: there is no verb '{verb}'"));
            }
            assert!(!command.has_subcommands(), "{line}: '{verb}' is not the whole of it");
            count += 1;
        }
        assert!(count > 60, "the table was read");
    }
}
