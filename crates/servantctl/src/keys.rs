//! `keys`: the keys that seal customers' credentials. Works on the ledger and the master keys' file directly.

use crate::{actor, output, refusal::Refusal};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use credentials::{Progress, Rotation};
use domain::{Action, Clock};
use std::{io::Write as _, path::PathBuf};
use store::Store;
use vault::{Config, Vault};

/// Said where a key was made and no ledger is known.
const NOT_AUDITED: &str = "this is not in the audit: there is no address of a database; pass --database-url or set DATABASE_URL to have it there";

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
    /// `rotate --keep-master`. Where the database is known, the audit says who did.
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
    /// Whether it comes to nothing without the ledger. A first key is made where there may be no ledger yet.
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
            let master = match keep_master {
                true => vault.master().map_err(Refusal::from)?,
                false => generate(&vault, Some(&store)).await?,
            };
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
        (Verb::Generate | Verb::List | Verb::Rotate { .. }, store) => {
            let master = generate(&vault, store.as_ref()).await?;
            if store.is_none() {
                // Nobody has to read it.
                let _ = writeln!(std::io::stderr(), "servantctl: {NOT_AUDITED}");
            }
            output::done(json, &format!("{master} is in {} and wraps new keys", keys.keys_file.display()))
        }
    }
}

/// Makes a master key, and notes who did where there is a ledger to note it in: first that somebody begins, since what lies
/// in a file is in no transaction, then what came of it. One that takes no note makes no key.
async fn generate(vault: &Vault, store: Option<&Store>) -> anyhow::Result<String> {
    let Some(store) = store else { return Ok(vault.generate_master().map_err(Refusal::from)?) };
    store.check_schema().await.map_err(Refusal::from)?;
    let by = actor::granted()?;
    store.note_master_begun(&by).await.map_err(Refusal::from)?;
    let master = match vault.generate_master() {
        Ok(master) => master,
        Err(error) => {
            let why = domain::chain(&error);
            let noted = store.note_failed(by.principal(), Action::RotateKeys, "servantctl keys generate", &why).await;
            let failed = anyhow::Error::from(Refusal::from(error));
            return Err(match noted {
                Ok(()) => failed,
                Err(_) => failed.context("no master key was made, and the audit says only that somebody began"),
            });
        }
    };
    let noted = store.note_new_master(&by, &master).await.map_err(Refusal::from);
    noted.with_context(|| format!("{master} is made and wraps new keys, but is not in the audit"))?;
    Ok(master)
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

#[cfg(test)]
mod tests {
    use super::*;
    use store::AuditFilter;

    #[tokio::test]
    async fn a_new_master_key_is_in_the_audit_of_the_ledger_that_is_there() {
        let files = tempfile::tempdir().unwrap();
        let config = Config { keys_file: files.path().join("master.keys"), kms_key: String::new() };
        let vault = Vault::new(config, Clock::system());
        let first = generate(&vault, None).await.unwrap();
        let database = testkit::database().await;
        let store = database.store().await;
        let second = generate(&vault, Some(&store)).await.unwrap();
        assert_ne!(first, second);
        let filter = AuditFilter { action: Some("rotate_keys".to_owned()), ..AuditFilter::default() };
        let rows = store.list_audit(&filter, 10).await.unwrap();
        let said: Vec<_> = rows.iter().map(|row| (row.subject.as_str(), row.key.as_str())).collect();
        assert_eq!(said, [("keys", second.as_str()), ("keys", "")], "and nothing of the one that was made without");
        assert!(rows[0].actor.starts_with("cli:") && rows[0].actor.contains('@'), "{}", rows[0].actor);
    }

    #[tokio::test]
    async fn a_key_that_comes_to_nothing_is_in_the_audit_with_why() {
        let files = tempfile::tempdir().unwrap();
        let blocked = files.path().join("a file");
        std::fs::write(&blocked, "").unwrap();
        let config = Config { keys_file: blocked.join("master.keys"), kms_key: String::new() };
        let database = testkit::database().await;
        let store = database.store().await;
        let error = generate(&Vault::new(config, Clock::system()), Some(&store)).await.unwrap_err();
        let filter = AuditFilter { action: Some("rotate_keys".to_owned()), ..AuditFilter::default() };
        let rows = store.list_audit(&filter, 10).await.unwrap();
        let said: Vec<_> = rows.iter().map(|row| (row.outcome.as_str(), row.subject.as_str())).collect();
        assert_eq!(said, [("failed", "request"), ("done", "keys")], "{error:#}");
        assert_eq!(rows[1].after, Some(serde_json::json!({"what": "begin to make a master key"})));
        assert!(rows[0].after.as_ref().unwrap()["why"].as_str().is_some_and(|why| !why.is_empty()));
    }

    #[tokio::test]
    async fn a_ledger_that_takes_no_note_makes_no_key() {
        let files = tempfile::tempdir().unwrap();
        let config = Config { keys_file: files.path().join("master.keys"), kms_key: String::new() };
        let vault = Vault::new(config, Clock::system());
        let database = testkit::database().await;
        let store = database.store().await;
        store.close().await;
        generate(&vault, Some(&store)).await.unwrap_err();
        assert!(!files.path().join("master.keys").exists());
    }
}
