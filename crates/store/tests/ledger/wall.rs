//! The second wall around an account: a ledger opened for one account shows nothing of another, whatever it is asked for,
//! and writes nothing. The first wall, which asks for that account alone, is the manager's and stands in no way here.

use crate::world::{World, kind};
use domain::{
    AccountId, AnomalyKind, ConnectionId, Fingerprint, GroupId, JobId, JobState, Limit, PauseTarget, Policy, Schedule,
    ScheduleId, Scope, Severity, VendorBudget, action,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use std::collections::BTreeSet;
use store::{
    AnomalyFilter, AuditFilter, Fate, GroupFilter, JobFilter, NewAssumption, NewGroup, NewJob, NewSchedule, Sighting,
    Store, StoreError, UsageReport,
};

/// Where the ids of the other account's things begin, and what stands in all that it says.
const THEIRS_FROM: i64 = 700_000_001;
const THEIRS: &str = "7000000";
const WORD: &str = "theirs";

struct Side {
    account: AccountId,
    connection: ConnectionId,
    jobs: Vec<JobId>,
    schedule: ScheduleId,
    group: GroupId,
}

/// A customer with something of everything.
async fn customer(world: &World, word: &str) -> Side {
    let store = &world.store;
    let account = store.create_account(word).await.unwrap();
    let settings = json!({"login_url": format!("https://{word}.example")});
    let connection = store.create_connection(account, "salesforce", &settings, Some(word)).await.unwrap();
    store.note_service(connection, &format!("{word}.example")).await.unwrap();
    let new = NewSchedule {
        name: format!("{word} sweep"),
        kind: kind("sweep"),
        account,
        connection: Some(connection),
        payload: json!({"word": word}),
        priority: 2,
        attempts_max: 3,
        rule: Schedule::EverySecs(60),
        policy: Policy::default(),
        first_due_at: Some(world.after_secs(60)),
        declared: false,
    };
    let store::Created::New(schedule) = store.create_schedule(&testkit::granted(), &new).await.unwrap() else {
        panic!("no schedule")
    };
    let group = NewGroup { name: format!("{word} group"), account, finishing: None, request_id: uuid::Uuid::new_v4() };
    let (group, _) = store.create_group(&testkit::granted(), &group, &[], false).await.unwrap();
    let job = |group| {
        let new = NewJob::new(kind("noop"), json!({"word": word}));
        NewJob { account, connection: Some(connection), group, ..new }
    };
    // One failed, one succeeded, one in a servant's hands, one on the queue, two that wait.
    let jobs = world.insert(&[job(Some(group)), job(Some(group)), job(None)]).await;
    let claimed = world.claim(&kind("noop"), 3).await;
    let failure = domain::Failure { chain: format!("{word} broke"), ..crate::world::failure() };
    assert!(world.settle(claimed[0].key, Fate::Fail(failure)).await);
    assert_eq!(store.succeed(&[claimed[1].key]).await.unwrap().len(), 1);
    let queued = world.insert(&[job(Some(group))]).await;
    assert_eq!(testkit::dispatch(store, &world.lead, &kind("noop"), 1).await.unwrap(), 1);
    let later = NewJob { due_at: Some(world.after_secs(600)), ..job(None) };
    let waiting = world.insert(&[job(Some(group)), later]).await;
    let mut tx = store.begin().await.unwrap();
    let (summary, evidence) = (format!("{word} is odd"), json!({"word": word}));
    let seen = Sighting {
        connection,
        object: "Contact",
        kind: AnomalyKind::FieldLost,
        subject: "Phone",
        severity: Severity::Critical,
        summary: &summary,
        evidence: &evidence,
    };
    store.note_anomaly(&mut tx, &seen).await.unwrap();
    tx.commit().await.unwrap();
    store.flag_stream(connection, "Contact", word).await.unwrap();
    let budget = VendorBudget { used: 7, maximum: 100, reported_at: world.clock.now(), resets_at: None };
    store.report_usage(&[UsageReport { connection, budget }]).await.unwrap();
    for target in [PauseTarget::Account(account), PauseTarget::Connection(connection), PauseTarget::Group(group)] {
        store.pause(&testkit::granted_to(word, word), &target).await.unwrap();
    }
    let limit = Limit { concurrency: Some(50), ..Limit::default() };
    store.set_limit(&testkit::granted_to(word, word), &Scope::Account(account), &limit).await.unwrap();
    assert!(
        store.change_connection(&testkit::granted_to::<action::ParkConnection>(word, word), connection).await.unwrap()
    );
    Side { account, connection, jobs: [jobs, queued, waiting].concat(), schedule, group }
}

async fn two_customers() -> (World, Side, Side) {
    let world = World::new().await;
    let ours = customer(&world, "ours").await;
    for table in ["accounts", "connections", "jobs", "schedules", "groups", "anomalies", "streams", "leases"] {
        let statement = format!("ALTER SEQUENCE {table}_id_seq RESTART {THEIRS_FROM}");
        sqlx::query(AssertSqlSafe(statement)).execute(&world.sql).await.unwrap();
    }
    let theirs = customer(&world, WORD).await;
    (world, ours, theirs)
}

#[tokio::test]
async fn without_the_first_wall_every_list_is_of_one_account() {
    let (world, ours, theirs) = two_customers().await;
    let store = world.store.assumed(ours.account).await.unwrap();
    assert_eq!((store.viewed(), world.store.viewed()), (Some(ours.account), None));
    let own = |account: AccountId| assert_eq!(account, ours.account);
    // Each of these asks for everything.
    let mut listed = BTreeSet::new();
    for states in JobState::ALL.map(|state| vec![state]).into_iter().chain([Vec::new()]) {
        for account in [None, Some(ours.account), Some(theirs.account)] {
            for group in [None, Some(ours.group), Some(theirs.group)] {
                let filter = JobFilter { states: states.clone(), account, group, ..JobFilter::default() };
                for row in store.list_jobs(&filter, 100).await.unwrap() {
                    own(row.account_id);
                    listed.insert(row.id);
                }
            }
        }
    }
    assert_eq!(listed, ours.jobs.iter().copied().collect(), "and nothing of it is missing");
    let error = Fingerprint::of("noop", "transient", &format!("{WORD} broke"));
    let filters = [
        JobFilter { error: Some(error), ..JobFilter::default() },
        JobFilter { servant: Some(world.servant), ..JobFilter::default() },
    ];
    for filter in filters {
        for row in store.list_jobs(&filter, 100).await.unwrap() {
            own(row.account_id);
        }
    }
    assert_eq!(store.jobs_of_schedule(theirs.schedule, 100).await.unwrap(), []);
    let all = GroupFilter::default();
    assert_eq!(store.list_groups(&all, 100).await.unwrap().iter().map(|row| row.id).collect::<Vec<_>>(), [ours.group]);
    let schedules = store.list_schedules(None, 100).await.unwrap();
    assert_eq!(schedules.iter().map(|row| row.id).collect::<Vec<_>>(), [ours.schedule.0]);
    let anomalies = store.list_anomalies(&AnomalyFilter::default(), 100).await.unwrap();
    assert_eq!(anomalies.iter().map(|row| row.account).collect::<Vec<_>>(), [ours.account]);
    let connections = store.list_connections(None, None, 100).await.unwrap();
    assert_eq!(connections.iter().map(|row| row.id).collect::<Vec<_>>(), [ours.connection.0]);
    assert_eq!(store.list_accounts(None, 100).await.unwrap().len(), 1);
    assert_eq!(store.list_budgets(None, 100).await.unwrap().len(), 1);
    let pauses = store.list_pauses(None, 100).await.unwrap();
    assert!(pauses.len() == 3 && pauses.iter().all(|row| row.paused_by == "ours"), "{pauses:?}");
    assert_eq!(store.streams_of(ours.account, None, 100).await.unwrap().len(), 1);
    assert_eq!(store.list_audit(&AuditFilter::default(), 100).await.unwrap(), [], "what people did is theirs");
}

#[tokio::test]
async fn without_the_first_wall_no_id_of_another_account_is_anything() {
    let (world, ours, theirs) = two_customers().await;
    let store = world.store.assumed(ours.account).await.unwrap();
    for (job, other) in ours.jobs.iter().zip(&theirs.jobs) {
        let row = store.find_job(*job).await.unwrap().expect("a job of its own");
        let facts = store.why_facts(&row).await.unwrap();
        assert!(!format!("{facts:?}").contains(WORD));
        assert_eq!(store.attempts_of(*job).await.unwrap(), world.store.attempts_of(*job).await.unwrap());
        assert_eq!(store.find_job(*other).await.unwrap(), None);
        assert_eq!(store.attempts_of(*other).await.unwrap(), []);
    }
    assert!(store.find_account(ours.account).await.unwrap().is_some());
    assert_eq!(store.find_account(theirs.account).await.unwrap(), None);
    assert!(!store.has_account(theirs.account).await.unwrap());
    assert!(store.find_connection(ours.connection).await.unwrap().is_some());
    assert_eq!(store.find_connection(theirs.connection).await.unwrap(), None);
    assert_eq!(store.connections_of(theirs.account, 100).await.unwrap(), []);
    assert_eq!(store.connection_events(ours.connection, 100).await.unwrap().len(), 1);
    assert_eq!(store.connection_events(theirs.connection, 100).await.unwrap(), []);
    assert!(store.find_budget(ours.connection).await.unwrap().is_some());
    assert_eq!(store.find_budget(theirs.connection).await.unwrap(), None);
    assert_eq!(store.budget_minutes(theirs.connection, None, 100).await.unwrap(), []);
    assert_eq!(store.schedules_of(theirs.account, None, 100).await.unwrap(), []);
    assert_eq!(store.find_schedule(theirs.schedule).await.unwrap(), None);
    assert_eq!(store.find_group(theirs.group).await.unwrap(), None);
    let group = store.find_group(ours.group).await.unwrap().expect("a group of its own");
    assert_eq!(Some(&group), world.store.find_group(ours.group).await.unwrap().as_ref(), "with the same counts");
    store.group_progress(&group).await.unwrap();
    assert_eq!(store.streams_of(theirs.account, None, 100).await.unwrap(), []);
    assert_eq!(store.open_anomalies_of(theirs.account, 100).await.unwrap(), []);
    for anomaly in world.store.list_anomalies(&AnomalyFilter::default(), 100).await.unwrap() {
        let is_own = anomaly.account == ours.account;
        assert_eq!(store.find_anomaly(anomaly.id).await.unwrap().is_some(), is_own);
    }
}

#[tokio::test]
async fn nothing_can_be_written_by_one_who_looks() {
    let (world, ours, _) = two_customers().await;
    let store = world.store.assumed(ours.account).await.unwrap();
    let refused = |what: &str, outcome: Result<(), StoreError>| {
        assert!(matches!(outcome, Err(StoreError::Rejected(_))), "{what}: {outcome:?}");
    };
    let job = NewJob { account: ours.account, ..NewJob::new(kind("noop"), json!({})) };
    refused("insert", store.insert_jobs(&[job]).await.map(drop));
    refused("cancel", store.cancel_jobs(&ours.jobs).await.map(drop));
    refused("retry", store.act_on_jobs(&testkit::granted::<action::RetryJob>(), &ours.jobs).await.map(drop));
    refused("pause", store.pause(&testkit::granted(), &PauseTarget::Account(ours.account)).await.map(drop));
    refused("resume", store.resume(&testkit::granted(), &PauseTarget::Account(ours.account)).await.map(drop));
    refused("account", store.create_account("another").await.map(drop));
    refused("weight", store.set_account_weight(&testkit::granted(), ours.account, 3).await.map(drop));
    refused("connection", store.create_connection(ours.account, "v", &json!({}), None).await.map(drop));
    let enabled = store.change_connection(&testkit::granted::<action::Reauthorised>(), ours.connection).await;
    refused("enable", enabled.map(drop));
    refused("seal", store.seal_group(&testkit::granted(), ours.group).await.map(drop));
    refused("schedule", store.resume_schedule(&testkit::granted(), ours.schedule).await.map(drop));
    let new = NewAssumption { account: ours.account, reason: "a", ticket: "b", token_digest: &[1; 32] };
    refused("look", store.begin_assumption(&testkit::granted(), &new).await.map(drop));
    refused("secrets", store.find_secrets(ours.connection).await.map(drop));
    refused("keys", store.newest_key(ours.account).await.map(drop));
    let mut sql = viewer(&world, Some(ours.account)).await;
    for statement in
        ["CREATE TABLE x (y integer)", "CREATE TEMPORARY TABLE x (y integer)", "SELECT nextval('jobs_id_seq')"]
    {
        assert!(sqlx::query(statement).execute(&mut sql).await.is_err(), "{statement}");
    }
}

/// A session as an assumed ledger has it.
async fn viewer(world: &World, account: Option<AccountId>) -> PgConnection {
    let options: PgConnectOptions = world.database.url().parse().unwrap();
    let options = options.options([("role", "servant_viewer"), ("default_transaction_read_only", "on")]);
    let options = match account {
        Some(account) => options.options([("app.account_id", account.0.to_string())]),
        None => options,
    };
    PgConnection::connect_with(&options).await.unwrap()
}

/// Tables and views of every schema but PostgreSQL's own.
const RELATIONS: &str =
    "SELECT c.oid::bigint, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    ORDER BY 2";
const READABLE: &str = "SELECT coalesce(string_agg(quote_ident(attname), ', ' ORDER BY attnum), '') FROM pg_attribute
    WHERE attrelid = $1::bigint::oid AND attnum > 0 AND NOT attisdropped
        AND has_column_privilege('servant_viewer', attrelid, attnum, 'SELECT')";
const WRITABLE: &str =
    "SELECT has_table_privilege('servant_viewer', $1::bigint::oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
    OR has_any_column_privilege('servant_viewer', $1::bigint::oid, 'INSERT, UPDATE')";

#[tokio::test]
async fn whatever_the_role_may_read_holds_nothing_of_another_account() {
    let (world, ours, theirs) = two_customers().await;
    let relations: Vec<(i64, String)> = sqlx::query_as(RELATIONS).fetch_all(&world.sql).await.unwrap();
    let (mut as_ours, mut as_theirs) =
        (viewer(&world, Some(ours.account)).await, viewer(&world, Some(theirs.account)).await);
    let mut as_nobody = viewer(&world, None).await;
    let (mut readable, mut telling) = (BTreeSet::new(), 0);
    for (oid, name) in relations {
        let writable: bool = sqlx::query_scalar(WRITABLE).bind(oid).fetch_one(&world.sql).await.unwrap();
        assert!(!writable, "{name} can be written");
        let columns: String = sqlx::query_scalar(READABLE).bind(oid).fetch_one(&world.sql).await.unwrap();
        if columns.is_empty() {
            continue;
        }
        readable.insert(name.clone());
        let statement = format!("SELECT coalesce(string_agg(ROW({columns})::text, ' '), '') FROM {name}");
        let read = async |sql: &mut PgConnection| -> String {
            sqlx::query_scalar(AssertSqlSafe(statement.clone())).fetch_one(sql).await.unwrap()
        };
        let (own, other, none) = (read(&mut as_ours).await, read(&mut as_theirs).await, read(&mut as_nobody).await);
        for text in [&own, &none] {
            assert!(!text.contains(WORD) && !text.contains(THEIRS), "{name} shows of another account: {text}");
        }
        assert!(!none.contains("ours"), "{name} shows of an account to who looks at none: {none}");
        telling += usize::from(other.contains(WORD) || other.contains(THEIRS));
    }
    // Of what people did, columns may be read where readers ask for them, and no row.
    readable.remove("audit");
    // What is not here is not read: a new table is a decision.
    let expected = [
        "accounts",
        "anomalies",
        "attempts",
        "breakers",
        "budget_settings",
        "connection_events",
        "connections",
        "dispatches",
        "finished_jobs",
        "group_counts",
        "groups",
        "job_count_deltas",
        "job_counts",
        "jobs",
        "kinds",
        "leader",
        "leases",
        "limit_states",
        "limits",
        "pauses",
        "pauses_in_force",
        "permits",
        "schedules",
        "servants",
        "streams",
        "vendor_budget_minutes",
        "vendor_budgets",
        "windows",
    ];
    assert_eq!(readable, BTreeSet::from(expected.map(str::to_owned)));
    assert!(telling >= 14, "the marks are in what the other account's own look shows: {telling}");
}

#[tokio::test]
async fn who_may_not_become_the_role_is_told_what_to_grant() {
    let world = World::new().await;
    let name = format!("outsider_{}", uuid::Uuid::new_v4().simple());
    let run = async |statement: String| {
        sqlx::query(AssertSqlSafe(statement)).execute(&world.sql).await.unwrap();
    };
    run(format!("CREATE ROLE {name}")).await;
    let join = if world.database.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{join}options[role]={name}", world.database.url());
    let store = Store::connect(&url, 1, domain::Clock::Manual(world.clock.clone())).await.unwrap();
    let refused = store.assumed(AccountId(1)).await;
    let Err(error @ StoreError::NoViewer { .. }) = refused else { panic!("{refused:?}") };
    let told = error.to_string();
    assert!(
        told.contains(&name) && told.contains("GRANT servant_viewer") && told.contains("raise_viewer_wall"),
        "{told}"
    );
    run(format!("DROP ROLE {name}")).await;
}

#[tokio::test]
async fn for_the_owner_every_plan_is_what_it_was_without_the_wall() {
    let world = World::new().await;
    let name = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let mut sql = PgConnection::connect(world.database.url()).await.unwrap();
    const TABLES: [&str; 4] = ["jobs", "finished_jobs", "attempts", "connections"];
    run(&mut sql, format!("CREATE ROLE {name} NOBYPASSRLS")).await;
    for table in TABLES {
        run(&mut sql, format!("ALTER TABLE {table} OWNER TO {name}")).await;
    }
    let statements = [
        "SELECT * FROM jobs WHERE kind = 'noop' AND ready_at IS NOT NULL AND state = 1 ORDER BY account_id LIMIT 9",
        "UPDATE jobs SET state = 3 WHERE id = ANY ('{1,2}') AND state = 2",
        "SELECT * FROM finished_jobs WHERE (account_id, id) < (7, 9) AND account_id <> 0 ORDER BY account_id DESC, id DESC",
        "SELECT j.id FROM jobs j JOIN connections c ON c.id = j.connection_id WHERE c.state = 'active'",
        "SELECT * FROM attempts WHERE job_id = 7 ORDER BY ended_at DESC LIMIT 1",
    ];
    let mut plans = Vec::new();
    for is_walled in [true, false] {
        run(&mut sql, "RESET ROLE".to_owned()).await;
        if !is_walled {
            for table in TABLES {
                run(&mut sql, format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")).await;
            }
        }
        run(&mut sql, format!("SET ROLE {name}")).await;
        let mut plan = Vec::new();
        for statement in statements {
            let explain = format!("EXPLAIN (VERBOSE) {statement}");
            plan.extend(sqlx::query_scalar::<_, String>(AssertSqlSafe(explain)).fetch_all(&mut sql).await.unwrap());
        }
        plans.push(plan);
    }
    assert_eq!(plans[0], plans[1]);
    assert!(plans[0].len() > 10, "{plans:?}");
    run(&mut sql, "RESET ROLE".to_owned()).await;
    run(&mut sql, format!("REASSIGN OWNED BY {name} TO CURRENT_USER")).await;
    run(&mut sql, format!("DROP ROLE {name}")).await;
}

async fn run(sql: &mut PgConnection, statement: String) {
    sqlx::query(AssertSqlSafe(statement)).execute(sql).await.unwrap();
}
