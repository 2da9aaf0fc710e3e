//! What a chaos run is held to besides the ledger's soundness: who its accounts are, the limits and quotas set before
//! anything runs, and the log of every dispatch. Does not judge; that is `watch`'s.

use domain::{AccountId, ConnectionId, Kind, Limit, Scope};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use store::Store;

/// Inserts as much at once as the others in a minute, of both kinds.
pub(super) const UNFAIR: AccountId = AccountId(1);
/// Dispatched at a rate.
pub(super) const RATED: AccountId = AccountId(2);
/// So many at a time.
pub(super) const NARROW: AccountId = AccountId(3);
/// Has the groups.
pub(super) const GROUPED: AccountId = AccountId(5);
/// Trickle.
pub(super) const QUIET: std::ops::Range<i64> = 11..15;

/// The vendor whose service goes down, and the one that counts calls. Each is one service.
pub(super) const CRM: &str = "crm";
const MAIL: &str = "mail";
const CRM_CONNECTIONS: usize = 3;

pub(super) const PER_SECOND: u32 = 6;
pub(super) const BURST: u32 = 5;
const NARROW_AT_ONCE: u32 = 4;
const EACH_ACCOUNT_AT_ONCE: u32 = 24;
const NOOP_AT_ONCE: u32 = 10;
const CRM_AT_ONCE: u32 = 6;
const CRM_CONNECTION_AT_ONCE: u32 = 3;

/// Calls of a period, how long it is, and the part of the calls that is ours.
pub(super) const QUOTA: u64 = 50;
pub(super) const PERIOD_SECS: i64 = 20;
pub(super) const SHARE_PCT: u64 = 80;

/// A limit on jobs at a time, as the samples look at it.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) at_most: i64,
    /// Which jobs in flight, and what each sum is of.
    pub(super) jobs: String,
    pub(super) each: &'static str,
}

/// What the run works with.
pub(super) struct Rules {
    /// Has the connections.
    pub(super) connected: AccountId,
    pub(super) crm: Vec<ConnectionId>,
    pub(super) mail: ConnectionId,
    pub(super) concurrency: Vec<Rule>,
}

/// The log of dispatches and of claims straight from the table. `begun_at` is before, `at` is after whatever clock the
/// dispatch went by.
const LOG: &str = "
CREATE TABLE starts (
    job_id bigint NOT NULL, kind text NOT NULL, account_id bigint NOT NULL, ready_at timestamptz NOT NULL,
    begun_at timestamptz NOT NULL, at timestamptz NOT NULL
);
CREATE INDEX starts_idx ON starts (kind, account_id, at);
CREATE FUNCTION note_start() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO starts VALUES (NEW.id, NEW.kind, NEW.account_id, NEW.ready_at, now(), clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER note_start AFTER UPDATE ON jobs
    FOR EACH ROW WHEN (OLD.state = 1 AND NEW.state IN (2, 3)) EXECUTE FUNCTION note_start();";

impl Rules {
    /// Sets everything. A limit on each account puts all accounts' jobs into the dispatcher's hands, so only every other
    /// seed has it: without a queue, servants take what nothing limits by themselves.
    pub(super) async fn set(store: &Store, url: &str, seed: u64) -> anyhow::Result<Self> {
        let mut sql = PgConnection::connect(url).await?;
        sqlx::raw_sql(LOG).execute(&mut sql).await?;
        sql.close().await?;
        // The other accounts are numbers only: it takes a connection to need a row.
        let connected = loop {
            let account = store.create_account("connected").await?;
            if account.0 >= QUIET.end {
                break account;
            }
        };
        let mut crm = Vec::new();
        for _ in 0..CRM_CONNECTIONS {
            crm.push(store.create_connection(connected, CRM, &json!({}), None).await?);
        }
        let mail = store.create_connection(connected, MAIL, &json!({}), None).await?;
        let at_once = |jobs| Limit { concurrency: Some(jobs), ..Limit::default() };
        let noop = Kind::new("noop")?;
        let mut limits = vec![
            (Scope::Account(NARROW), at_once(NARROW_AT_ONCE)),
            (Scope::Kind(noop), at_once(NOOP_AT_ONCE)),
            (Scope::Vendor(CRM.to_owned()), at_once(CRM_AT_ONCE)),
            (Scope::EachConnection(Some(CRM.to_owned())), at_once(CRM_CONNECTION_AT_ONCE)),
            (Scope::Account(RATED), Limit { per_second: Some(PER_SECOND), burst: Some(BURST), ..Limit::default() }),
        ];
        let ids: Vec<String> = crm.iter().map(ToString::to_string).collect();
        let of_crm = format!("connection_id IN ({})", ids.join(", "));
        let rule = |name, at_most: u32, jobs: String, each| Rule { name, at_most: at_most.into(), jobs, each };
        let mut concurrency = vec![
            rule("account", NARROW_AT_ONCE, format!("account_id = {NARROW}"), "account_id"),
            rule("kind", NOOP_AT_ONCE, "kind = 'noop'".to_owned(), "kind"),
            rule("vendor", CRM_AT_ONCE, of_crm.clone(), "state > 0"),
            rule("each_connection", CRM_CONNECTION_AT_ONCE, of_crm, "connection_id"),
        ];
        if seed % 2 == 1 {
            limits.push((Scope::EachAccount, at_once(EACH_ACCOUNT_AT_ONCE)));
            let of_each = format!("account_id NOT IN (0, {NARROW}, {RATED})");
            concurrency.push(rule("each_account", EACH_ACCOUNT_AT_ONCE, of_each, "account_id"));
        }
        for (scope, limit) in &limits {
            store.set_limit(&testkit::granted_to("bench", "the chaos run"), scope, limit).await?;
        }
        Ok(Self { connected, crm, mail, concurrency })
    }

    /// The payload of a job that calls the vendor with the quota.
    pub(super) fn of_quota() -> Value {
        json!({"quota": {"maximum": QUOTA, "period_secs": PERIOD_SECS}, "page_ms": 20})
    }
}
