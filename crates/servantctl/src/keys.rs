//! `keys`: the keys that seal customers' credentials. Works on the ledger and the master keys' file directly.

use crate::{actor, output, refusal::Refusal};
use clap::{Args, Subcommand};
use credentials::{Progress, Rotation};
use domain::Clock;
use std::{io::Write as _, path::PathBuf};
use store::Store;
use vault::{Config, Vault};

/// What to do with keys, and where master keys lie.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// The file of master keys that the programs use.
    #[arg(long, env = "SERVANT_VAULT__KEYS_FILE", default_value = ".servant/master.keys", global = true)]
    keys_file: PathBuf,
    /// The ARN of the AWS KMS key that they use instead.
    #[arg(long, env = "SERVANT_VAULT__KMS_KEY", default_value = "", global = true)]
    kms_key: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Adds a master key to the file, or makes the file. Where there are several machines: copy it to all of them, then
    /// `rotate --keep-master`.
    Generate,
    /// Lists master keys and how many accounts' keys each wraps; one that wraps none can be taken out of the file.
    List,
    /// Makes a new master key and wraps all accounts' keys by it, while everything runs. What was interrupted is finished
    /// by `rotate --keep-master`.
    Rotate {
        /// Uses the newest master key that is there, or the KMS key that is configured, instead of making one.
        #[arg(long)]
        keep_master: bool,
        /// Gives every account a new key as well, and seals all credentials anew.
        #[arg(long)]
        data_keys: bool,
    },
}

impl Keys {
    /// Whether the ledger is needed.
    pub(crate) fn needs_ledger(&self) -> bool {
        !matches!(self.verb, Verb::Generate)
    }

    fn vault(&self) -> Vault {
        Vault::new(Config { keys_file: self.keys_file.clone(), kms_key: self.kms_key.clone() }, Clock::system())
    }
}

pub(crate) async fn run(keys: &Keys, store: Option<Store>, json: bool) -> anyhow::Result<()> {
    let vault = keys.vault();
    match (&keys.verb, store) {
        (Verb::List, Some(store)) => list(&store, &vault, json).await,
        (Verb::Rotate { keep_master, data_keys }, Some(store)) => {
            let master = if *keep_master { vault.master() } else { vault.generate_master() };
            let master = master.map_err(Refusal::from)?;
            // By the ledger's time, as the keys that come are dated.
            let began = store.now();
            let by = actor::granted()?;
            let mut rotation = Rotation::new(&store, &vault, &by);
            let tell = |progress: Progress| {
                if !json {
                    // Nobody has to read it.
                    let _ = writeln!(std::io::stderr(), "{}", words(progress));
                }
            };
            rotation.rewrap(tell).await?;
            if *data_keys {
                rotation.renew(began, tell).await?;
            }
            // What an interrupted rotation left.
            rotation.reseal(tell).await?;
            let done = words(rotation.progress());
            store.note_rotation(&by, &master, &done).await.map_err(Refusal::from)?;
            output::done(json, &format!("{master} wraps all accounts' keys; {done}"))
        }
        (Verb::Generate | Verb::List | Verb::Rotate { .. }, _) => {
            let master = vault.generate_master().map_err(Refusal::from)?;
            output::done(json, &format!("{master} is in {} and wraps new keys", keys.keys_file.display()))
        }
    }
}

fn words(progress: Progress) -> String {
    let Progress { rewrapped, renewed, resealed, pruned } = progress;
    format!("{rewrapped} wrapped, {renewed} made, {resealed} connections sealed anew, {pruned} old keys deleted")
}

async fn list(store: &Store, vault: &Vault, json: bool) -> anyhow::Result<()> {
    let current = vault.master().map_err(Refusal::from)?;
    let uses = store.master_uses().await.map_err(Refusal::from)?;
    let mut lines: Vec<(String, i64, i64, Option<_>)> =
        uses.into_iter().map(|row| (row.master, row.keys, row.newest, Some(row.last_wrapped_at))).collect();
    if !lines.iter().any(|(master, ..)| *master == current) {
        lines.push((current.clone(), 0, 0, None));
    }
    let values: Vec<serde_json::Value> = lines
        .iter()
        .map(|(master, keys, newest, at)| {
            serde_json::json!({ "master": master, "in_use": *master == current, "keys": keys, "newest": newest,
                                "last_wrapped_at": at })
        })
        .collect();
    let rows = lines.iter().map(|(master, keys, newest, at)| {
        let in_use = if *master == current { "yes" } else { "-" };
        vec![master.clone(), in_use.to_owned(), keys.to_string(), newest.to_string(), output::time(*at)]
    });
    output::table(json, &values, &["MASTER", "IN USE", "KEYS", "NEWEST", "LAST WRAPPED"], rows.collect())
}
