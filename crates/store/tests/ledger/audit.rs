//! The audit: appended to and nothing else, sealed in the order of its numbers, and no edit of it goes unseen.

use crate::world::{World, kind};
use chrono::{DateTime, Utc};
use domain::{AccountId, Action, Origin, PauseTarget, Principal, PrincipalKind, Role, action, authorize};
use sqlx::{AssertSqlSafe, Executor as _};
use std::time::Duration;
use store::{AuditFilter, AuditHead, AuditVerdict};

/// Other databases' transactions on the same server are waited for, too.
const SEALED_WITHIN: Duration = Duration::from_secs(60);

impl World {
    /// Five deeds, and whatever of them is sealed.
    async fn audited(&self) -> AuditHead {
        let ada = Principal::new(PrincipalKind::User, "7", "ada", Role::Operator).from_origin(Origin {
            request_id: Some(uuid::Uuid::from_u128(9)),
            ip: Some([10, 0, 0, 1].into()),
            agent: "a browser".to_owned(),
        });
        let target = PauseTarget::Kind(kind("noop"));
        for reason in ["the vendor is down", "and stays so"] {
            self.store.pause(&authorize(&ada, reason).unwrap(), &target).await.unwrap();
        }
        self.store.resume(&authorize(&ada, "it is back").unwrap(), &target).await.unwrap();
        let eve = Principal::new(PrincipalKind::Token, "8", "eve", Role::Viewer).assuming(AccountId(7));
        let denied = authorize::<action::Pause>(&eve, "").unwrap_err();
        self.store.note_denied(&eve, denied, "PUT /api/v1/pauses/everything").await.unwrap();
        self.store.note_failed(&ada, Action::Resume, "DELETE /api/v1/pauses/everything", "404").await.unwrap();
        self.sealed().await
    }

    /// Seals until nothing awaits the seal.
    async fn sealed(&self) -> AuditHead {
        testkit::eventually(SEALED_WITHIN, "the audit's seal", async || {
            self.store.seal_audit(&self.lead).await.unwrap();
            let verdict = self.verify(None).await;
            assert_eq!(verdict.bad, None);
            verdict.head.filter(|_| verdict.awaiting == 0)
        })
        .await
    }

    async fn verify(&self, head: Option<&AuditHead>) -> AuditVerdict {
        self.store.verify_audit(head).await.unwrap()
    }

    /// Runs statements as somebody who may do anything with the database, triggers off.
    async fn forge(&self, statements: &[&str]) {
        let mut tx = self.sql.begin().await.unwrap();
        tx.execute("SET LOCAL session_replication_role = replica").await.unwrap();
        for statement in statements {
            tx.execute(AssertSqlSafe((*statement).to_owned())).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    async fn bad_seq(&self, head: Option<&AuditHead>) -> Option<i64> {
        self.verify(head).await.bad.map(|bad| bad.seq)
    }
}

#[tokio::test]
async fn rows_say_who_from_where_why_and_how_it_ended() {
    let world = World::new().await;
    let head = world.audited().await;
    let rows = world.store.export_audit(0, (None, None), 100).await.unwrap().rows;
    assert_eq!((rows.len(), rows.last().unwrap().seq), (5, head.seq));
    let first = &rows[0];
    assert_eq!((first.actor_kind.as_str(), first.actor_id.as_str(), first.actor.as_str()), ("user", "7", "ada"));
    assert_eq!(
        (first.role.as_str(), first.ip.as_deref(), first.agent.as_str()),
        ("operator", Some("10.0.0.1"), "a browser")
    );
    assert_eq!(first.request_id, Some(uuid::Uuid::from_u128(9)));
    let said: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.outcome.as_str(), row.on_behalf_of)).collect();
    let done = |action| (action, "done", None);
    assert_eq!(said[..3], [done("pause"), done("pause"), done("resume")]);
    assert_eq!(said[3..], [("pause", "denied", Some(7)), ("resume", "failed", None)]);
    let reasons = |side: &Option<serde_json::Value>| side.as_ref().unwrap()["reason"].as_str().unwrap().to_owned();
    assert_eq!((first.before.as_ref(), reasons(&first.after).as_str()), (None, "the vendor is down"));
    assert_eq!(reasons(&rows[1].before), "the vendor is down");
    assert_eq!((reasons(&rows[2].before).as_str(), rows[2].after.as_ref()), ("and stays so", None));
    let of_eve = AuditFilter { account: Some(AccountId(7)), ..AuditFilter::default() };
    assert_eq!(world.store.list_audit(&of_eve, 10).await.unwrap().len(), 1);
    let rest = world.store.export_audit(rows[3].seq, (Some(world.clock.now()), None), 100).await.unwrap().rows;
    assert_eq!(rest, rows[4..]);
    assert!(world.store.export_audit(0, (None, Some(world.clock.now())), 100).await.unwrap().rows.is_empty());
}

