//! Owns a customer with an organisation, read once, and what tests do with it. Does not own what is proved.

use crate::customer::{Customer, VENDOR};
use chrono::TimeDelta;
use domain::{AccountId, AnomalyKind, AnomalyState, ConnectionId, DeleteFuse, JobId, Kind};
use fakes::salesforce::{Content, FakeSalesforce, Mutation, Options as FakeOptions};
use salesforce::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::{AnomalyFilter, AnomalyRow, Inserted, NewJob, Store};
use sync::{Begun, Outcome, Pass, Release, Snapshot, SnapshotSettings, Source, Step, SyncError};
use testkit::{TestDatabase, assert_records_equal, stored_records};

pub(crate) const OBJECT: &str = "Account";

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    pub(crate) fake: FakeSalesforce,
    pub(crate) client: Client,
    pub(crate) account: AccountId,
    pub(crate) connection: ConnectionId,
    pub(crate) settings: SnapshotSettings,
    pub(crate) overlap: TimeDelta,
}

/// What a comparison came to.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) fetched: u64,
    pub(crate) patched: u64,
    pub(crate) deleted: u64,
    pub(crate) outcome: Outcome,
}

impl World {
    /// About 150 accounts.
    pub(crate) async fn new() -> Self {
        Self::with(FakeOptions {
            content: Content::Generated { records: 1_000, seed: 11 },
            page_size: 40,
            bulk_page_records: 60,
            bulk_delay_ms: 0,
            ..FakeOptions::default()
        })
        .await
    }

