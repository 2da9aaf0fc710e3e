//! Owns the command line of the simulated Salesforce. Does not own the server, which tests also start in their own process.

use std::{io::Write, net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::Parser;
use fakes::salesforce::{Content, FakeSalesforce, Options};
use tokio::signal::unix::{SignalKind, signal};

/// A simulated Salesforce in memory.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How many records to invent, over all objects.
    #[arg(long, default_value_t = 1_000, conflicts_with = "org_data")]
    records: u64,
    /// Invent all of them in this object only, as wide as `--columns` says.
    #[arg(long, conflicts_with = "org_data")]
    object: Option<String>,
    /// How many fields that object has; 25 make about 1 KB.
    #[arg(long, default_value_t = 25, requires = "object")]
    columns: usize,
    /// Changes by dice in a second, while the server runs.
    #[arg(long, default_value_t = 0)]
    mutations_per_s: u64,
    /// How far a late or back-dated change reaches at most.
    #[arg(long, default_value_t = 600)]
    mutation_late_secs_max: u32,
    /// A folder of CSV files with its organisation.toml, instead of invented records.
    #[arg(long)]
    org_data: Option<PathBuf>,
    /// Seeds the invented records.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The most records on a page.
    #[arg(long, default_value_t = 2_000)]
    page_size: usize,
    /// The most records on a page of a bulk job's results.
    #[arg(long, default_value_t = 50_000)]
    bulk_page_records: usize,
    /// How long a bulk job takes.
    #[arg(long, default_value_t = 20)]
    bulk_delay_ms: u64,
    /// Records of a bulk job's results that one answer gives in a second; as many as can be read, unless said.
    #[arg(long)]
    bulk_records_per_s: Option<u32>,
    /// How long an access token is good for.
    #[arg(long, default_value_t = 7_200)]
    token_secs: u64,
    /// Data calls until the allowance is used up.
    #[arg(long, default_value_t = 100_000)]
    daily_limit: u64,
    /// Make each refresh token good once only.
    #[arg(long)]
    rotate_refresh_tokens: bool,
    /// The only client id taken.
    #[arg(long, default_value = "fake-client")]
    client_id: String,
    /// The only client secret taken.
    #[arg(long, default_value = "fake-secret")]
    client_secret: String,
    /// The refresh token taken.
    #[arg(long, default_value = "fake-refresh")]
    refresh_token: String,
    /// Serve TLS, and write the certificate that clients must trust to this file.
    #[arg(long)]
    tls_ca_file: Option<PathBuf>,
    /// Where consent may send people back to, once for each; without it, anywhere on this machine.
    #[arg(long = "redirect-uri")]
    redirect_uris: Vec<String>,
    /// Refuse an authorisation without PKCE.
    #[arg(long)]
    require_pkce: bool,
    /// Consent without asking the person.
    #[arg(long)]
    approve_at_once: bool,
    /// A public key in PEM, with which the JWT bearer flow is open.
    #[arg(long)]
    jwt_public_key: Option<PathBuf>,
    /// For whom an application may sign on by itself, once for each.
    #[arg(long = "jwt-user", default_value = "admin@fake.example")]
    jwt_users: Vec<String>,
    /// A call that runs for so long counts against the limit of those at once.
    #[arg(long, default_value_t = 20_000)]
    long_call_ms: u64,
    /// Long calls at once.
    #[arg(long, default_value_t = 25)]
    long_calls_max: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut terminated = signal(SignalKind::terminate())?;
    let (records, columns, seed) = (arguments.records, arguments.columns, arguments.seed);
    let content = match (arguments.org_data, arguments.object) {
        (Some(folder), _) => Content::Folder(folder),
        (None, Some(object)) => Content::One { object, records, columns, seed },
        (None, None) => Content::Generated { records, seed },
    };
    let jwt_public_key = match arguments.jwt_public_key {
        Some(file) => {
            Some(std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?)
        }
        None => None,
    };
    let options = Options {
        addr: arguments.listen,
        content,
        page_size: arguments.page_size,
        token_secs: arguments.token_secs,
        daily_limit: arguments.daily_limit,
        bulk_page_records: arguments.bulk_page_records,
        bulk_delay_ms: arguments.bulk_delay_ms,
        bulk_records_per_s: arguments.bulk_records_per_s,
        mutations_per_s: arguments.mutations_per_s,
        mutation_seed: seed,
        mutation_late_secs_max: arguments.mutation_late_secs_max,
        rotate_refresh_tokens: arguments.rotate_refresh_tokens,
        client_id: arguments.client_id,
        client_secret: arguments.client_secret,
        refresh_token: arguments.refresh_token,
        tls: arguments.tls_ca_file.is_some(),
        tls_ca_file: arguments.tls_ca_file,
        redirect_uris: arguments.redirect_uris,
        require_pkce: arguments.require_pkce,
        approve_at_once: arguments.approve_at_once,
        jwt_public_key,
        jwt_users: arguments.jwt_users,
        long_call_ms: arguments.long_call_ms,
        long_calls_max: arguments.long_calls_max,
        ..Options::default()
    };
    let server = FakeSalesforce::start(options).await?;
    // The line that a parent process waits for.
    println!("listening on {}", server.url());
    std::io::stdout().flush()?;
    tokio::select! {
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    server.stop().await;
    Ok(())
}