/// All that an export of that time brings, and how many pages it took.
async fn exported(world: &World, range: (Option<DateTime<Utc>>, Option<DateTime<Utc>>)) -> (Vec<i64>, usize) {
    let (mut next, mut seqs, mut pages) = (Some(0), Vec::new(), 0);
    while let Some(after) = next {
        let page = world.store.export_audit(after, range, 200).await.unwrap();
        assert!(page.next_after.is_none_or(|next| next > after), "it gets on");
        seqs.extend(page.rows.into_iter().map(|row| row.seq));
        (next, pages) = (page.next_after, pages + 1);
    }
    (seqs, pages)
}

#[tokio::test]
async fn an_export_of_a_time_skips_nothing_and_reads_little() {
    let world = World::new().await;
    // A deed a minute for two days, each up to half an hour out of order, and one that is not sealed.
    world
        .sql
        .execute(
            "INSERT INTO audit (at, actor_kind, actor_id, actor, role, action, subject, key, reason, agent, outcome)
             SELECT '2030-01-01T00:00:00Z'::timestamptz + make_interval(mins => n + n * 7919 % 61 - 30), 'open', '', 'ada',
                 'admin', 'pause', 'pause', '', '', '', 'done' FROM generate_series(0, 2879) AS n",
        )
        .await
        .unwrap();
    world.sealed().await;
    world.sql.execute("ANALYZE audit").await.unwrap();
    let late = "INSERT INTO audit (at, actor_kind, actor_id, actor, role, action, subject, key, reason, agent, outcome)
        VALUES ('2030-01-02T03:00:00Z', 'open', '', 'eve', 'admin', 'pause', 'pause', '', '', '', 'done')";
    world.sql.execute(late).await.unwrap();
    let at = |text: &str| text.parse::<DateTime<Utc>>().ok();
    for (since, until, pages_max) in [
        (None, None, 16),
        (at("2030-01-02T00:00:00Z"), at("2030-01-02T06:00:00Z"), 4),
        (at("2030-01-02T00:00:00Z"), at("2030-01-02T00:01:00Z"), 2),
        (at("2030-01-02T20:00:00Z"), None, 4),
        (None, at("2030-01-01T01:00:00Z"), 2),
        (at("2031-01-01T00:00:00Z"), None, 1),
        (None, at("2029-01-01T00:00:00Z"), 1),
    ] {
        let meant: Vec<i64> = sqlx::query_scalar(
            "SELECT seq FROM audit WHERE chain_hash IS NOT NULL AND ($1 IS NULL OR at >= $1) AND ($2 IS NULL OR at < $2)
             ORDER BY seq",
        )
        .bind(since)
        .bind(until)
        .fetch_all(&world.sql)
        .await
        .unwrap();
        let (seqs, pages) = exported(&world, (since, until)).await;
        assert_eq!(seqs, meant, "from {since:?} until {until:?}");
        assert!(pages <= pages_max, "from {since:?} until {until:?}: {pages} pages");
    }
}

