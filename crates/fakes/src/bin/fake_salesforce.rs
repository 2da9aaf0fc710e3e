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
    /// A folder of CSV files with its organisation.toml, instead of invented records.
    #[arg(long)]
    org_data: Option<PathBuf>,
    /// Seeds the invented records.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The most records on a page.
    #[arg(long, default_value_t = 2_000)]
    page_size: usize,
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
    let content = match arguments.org_data {
        Some(folder) => Content::Folder(folder),
        None => Content::Generated { records: arguments.records, seed: arguments.seed },
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
