//! Owns the command line and what can be checked before anything starts.

use anyhow::Context;
use clap::{Parser, ValueEnum};
use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

/// Runs the whole system on this machine: PostgreSQL, queue, Salesforce (simulated), scheduler, servants, manager.
#[derive(Parser, Debug)]
#[command(name = "cargo up --", version)]
pub(crate) struct Arguments {
    /// Where job ids travel.
    #[arg(long, value_enum, default_value = "sqs")]
    pub(crate) queue: Queue,
    /// An SQS-compatible server to use instead of the simulated one.
    #[arg(long, value_name = "URL", env = "SERVANT_SQS_ENDPOINT_URL")]
    pub(crate) sqs_endpoint: Option<String>,
    /// Records of the simulated Salesforce organisation.
    #[arg(long, value_name = "N", default_value_t = 20_000, conflicts_with = "org_data")]
    pub(crate) records: u64,
    /// A folder of CSV files with an organisation.toml, to be onboarded instead of generated records.
    #[arg(long, value_name = "DIR")]
    pub(crate) org_data: Option<PathBuf>,
    /// The manager's port on this machine; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// Forget what earlier runs left in .servant.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Changes that the simulated Salesforce makes to its records in a second, by dice; 2, but none with --org-data or
    /// --exit-when-synced.
    #[arg(long, value_name = "N")]
    pub(crate) mutations_per_s: Option<u64>,
    /// Keep what is kept in DIR/.servant, not in .servant beside the sources.
    #[arg(long, value_name = "DIR", conflicts_with = "exit_when_synced")]
    pub(crate) home: Option<PathBuf>,
    /// Stop once the first sync is complete and print a summary as JSON; uses a database of its own.
    #[arg(long)]
    pub(crate) exit_when_synced: bool,
    /// Print the addresses of the running system as one line of JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The queue's backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Queue {
    /// Amazon SQS or a server that speaks its protocol.
    Sqs,
    /// No broker: servants claim rows directly.
    Postgres,
}

impl Queue {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sqs => "sqs",
            Self::Postgres => "postgres",
        }
    }
}

/// Enough for each minute's sync to find something, and far too little to see a difference in load.
const MUTATIONS_PER_S: u64 = 2;

impl Arguments {
    /// Whether the customer is one that may be tampered with: invented, and there to be watched.
    pub(crate) fn is_demo(&self) -> bool {
        self.org_data.is_none() && !self.exit_when_synced
    }

    pub(crate) fn mutations_per_s(&self) -> u64 {
        self.mutations_per_s.unwrap_or(if self.is_demo() { MUTATIONS_PER_S } else { 0 })
    }

    /// Refuses what cannot work, and settles what was left open.
    pub(crate) fn checked(mut self) -> anyhow::Result<Self> {
        if let Some(directory) = &mut self.org_data {
            *directory = directory.canonicalize().with_context(|| {
                format!("--org-data {} cannot be read; name an existing folder", directory.display())
            })?;
            anyhow::ensure!(
                directory.join("organisation.toml").is_file(),
                "--org-data {} holds no organisation.toml, which maps its files to objects; name the folder that does",
                directory.display()
            );
        }
        if let Some(url) = &self.sqs_endpoint {
            anyhow::ensure!(
                ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)),
                "--sqs-endpoint: '{url}' is no address; it looks like http://127.0.0.1:4566"
            );
        }
        let wanted = self.port;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).with_context(|| {
            format!(
                "port {wanted} on 127.0.0.1 cannot be had; stop what uses it, or choose another: cargo up -- --port {}",
                wanted.checked_add(1).unwrap_or(8081)
            )
        })?;
        self.port = listener.local_addr()?.port();
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_with_the_way_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let arguments = Arguments::parse_from(["up", "--port", &port.to_string()]);
        let error = format!("{:#}", arguments.checked().unwrap_err());
        assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
    }

    #[test]
    fn only_an_invented_organisation_changes_by_itself() {
        let asked = |arguments: &[&str]| Arguments::parse_from([&["up"], arguments].concat()).mutations_per_s();
        assert_eq!(asked(&[]), MUTATIONS_PER_S);
        assert_eq!(asked(&["--org-data", "/x"]), 0);
        assert_eq!(asked(&["--exit-when-synced"]), 0);
        assert_eq!(asked(&["--org-data", "/x", "--mutations-per-s", "7"]), 7);
    }

    #[test]
    fn a_free_port_is_chosen_for_0_and_a_missing_folder_is_refused() {
        assert_ne!(Arguments::parse_from(["up", "--port", "0"]).checked().unwrap().port, 0);
        let arguments = Arguments::parse_from(["up", "--port", "0", "--org-data", "/nowhere"]);
        assert!(format!("{:#}", arguments.checked().unwrap_err()).contains("existing folder"));
    }
}