#[tokio::test]
async fn every_edited_column_is_found() {
    let world = World::new().await;
    world.audited().await;
    world.sql.execute("CREATE TABLE kept AS SELECT * FROM audit").await.unwrap();
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = 'audit'",
    )
    .fetch_all(&world.sql)
    .await
    .unwrap();
    assert_eq!(columns.len(), 19);
    let seqs: Vec<i64> = sqlx::query_scalar("SELECT seq FROM audit ORDER BY seq").fetch_all(&world.sql).await.unwrap();
    // The first, one whose neighbours know it, and the last.
    for seq in [seqs[0], seqs[2], seqs[4]] {
        for (column, kind) in &columns {
            let edited = match (column.as_str(), kind.as_str()) {
                ("outcome", _) => "CASE outcome WHEN 'denied' THEN 'done' ELSE 'denied' END".to_owned(),
                (_, "text") => format!("coalesce({column} || ' ', '')"),
                (_, "bigint") => format!("coalesce({column} + 1000000, 1)"),
                (_, "jsonb") => format!("coalesce({column} || '{{\"x\": 1}}', '{{}}')"),
                (_, "uuid") => format!("coalesce(overlay({column}::text placing 'a' from 1)::uuid, gen_random_uuid())"),
                (_, "bytea") => format!("set_byte({column}, 0, get_byte({column}, 0) # 1)"),
                (_, "timestamp with time zone") => format!("{column} + interval '1 microsecond'"),
                other => panic!("a column of a new sort: {other:?}"),
            };
            world.forge(&[&format!("UPDATE audit SET {column} = {edited} WHERE seq = {seq}")]).await;
            assert!(world.bad_seq(None).await.is_some(), "{column} of row {seq} was edited");
            world.forge(&["DELETE FROM audit", "INSERT INTO audit SELECT * FROM kept"]).await;
            assert_eq!(world.bad_seq(None).await, None, "{column} is as it was");
        }
    }
    world.forge(&[&format!("UPDATE audit SET chain_hash = NULL WHERE seq = {}", seqs[4])]).await;
    assert_eq!(world.bad_seq(None).await, Some(seqs[4]), "its seal was taken off");
}

#[tokio::test]
async fn rows_that_are_gone_swapped_or_put_in_are_found_and_so_is_a_new_chain() {
    let world = World::new().await;
    let head = world.audited().await;
    world.sql.execute("CREATE TABLE kept AS SELECT * FROM audit").await.unwrap();
    world.sql.execute("CREATE TABLE seals AS SELECT * FROM audit_seals").await.unwrap();
    let restore = async || {
        world
            .forge(&[
                "DELETE FROM audit",
                "INSERT INTO audit SELECT * FROM kept",
                "DELETE FROM audit_seals",
                "INSERT INTO audit_seals SELECT * FROM seals",
            ])
            .await;
        assert_eq!(world.bad_seq(Some(&head)).await, None);
    };
    let seqs: Vec<i64> = sqlx::query_scalar("SELECT seq FROM audit ORDER BY seq").fetch_all(&world.sql).await.unwrap();
    restore().await;

    world.forge(&[&format!("DELETE FROM audit WHERE seq = {}", seqs[1])]).await;
    assert_eq!(world.bad_seq(None).await, Some(seqs[2]), "what followed it follows nothing");
    restore().await;

    let [one, two] = [seqs[1], seqs[2]];
    world
        .forge(&[
            &format!("UPDATE audit SET seq = -1 WHERE seq = {one}"),
            &format!("UPDATE audit SET seq = {one} WHERE seq = {two}"),
            &format!("UPDATE audit SET seq = {two} WHERE seq = -1"),
        ])
        .await;
    assert_eq!(world.bad_seq(None).await, Some(one), "a pair was swapped");
    restore().await;

    // Swapped with their hashes made right: the chain still knows their order.
    world
        .forge(&[
            &format!("UPDATE audit SET seq = -1 WHERE seq = {one}"),
            &format!("UPDATE audit SET seq = {one} WHERE seq = {two}"),
            &format!("UPDATE audit SET seq = {two} WHERE seq = -1"),
            "UPDATE audit SET row_hash = audit_row_hash(audit)",
        ])
        .await;
    assert_eq!(world.bad_seq(None).await, Some(one));
    restore().await;

    world.forge(&[&format!("DELETE FROM audit WHERE seq = {}", seqs[4])]).await;
    assert_eq!(world.bad_seq(None).await, Some(head.seq), "the tail was cut off, and the sealer remembers it");
    let cut = format!(
        "UPDATE audit_seals SET head_seq = {}, head_hash = (SELECT chain_hash FROM audit WHERE seq = {})",
        seqs[3], seqs[3]
    );
    world.forge(&[&cut]).await;
    assert_eq!(world.bad_seq(None).await, None, "nobody in the database remembers it");
    assert_eq!(world.bad_seq(Some(&head)).await, Some(head.seq), "whoever was told the head does");
    restore().await;

    // Everything made anew: right in itself, and not what was told.
    world
        .forge(&[
            "UPDATE audit SET reason = 'forged', chain_hash = NULL",
            "UPDATE audit SET row_hash = audit_row_hash(audit)",
            "UPDATE audit_seals SET head_seq = 0, head_hash = decode(repeat('00', 32), 'hex')",
        ])
        .await;
    let forged = world.sealed().await;
    assert_eq!(forged.seq, head.seq);
    assert_eq!(world.bad_seq(Some(&head)).await, Some(head.seq));

    let (page, next) = world.store.verify_audit_page(None).await.unwrap();
    assert_eq!((page.sealed, page.bad, next), (5, None, None));
    let from = AuditHead { seq: seqs[3], ..head };
    assert_eq!(world.store.verify_audit_page(Some(&from)).await.unwrap().0.bad.unwrap().seq, seqs[4]);
}

