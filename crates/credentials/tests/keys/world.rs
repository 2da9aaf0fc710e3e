//! A ledger, a vault and a vendor that counts how often it is asked.

use credentials::{Answer, Granted, SignOn};
use domain::{AccountId, Clock, ConnectionId, ManualClock};
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use store::{Authorised, SealedSecrets, Store, credential_place};
use testkit::TestDatabase;
use vault::{Config, Vault};

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) clock: ManualClock,
    pub(crate) store: Store,
    pub(crate) vault: Arc<Vault>,
    pub(crate) account: AccountId,
    keys: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = testkit::database().await;
        let clock = ManualClock::at(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let store = database.store_with(Clock::Manual(clock.clone())).await;
        let keys = tempfile::tempdir().unwrap();
        let account = store.create_account("Acme").await.unwrap();
        let vault = vault_of(&keys, &clock);
        vault.generate_master().unwrap();
        Self { database, clock, store, vault, account, keys }
    }

    /// What another process has: a store and a vault of its own.
    pub(crate) async fn process(&self) -> Arc<SignOn> {
        let store = self.database.store_with(Clock::Manual(self.clock.clone())).await;
        SignOn::new(store, vault_of(&self.keys, &self.clock))
    }

    pub(crate) fn another_vault(&self) -> Arc<Vault> {
        vault_of(&self.keys, &self.clock)
    }

    /// A connection of an account, authorised with this refresh token and without a session.
    pub(crate) async fn authorise(&self, account: AccountId, token: &str) -> ConnectionId {
        let connection = self.store.reserve_connection().await.unwrap();
        self.authorise_again(account, connection, token).await;
        connection
    }

    pub(crate) async fn authorise_again(&self, account: AccountId, connection: ConnectionId, token: &str) {
        if self.store.newest_key(account).await.unwrap().is_none() {
            self.store.keep_keys(&[self.vault.new_key(account, 1).await.unwrap()]).await.unwrap();
        }
        let key = self.store.newest_key(account).await.unwrap().unwrap();
        let credential =
            self.vault.seal(&key, &credential_place(connection), &SecretString::from(token)).await.unwrap();
        let authorised = Authorised {
            connection,
            account,
            vendor: "acme",
            settings: &serde_json::json!({}),
            secret_ref: "acme",
            sealed: SealedSecrets { key_version: key.version, credential: Some(credential), session: None },
        };
        self.store.authorise_connection(&testkit::granted(), &authorised).await.unwrap();
    }

    /// Takes every master key but the last out of the file.
    pub(crate) fn keep_only_the_newest_master(&self) {
        let path = self.keys.path().join("master.keys");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.lines().last().unwrap()).unwrap();
    }

    /// The refresh token that is kept.
    pub(crate) async fn kept(&self, connection: ConnectionId) -> String {
        let row = self.store.find_secrets(connection).await.unwrap().unwrap();
        let sealed = row.credential.unwrap();
        let text = self.another_vault().open(&row.key, &credential_place(connection), &sealed).await.unwrap();
        text.expose_secret().to_owned()
    }
}

fn vault_of(keys: &tempfile::TempDir, clock: &ManualClock) -> Arc<Vault> {
    let config = Config { keys_file: keys.path().join("master.keys"), kms_key: String::new() };
    Arc::new(Vault::new(config, Clock::Manual(clock.clone())))
}

/// A vendor that gives session n for the n-th call and, if it rotates, ends the credential with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vendor {
    calls: Arc<AtomicUsize>,
    rotates: bool,
}

impl Vendor {
    pub(crate) fn rotating() -> Self {
        Self { rotates: true, ..Self::default() }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) async fn ask(self, credential: Option<SecretString>) -> Result<Granted, Answer> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let wanted = if self.rotates { format!("refresh-{call}") } else { "refresh-1".to_owned() };
        if credential.is_none_or(|credential| credential.expose_secret() != wanted) {
            return Err(Answer::Refused("invalid_grant: expired access/refresh token".to_owned()));
        }
        let next = self.rotates.then(|| SecretString::from(format!("refresh-{}", call + 1)));
        Ok(Granted { session: Ok(SecretString::from(format!("session-{call}"))), credential: next })
    }
}

type Asked = std::pin::Pin<Box<dyn Future<Output = Result<Granted, Answer>> + Send>>;

/// As `SignOn::session` takes it.
pub(crate) fn asking(vendor: &Vendor) -> impl Fn(Option<SecretString>) -> Asked + Send + Sync + 'static {
    let vendor = vendor.clone();
    move |credential| Box::pin(vendor.clone().ask(credential))
}
