//! A database, a clock that stands still, a leading scheduler, and jobs put into any state by the real statements.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    AccountId, AttemptToken, Clock, ConnectionId, ErrorClass, Failure, Finishing, GroupId, JobId, JobState, Kind,
    ManualClock, ServantId, action,
};
use sqlx::PgPool;
use std::time::Duration;
use store::{
    AttemptKey, ClaimedJob, FailedAttempt, Fate, GroupRow, Inserted, Leadership, NewGroup, NewJob, NewServant, Store,
    StoreError,
};
use testkit::TestDatabase;

/// Seconds for which claims in these tests are good.
pub(crate) const LEASE_SECS: i64 = 6;

pub(crate) struct World {
    /// Held: it is dropped with the world.
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    pub(crate) clock: ManualClock,
    pub(crate) lead: Leadership,
    pub(crate) servant: ServantId,
    pub(crate) sql: PgPool,
    /// The group that jobs of `job_in` belong to.
    pub(crate) group: Option<GroupId>,
}

pub(crate) fn kind(name: &str) -> Kind {
    Kind::new(name).unwrap()
}

pub(crate) fn failure() -> Failure {
    Failure { class: ErrorClass::Transient, chain: "it broke".to_owned(), until: None }
}

pub(crate) fn revoked() -> Failure {
    Failure { class: ErrorClass::AuthBroken, chain: "revoked".to_owned(), until: None }
}