    pub(crate) async fn with(options: FakeOptions) -> Self {
        let Customer { database, store, fake, client, account, connection } = Customer::of(options).await;
        let fuse = DeleteFuse { pct_max: 5, rows_max: 1_000 };
        let settings = SnapshotSettings { rest_rows_max: 20_000, fuse };
        let world =
            Self { database, store, fake, client, account, connection, settings, overlap: TimeDelta::seconds(900) };
        world.sync().await;
        world
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            client: &self.client,
            store: &self.store,
            account: self.account,
            connection: self.connection,
            // Into the future: what a test changed this very second belongs to the window.
            settle: TimeDelta::seconds(-2),
            overlap: self.overlap,
        }
    }

    /// Reads the object's next window to its end. Answers with the rows that changed.
    pub(crate) async fn try_sync(&self) -> Result<u64, SyncError> {
        let mut pass = Pass::begin(self.source(), OBJECT).await?;
        let mut changed = 0;
        loop {
            let page = pass.next_page().await?;
            let mut tx = self.store.begin().await.unwrap();
            let written = pass.write(&mut tx, &page).await?;
            tx.commit().await.unwrap();
            changed += written.changed;
            let is_last = written.is_last;
            pass.committed(written).await?;
            if is_last {
                return Ok(changed);
            }
        }
    }

    pub(crate) async fn sync(&self) -> u64 {
        self.try_sync().await.unwrap()
    }

    pub(crate) async fn job(&self) -> JobId {
        match self.store.insert_jobs(&[NewJob::new(Kind::new("noop").unwrap(), json!({}))]).await.unwrap()[0] {
            Inserted::New(id) => id,
            Inserted::Duplicate(_) => panic!("a duplicate"),
        }
    }

    pub(crate) async fn begin(&self, job: JobId) -> Snapshot<'_> {
        match Snapshot::begin(self.source(), OBJECT, job, self.settings).await.unwrap() {
            Begun::Snapshot(snapshot) => *snapshot,
            Begun::Busy => panic!("another job reads it"),
            Begun::Unread => panic!("it has not been read"),
        }
    }

    /// Writes the next page, if there is one.
    pub(crate) async fn page(&self, snapshot: &mut Snapshot<'_>, compared: &mut Compared) -> bool {
        loop {
            match snapshot.step().await.unwrap() {
                Step::Read => return false,
                Step::Wait => tokio::task::yield_now().await,
                Step::Page(page) => {
                    let mut tx = self.store.begin().await.unwrap();
                    let written = snapshot.write(&mut tx, page).await.unwrap();
                    tx.commit().await.unwrap();
                    compared.fetched += written.fetched;
                    compared.patched += written.patched;
                    snapshot.committed(written);
                    return true;
                }
            }
        }
    }

    pub(crate) async fn end(&self, snapshot: &mut Snapshot<'_>, compared: &mut Compared, release: Option<&Release>) {
        while self.page(snapshot, compared).await {}
        let absences = snapshot.absences().await.unwrap();
        let held = (release.is_none() && snapshot.is_held(&absences)).then_some(absences);
        let mut after = String::new();
        while held.is_none() {
            let Some(gone) = snapshot.next_gone(&after).await.unwrap() else { break };
            after.clone_from(&gone.after);
            let mut tx = self.store.begin().await.unwrap();
            compared.deleted += snapshot.write_gone(&mut tx, gone).await.unwrap();
            tx.commit().await.unwrap();
        }
        let unshown = snapshot.gone_from_quarantine().await.unwrap();
        let mut tx = self.store.begin().await.unwrap();
        snapshot.end_quarantine(&mut tx, &unshown).await.unwrap();
        tx.commit().await.unwrap();
        compared.outcome = snapshot.outcome(held).await.unwrap();
        let mut tx = self.store.begin().await.unwrap();
        snapshot.finish(&mut tx, &compared.outcome, release).await.unwrap();
        tx.commit().await.unwrap();
        snapshot.clean_up().await.unwrap();
    }

    pub(crate) async fn compare_with(&self, release: Option<&Release>) -> Compared {
        let job = self.job().await;
        let mut snapshot = self.begin(job).await;
        let mut compared = nothing();
        self.end(&mut snapshot, &mut compared, release).await;
        compared
    }

    pub(crate) async fn compare(&self) -> Compared {
        self.compare_with(None).await
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.fake.truth(OBJECT).iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn mutate(&self, mutation: Mutation) {
        self.fake.mutate(&Mutation { object: OBJECT.to_owned(), ..mutation }).unwrap();
    }

    pub(crate) fn upsert(&self, fields: &Value) {
        self.mutate(Mutation { upsert: vec![fields.as_object().unwrap().clone()], ..Mutation::default() });
    }

    pub(crate) async fn stored(&self) -> BTreeMap<String, Value> {
        stored_records(self.database.url(), VENDOR, OBJECT).await
    }

    /// Every record that the vendor shows is stored as it is, and nothing else is but what is marked deleted.
    pub(crate) async fn assert_equal(&self) {
        let truth = self.fake.truth(OBJECT);
        let shown: Vec<&str> = truth.iter().filter_map(|record| record["Id"].as_str()).collect();
        let stored = self.stored().await;
        let mut all = truth.clone();
        for (id, row) in stored.iter().filter(|(id, _)| !shown.contains(&id.as_str())) {
            assert_eq!(row["is_deleted"], true, "{id} is shown no more");
            all.extend([json!({ "Id": id }).as_object().unwrap().clone()]);
        }
        for record in &truth {
            assert_eq!(stored[record["Id"].as_str().unwrap()]["is_deleted"], record["IsDeleted"]);
        }
        assert_records_equal(self.database.url(), VENDOR, OBJECT, &all).await;
    }

    pub(crate) async fn anomaly(&self, kind: AnomalyKind, subject: &str) -> Option<AnomalyRow> {
        let all = self.store.list_anomalies(&AnomalyFilter::default(), 100).await.unwrap();
        all.into_iter().find(|row| row.kind == kind.as_str() && row.subject == subject)
    }

    pub(crate) async fn assert_anomaly(&self, kind: AnomalyKind, subject: &str, state: AnomalyState) -> AnomalyRow {
        let row = self.anomaly(kind, subject).await;
        let row = row.unwrap_or_else(|| panic!("{kind} {subject} was not noticed"));
        assert_eq!(row.state, state, "{kind} {subject}: {}", row.state_reason);
        row
    }
}

pub(crate) fn nothing() -> Compared {
    Compared { fetched: 0, patched: 0, deleted: 0, outcome: Outcome { held: None, counts: None, differ: false } }
}
