//! One ledger for many customers: the scheduler, the Salesforce servants and what they are configured with. Waits that are
//! ours (back-off, quotas' hours, dead leases) pass at once: time is moved in the ledger. Does not own customers.

use domain::{AccountId, Clock, Kind};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use store::Store;
use testkit::{Deployment, Process, Proxy, TestDatabase};
use tokio::task::JoinHandle;
use vault::Vault;

/// Longest wait for anything that takes seconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);
/// Of each pool of the tests: their cases ask side by side.
const CONNECTIONS: u32 = 16;
/// How often time is moved on.
const HURRY_EVERY: Duration = Duration::from_millis(100);
/// The connected application of every customer.
pub(crate) const CLIENT_ID: &str = "fake-client";
pub(crate) const CLIENT_SECRET: &str = "fake-secret";
pub(crate) const SECRET_REF: &str = "proof";
pub(crate) const SYNC: &str = "salesforce_sync";
pub(crate) const BULK: &str = "salesforce_bulk";
pub(crate) const RECONCILE: &str = "salesforce_reconcile";

/// Settings of servants, where they have them: what takes minutes in production takes a second, what needs thousands of
/// records needs some, and nothing is given up for good.
const SETTINGS: [(&str, i64); 6] = [
    ("settle_secs", 0),
    ("bulk_records_min", 60),
    ("collect_secs_max", 1),
    ("begins_max", 50),
    ("rest_secs", 1),
    ("deletions_secs", 1),
];

/// What all customers share.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) sql: PgPool,
    pub(crate) vault: Vault,
    pub(crate) deployment: Deployment,
    /// Kinds of work on Salesforce, as far as there are servants for them.
    pub(crate) kinds: Vec<String>,
    /// Accounts for which time passes as it does.
    patient: Arc<Mutex<BTreeSet<AccountId>>>,
    files: tempfile::TempDir,
    hurry: JoinHandle<()>,
    _scheduler: Process,
    database: TestDatabase,
}