pub(crate) fn nobodys(id: JobId) -> AttemptKey {
    AttemptKey { id, token: AttemptToken(uuid::Uuid::new_v4()) }
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = testkit::database().await;
        let clock = ManualClock::at("2030-05-06T12:00:00Z".parse().unwrap());
        let store = database.store_with(Clock::Manual(clock.clone())).await;
        let lead = store.lead("boot-1", 10).await.unwrap().unwrap();
        let sql = PgPool::connect(database.url()).await.unwrap();
        let mut world = Self { database, store, clock, lead, servant: ServantId(0), sql, group: None };
        world.servant = world.another_servant().await;
        world
    }

    pub(crate) async fn another_servant(&self) -> ServantId {
        self.another_servant_of("noop").await
    }

    pub(crate) async fn another_servant_of(&self, name: &str) -> ServantId {
        let new =
            NewServant { kind: kind(name), host: "here".to_owned(), pid: 1, version: "0".to_owned(), concurrency: 10 };
        self.store.register_servant(&new).await.unwrap()
    }

    pub(crate) fn after_secs(&self, secs: i64) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::seconds(secs)
    }

    pub(crate) async fn insert(&self, jobs: &[NewJob]) -> Vec<JobId> {
        let new = |inserted| match inserted {
            Inserted::New(id) => id,
            Inserted::Duplicate(of) => panic!("a duplicate of {of:?}"),
        };
        self.store.insert_jobs(jobs).await.unwrap().into_iter().map(new).collect()
    }

    /// A connection to a vendor, in use.
    pub(crate) async fn connection(&self, vendor: &str) -> ConnectionId {
        self.store.create_connection(AccountId::SYSTEM, vendor, &serde_json::json!({}), None).await.unwrap()
    }

    /// Starts ended jobs anew, as an operator does.
    pub(crate) async fn retry_jobs(&self, jobs: &[JobId]) -> Result<Vec<JobId>, StoreError> {
        self.store.act_on_jobs(&testkit::granted::<action::RetryJob>(), jobs).await
    }

    pub(crate) async fn insert_many(&self, kind: &Kind, count: usize) -> Vec<JobId> {
        let jobs: Vec<NewJob> = (0..count).map(|_| NewJob::new(kind.clone(), serde_json::json!({}))).collect();
        self.insert(&jobs).await
    }

    pub(crate) async fn claim(&self, kind: &Kind, limit: i64) -> Vec<ClaimedJob> {
        testkit::claim(&self.store, &self.lead, self.servant, kind, limit, self.after_secs(LEASE_SECS)).await.unwrap()
    }

    pub(crate) async fn settle(&self, key: AttemptKey, fate: Fate) -> bool {
        self.store.settle(&[FailedAttempt { key, fate }]).await.unwrap().contains(&key.id)
    }

    /// A job in `state`, with the key of its attempt where it has or had one.
    pub(crate) async fn job_in(&self, state: JobState, kind: &Kind, attempts_max: u16) -> (JobId, AttemptKey) {
        let mut new = NewJob::new(kind.clone(), serde_json::json!({}));
        new.attempts_max = attempts_max;
        new.group = self.group;
        if state == JobState::Scheduled {
            new.due_at = Some(self.after_secs(60));
        }
        let id = self.insert(&[new]).await[0];
        let mut key = nobodys(id);
        match state {
            JobState::Scheduled | JobState::Ready => {}
            JobState::Queued => assert_eq!(testkit::dispatch(&self.store, &self.lead, kind, 1).await.unwrap(), 1),
            JobState::Cancelled => assert_eq!(self.store.cancel_jobs(&[id]).await.unwrap(), [id]),
            JobState::Running | JobState::Succeeded | JobState::Failed => {
                key = self.claim(kind, 1).await[0].key;
                if state == JobState::Succeeded {
                    assert!(self.store.succeed(&[key]).await.unwrap().contains(&id));
                } else if state == JobState::Failed {
                    assert!(self.settle(key, Fate::Fail(failure())).await);
                }
            }
        }
        assert_eq!(self.state(id).await, state);
        (id, key)
    }

    /// Ends every job that waits.
    pub(crate) async fn cancel_all(&self) {
        let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM jobs").fetch_all(&self.sql).await.unwrap();
        let ids: Vec<JobId> = ids.into_iter().map(JobId).collect();
        assert_eq!(self.store.cancel_jobs(&ids).await.unwrap().len(), ids.len());
    }

    /// The state of a job, which is in exactly one place.
    pub(crate) async fn state(&self, id: JobId) -> JobState {
        let states: Vec<i16> = sqlx::query_scalar(
            "SELECT state FROM jobs WHERE id = $1 UNION ALL SELECT state FROM finished_jobs WHERE id = $1",
        )
        .bind(id.0)
        .fetch_all(&self.sql)
        .await
        .unwrap();
        assert_eq!(states.len(), 1, "job {id} is in {} places", states.len());
        JobState::from_code(states[0]).unwrap()
    }

    /// One number of a job that is unfinished.
    pub(crate) async fn attempt(&self, id: JobId) -> i16 {
        sqlx::query_scalar("SELECT attempt FROM jobs WHERE id = $1").bind(id.0).fetch_one(&self.sql).await.unwrap()
    }

    /// A group that anybody may join.
    pub(crate) async fn open_group(&self) -> GroupId {
        self.group_with(None, &[], false).await.0
    }

    pub(crate) async fn group_with(
        &self,
        finishing: Option<Finishing>,
        members: &[NewJob],
        is_sealed: bool,
    ) -> (GroupId, Vec<JobId>) {
        let name = "back-fill".to_owned();
        let account = AccountId::SYSTEM;
        let new = NewGroup { name, account, finishing, request_id: uuid::Uuid::new_v4() };
        let (id, inserted) = self.store.create_group(&testkit::granted(), &new, members, is_sealed).await.unwrap();
        let id_of = |inserted| if let Inserted::New(id) = inserted { id } else { panic!("a duplicate") };
        (id, inserted.into_iter().map(id_of).collect())
    }

    pub(crate) async fn group_row(&self, id: GroupId) -> GroupRow {
        self.store.find_group(id).await.unwrap().expect("a group was lost")
    }

    pub(crate) async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.sql).await.unwrap()
    }

    pub(crate) async fn assert_counted(&self, after: &str) {
        assert_eq!(self.store.count_drift().await.unwrap(), [], "after {after}");
    }

    /// Another store on the same ledger and clock, whose sessions a test may end.
    pub(crate) async fn reopened(&self) -> Store {
        self.database.store_with(Clock::Manual(self.clock.clone())).await
    }

    /// Waits until a statement of this name waits for a lock.
    pub(crate) async fn until_waiting(&self, statement: &str) {
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '-- {statement}\n%'"
        );
        let count = async || -> i64 {
            sqlx::query_scalar(sqlx::AssertSqlSafe(waiting.clone())).fetch_one(&self.sql).await.unwrap()
        };
        let waits = async || (count().await > 0).then_some(());
        testkit::eventually(Duration::from_secs(10), statement, waits).await;
    }

    /// Blocks of indexes that have been read so far, by sessions that have ended as in [`Self::rows_read`].
    pub(crate) async fn index_blocks_read(&self) -> i64 {
        self.count("SELECT sum(idx_blks_read + idx_blks_hit)::bigint FROM pg_statio_user_indexes").await
    }

    /// Rows that have been read in this database so far, from tables or through indexes. Sessions tell their numbers at
    /// their end for certain, so the ledger's have to have ended: the world's own store is closed before.
    pub(crate) async fn rows_read(&self) -> i64 {
        let sessions = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND (query LIKE '-- %' OR query LIKE 'SELECT /*%')
                AND pid <> pg_backend_pid()";
        let ended = async || (self.count(sessions).await == 0).then_some(());
        testkit::eventually(Duration::from_secs(10), "the ledger's sessions have ended", ended).await;
        self.count("SELECT (sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)))::bigint FROM pg_stat_user_tables")
            .await
    }
}