#[tokio::test]
async fn it_is_only_appended_to_by_its_owner_and_by_an_application() {
    let world = World::new().await;
    world.audited().await;
    let insert =
        "INSERT INTO audit (at, actor_kind, actor_id, actor, role, action, subject, key, reason, agent, outcome)
                  VALUES (now(), 'open', '', 'ada', 'admin', 'pause', 'pause', 'x', '', '', 'done')";
    let changes = [
        "UPDATE audit SET reason = 'x'",
        "UPDATE audit SET chain_hash = '\\x00'",
        "DELETE FROM audit",
        "TRUNCATE audit",
    ];
    for role in ["", "SET LOCAL ROLE servant_app"] {
        for statement in changes {
            let mut tx = world.sql.begin().await.unwrap();
            tx.execute(role).await.unwrap();
            let error = tx.execute(statement).await.unwrap_err();
            let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {statement}: {error}");
        }
        let mut tx = world.sql.begin().await.unwrap();
        tx.execute(role).await.unwrap();
        tx.execute(insert).await.unwrap();
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM audit").fetch_one(&mut *tx).await.unwrap();
        assert_eq!(rows, 6);
    }
    // A row that was not sealed is sealed once, and changes in nothing else.
    world.sql.execute(insert).await.unwrap();
    let unsealed = "UPDATE audit SET chain_hash = '\\x00', reason = 'x' WHERE chain_hash IS NULL";
    assert!(world.sql.execute(unsealed).await.is_err());
}

#[tokio::test]
async fn a_row_is_sealed_only_once_nothing_can_come_before_it() {
    let world = World::new().await;
    let first = world.audited().await;
    let insert =
        "INSERT INTO audit (at, actor_kind, actor_id, actor, role, action, subject, key, reason, agent, outcome)
                  VALUES (now(), 'open', '', 'slow', 'admin', 'pause', 'pause', 'x', '', '', 'done') RETURNING seq";
    let mut slow = world.sql.begin().await.unwrap();
    let early: i64 = sqlx::query_scalar(insert).fetch_one(&mut *slow).await.unwrap();
    world.store.pause(&testkit::granted(), &PauseTarget::Everything).await.unwrap();
    for _ in 0..5 {
        world.store.seal_audit(&world.lead).await.unwrap();
        let verdict = world.verify(Some(&first)).await;
        assert_eq!((verdict.bad, verdict.awaiting, verdict.head), (None, 1, Some(first.clone())));
    }
    slow.commit().await.unwrap();
    let head = world.sealed().await;
    assert!(early < head.seq && world.verify(Some(&first)).await.sealed == 7);

    // The head is told once an hour.
    world.clock.advance(chrono::TimeDelta::hours(1));
    assert_eq!(world.store.seal_audit(&world.lead).await.unwrap().head, Some(head));
    assert_eq!(world.store.seal_audit(&world.lead).await.unwrap().head, None);
    let other = world.store.lead("boot-2", 10).await.unwrap().unwrap();
    assert!(matches!(world.store.seal_audit(&world.lead).await, Err(store::StoreError::NotLeading)), "{other:?} leads");
}