impl Drop for World {
    fn drop(&mut self) {
        self.hurry.abort();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of this name is a servant.
pub(crate) fn kinds() -> Vec<String> {
    let files = std::fs::read_dir(root().join("crates/servants/src/bin")).unwrap();
    let names = files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    let mut kinds: Vec<String> = names.filter(|name| name.starts_with("salesforce_")).collect();
    kinds.sort();
    assert!(kinds.iter().any(|kind| kind == SYNC), "there is no {SYNC} among {kinds:?}");
    kinds
}

/// The shipped catalogue with short waits and no schedules of its own.
fn catalogue(kinds: &[String], secrets_file: &Path) -> String {
    let shipped = std::fs::read_to_string(root().join("config/jobs.toml")).unwrap();
    let mut catalogue: toml::Table = shipped.parse().unwrap();
    for kind in kinds {
        let table = catalogue[kind].as_table_mut().unwrap();
        table.remove("schedules");
        let retry: toml::Table = "attempts_max = 60\nfirst_delay_ms = 20\ndelay_max_ms = 200".parse().unwrap();
        table.insert("retry".to_owned(), retry.into());
        let config = table.get_mut("config").and_then(toml::Value::as_table_mut).unwrap();
        config.insert("secrets_file".to_owned(), secrets_file.to_str().unwrap().into());
        for (key, value) in SETTINGS {
            if let Some(known) = config.get_mut(key) {
                *known = value.into();
            }
        }
    }
    toml::to_string(&catalogue).unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = testkit::database().await;
        let store = Store::connect(database.url(), CONNECTIONS, Clock::system()).await.unwrap();
        let sql = PgPoolOptions::new().max_connections(CONNECTIONS).connect(database.url()).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let mut secrets = std::fs::File::create(files.path().join("secrets.toml")).unwrap();
        writeln!(secrets, "[{SECRET_REF}]\nclient_secret = \"{CLIENT_SECRET}\"").unwrap();
        let kinds = kinds();
        let jobs = catalogue(&kinds, &files.path().join("secrets.toml"));
        std::fs::write(files.path().join("jobs.toml"), jobs).unwrap();
        let config = vault::Config { keys_file: files.path().join("master.keys"), kms_key: String::new() };
        let vault = Vault::new(config, Clock::system());
        vault.generate_master().unwrap();
        let deployment = Deployment::new(database.url(), None).unwrap();
        let jobs_file = files.path().join("jobs.toml").display().to_string();
        // What goes wrong here is a handful at once; that it stops a service's jobs is another test's.
        let scheduler = [
            ("SERVANT_JOBS_FILE", jobs_file.as_str()),
            ("SERVANT_BREAKER__FAILURES_MIN", "100000"),
            ("SERVANT_BREAKER__OUTCOMES_MAX", "200000"),
            ("SERVANT_DUTIES__RESCUE_MS", "100"),
        ];
        let scheduler = deployment.start("scheduler", &scheduler).await;
        let patient = Arc::<Mutex<BTreeSet<AccountId>>>::default();
        let hurry = tokio::spawn(hurry(sql.clone(), patient.clone()));
        Self { store, sql, vault, deployment, kinds, patient, files, hurry, _scheduler: scheduler, database }
    }

    /// Starts a servant of a kind, on the ledger or on a wire to it.
    pub(crate) async fn servant(&self, kind: &str, jobs_at_once: &str, database_url: Option<&str>) -> Process {
        let jobs_file = self.files.path().join("jobs.toml").display().to_string();
        let keys_file = self.files.path().join("master.keys").display().to_string();
        let environment = [
            ("SERVANT_JOBS_FILE", jobs_file.as_str()),
            ("SERVANT_VAULT__KEYS_FILE", &keys_file),
            ("SERVANT_SALESFORCE_HOSTS", "development"),
            ("SERVANT_WORK__CONCURRENCY", jobs_at_once),
            ("SERVANT_WORK__POLL_MS", "100"),
            ("DATABASE_URL", database_url.unwrap_or(&self.deployment.database_url)),
        ];
        self.deployment.start(kind, &environment).await
    }

    /// A wire to the ledger, and its address at the other end.
    pub(crate) async fn wire(&self) -> (Proxy, String) {
        self.database.wire().await.unwrap()
    }

    pub(crate) fn has(&self, kind: &str) -> bool {
        self.kinds.iter().any(|known| known == kind)
    }

    /// For this account time passes as it does.
    pub(crate) fn be_patient(&self, account: AccountId, is_patient: bool) {
        let mut patient = self.patient.lock().unwrap();
        if is_patient {
            patient.insert(account)
        } else {
            patient.remove(&account)
        };
    }

    /// The kind's name as the ledger has it.
    pub(crate) fn kind(name: &str) -> Kind {
        Kind::new(name).unwrap()
    }
}

/// Lets pass what would otherwise be waited for: back-off, a quota's hours, the age that a session must have.
async fn hurry(sql: PgPool, patient: Arc<Mutex<BTreeSet<AccountId>>>) {
    let statements = [
        "UPDATE jobs SET due_at = now() WHERE ready_at IS NULL AND due_at > now() AND account_id <> ALL($1)",
        "UPDATE secrets SET signed_on_at = signed_on_at - interval '1 hour'
         WHERE signed_on_at > now() - interval '1 minute' AND account_id <> ALL($1)",
        "UPDATE secrets SET retry_at = now() WHERE retry_at > now() AND account_id <> ALL($1)",
        "UPDATE vendor_budgets b SET reported_at = reported_at - interval '1 hour' FROM connections c
         WHERE c.id = b.connection_id AND reported_at > now() - interval '1 hour' AND c.account_id <> ALL($1)",
        // The pace of a day's calls, and the job that looks whether there are any again.
        "UPDATE limit_states l SET at = at - interval '1 hour', probed_at = probed_at - interval '1 hour' FROM connections c
         WHERE l.scope = 'connection' AND l.gauge = 'pace' AND l.key = c.id::text AND c.account_id <> ALL($1)
           AND greatest(l.at, l.probed_at) > now() - interval '1 hour'",
    ];
    loop {
        tokio::time::sleep(HURRY_EVERY).await;
        let ids: Vec<i64> = patient.lock().unwrap().iter().map(|account| account.0).collect();
        for statement in statements {
            // A deadlock with what runs is no matter: the next turn comes soon.
            drop(sqlx::query(statement).bind(&ids).execute(&sql).await);
        }
    }
}
