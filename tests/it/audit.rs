//! The check that ends every crash test can itself fail: each wrong in the ledger is found.

use crate::fleet::Fleet;
use domain::JobId;
use serde_json::json;

/// A statement that spoils a sound ledger, and a part of what is to be said of it. `$1` = the id of the first job.
const WRONGS: [(&str, &str); 13] = [
    ("INSERT INTO effects SELECT * FROM effects WHERE job_id = ($1)::bigint", "was written 2 times"),
    ("DELETE FROM effects WHERE job_id = ($1)::bigint", "with 0 effects instead of 1"),
    ("UPDATE effects SET attempt = 9 WHERE job_id = ($1)::bigint", "its last effect is of attempt 9"),
    ("UPDATE effects SET pid = 0 WHERE job_id = ($1)::bigint", "of process 0"),
    ("UPDATE finished_jobs SET state = 5 WHERE id = ($1)::bigint", "no attempt says why"),
    ("UPDATE finished_jobs SET kind = 'other' WHERE id = ($1)::bigint", "a counter differs from a recount"),
    ("UPDATE finished_jobs SET group_id = 99 WHERE id = ($1)::bigint", "group 99"),
    (
        "INSERT INTO groups (name, state, state_since, created_by, created_at, request_id)
         SELECT 'g', 'sealed', now(), $1 #>> '{}', now(), gen_random_uuid()",
        "is sealed though none of its members is unfinished",
    ),
    (
        "INSERT INTO groups (name, state, state_since, created_by, created_at, request_id, finishing)
         SELECT 'g', 'finished', now(), $1 #>> '{}', now(), gen_random_uuid(), '{}'",
        "finished without its finishing job",
    ),
    ("DELETE FROM finished_jobs WHERE id = ($1)::bigint", "is nowhere"),
    ("INSERT INTO finished_jobs SELECT * FROM finished_jobs WHERE id = ($1)::bigint", "2 times"),
    (
        "INSERT INTO outbox (job_id, account_id, kind, queued_at) VALUES (($1)::bigint, 0, 'effects', now())",
        "in the outbox",
    ),
    (
        "INSERT INTO attempts (job_id, attempt, class, error, ended_at) VALUES (($1)::bigint, 1, 'bug', 'odd', now())",
        "a mistake of ours: odd",
    ),
];

#[tokio::test]
async fn every_wrong_is_found() {
    let fleet = Fleet::on_postgres().await;
    let mut scheduler = fleet.scheduler().await;
    let mut servant = fleet.effects("2").await;
    let mut jobs = fleet.enqueue_effects(&vec![json!({"children": 1}); WRONGS.len()]).await;
    fleet.assert_sound(&jobs).await;
    assert!(servant.terminate(crate::fleet::LIMIT).await.success());
    assert!(scheduler.terminate(crate::fleet::LIMIT).await.success());

    let url = &fleet.deployment.database_url;
    for ((statement, said), id) in WRONGS.into_iter().zip(&jobs) {
        let mut tx = fleet.store.begin().await.unwrap();
        tx.execute(statement, &json!(id)).await.unwrap();
        tx.commit().await.unwrap();
        let violations = testkit::audit(url, &jobs).await.unwrap();
        assert!(violations.iter().any(|line| line.contains(said)), "{statement}: {violations:?}");
    }
    let nobodys = JobId(1 << 40);
    jobs.push(nobodys);
    let violations = testkit::audit(url, &jobs).await.unwrap();
    assert!(violations.contains(&format!("job {nobodys} was committed and is nowhere")), "{violations:?}");
    let left = fleet.enqueue_effects(&[json!({})]).await;
    let violations = testkit::audit(url, &left).await.unwrap();
    assert!(violations.iter().any(|line| line.contains("is unfinished")), "{violations:?}");
}
