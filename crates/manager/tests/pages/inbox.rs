//! The anomalies' inbox, groups, and what every page shares.

use crate::world::{KIND, World};
use chrono::TimeDelta;
use domain::{AccountId, AnomalyKind, ConnectionId, Severity};
use serde_json::json;
use store::{NewGroup, NewJob, Sighting};

async fn sight(world: &World, connection: ConnectionId, subject: &str, severity: Severity) {
    let mut tx = world.store.begin().await.unwrap();
    let evidence = json!({"rows": [1, 2]});
    let seen = Sighting {
        connection,
        object: "Contact",
        kind: AnomalyKind::FieldLost,
        subject,
        severity,
        summary: "a field <is> gone",
        evidence: &evidence,
    };
    world.store.note_anomaly(&mut tx, &seen).await.unwrap();
    tx.commit().await.unwrap();
}

async fn connection(world: &World) -> ConnectionId {
    let account = world.store.create_account("Acme").await.unwrap();
    world.store.create_connection(account, "salesforce", &json!({}), None).await.unwrap()
}

#[tokio::test]
async fn an_anomaly_is_found_understood_and_done_with() {
    let world = World::new().await;
    world.holds("/anomalies", &["None."]).await;
    let connection = connection(&world).await;
    sight(&world, connection, "Phone", Severity::Warning).await;
    sight(&world, connection, "Fax", Severity::Info).await;
    world.holds("/anomalies", &["a field &#60;is&#62; gone", "Contact.Phone", "Contact.Fax"]).await;
    world.lacks("/anomalies?severity=warning", &["Contact.Fax"]).await;
    world.holds("/", &["Needs attention", "a field &#60;is&#62; gone"]).await;
    let open = world.store.open_anomalies_of(AccountId(1), 5).await.unwrap();
    let phone = open.iter().find(|row| row.subject == "Phone").unwrap().id;
    let page = format!("/anomalies/{phone}");
    world.holds(&page, &["&#34;rows&#34;", "Acknowledge", "Resolve", "Mute"]).await;
    world.holds(&page, &["nobody yet"]).await;
    world.submit(&page, &format!("{page}/assign"), &[("to", "<bob>"), ("by", "ada"), ("reason", "it is his")]).await;
    world.holds(&page, &["&#60;bob&#62;"]).await;
    world.holds("/anomalies", &["&#60;bob&#62;"]).await;
    world.holds("/audit", &["assign_anomaly", "&#60;bob&#62;", "anomaly"]).await;
    world.submit(&page, &format!("{page}/assign"), &[("to", ""), ("by", "ada"), ("reason", "")]).await;
    world.holds(&page, &["nobody yet"]).await;
    let nobody = [("to", ""), ("by", "ada"), ("reason", "")];
    assert!(world.refused("/anomalies/99/assign", &nobody, 404).await.contains("there is no anomaly 99"));
    let why = [("by", "ada"), ("reason", "known <since> May")];
    let from = "/anomalies?severity=warning";
    assert_eq!(world.submit(from, &format!("{page}/mute"), &why).await, from, "back with the filter");
    world.holds(&page, &["muted", "known &#60;since&#62; May", "by ada"]).await;
    world.lacks("/anomalies", &["Contact.Phone"]).await;
    world.holds("/anomalies?state=muted", &["Contact.Phone", r#"aria-current="true">muted"#]).await;
    world.holds("/anomalies?state=all", &["Contact.Phone", "Contact.Fax"]).await;
    let text = world.refused(&format!("{page}/resolve"), &[("by", "ada"), ("reason", " ")], 400).await;
    assert!(text.contains("reason is empty"), "{text}");
    assert!(world.refused(&format!("{page}/burn"), &why, 404).await.contains("nothing that is done"));
}

#[tokio::test]
async fn a_group_shows_its_members_and_is_sealed_and_cancelled() {
    let world = World::new().await;
    let group = NewGroup {
        name: "back-fill of <May>".to_owned(),
        account: AccountId::SYSTEM,
        finishing: None,
        request_id: NewJob::new(domain::Kind::new("noop").unwrap(), json!({})).request_id,
    };
    let member = NewJob::new(domain::Kind::new("nobodys").unwrap(), json!({}));
    let (id, _) = world.store.create_group(&testkit::granted(), &group, &[member], false).await.unwrap();
    world.clock.advance(TimeDelta::seconds(5));
    world.holds("/groups", &["back-fill of &#60;May&#62;", "0 / 1 jobs"]).await;
    world.lacks("/groups?state=sealed", &["back-fill"]).await;
    let page = format!("/groups/{id}");
    world.holds(&page, &["Seal: these are all", &format!(r#"href="/jobs?group={id}&amp;state=ready""#)]).await;
    world.submit(&page, &format!("{page}/seal"), &[]).await;
    world.holds("/groups?state=sealed", &["back-fill"]).await;
    world.submit(&page, &format!("{page}/cancel"), &[("by", "ada"), ("reason", "wrong year")]).await;
    world.holds(&page, &["by ada: wrong year", "cancelling"]).await;
}

#[tokio::test]
async fn a_group_says_how_long_it_will_still_take() {
    let world = World::new().await;
    let group = NewGroup {
        name: "a first load".to_owned(),
        account: AccountId::SYSTEM,
        finishing: None,
        request_id: uuid::Uuid::new_v4(),
    };
    let kind = domain::Kind::new(KIND).unwrap();
    let member = NewJob::new(kind.clone(), json!({}));
    let (id, _) = world.store.create_group(&testkit::granted(), &group, &[member], true).await.unwrap();
    let page = format!("/groups/{id}");
    world.lacks(&page, &["left"]).await;
    let until = world.clock.now() + TimeDelta::seconds(600);
    let claimed = testkit::claim_ready(&world.store, world.servant, &kind, 1, until).await.unwrap();
    let progress = |done: u32| json!({"done": done, "total": 90_000, "message": "Account"});
    world.store.save_progress(&[(claimed[0].key, progress(0))]).await.unwrap();
    world.holds(&page, &["0 / 90,000", "time left unknown"]).await;
    world.clock.advance(TimeDelta::seconds(60));
    world.store.save_progress(&[(claimed[0].key, progress(30_000))]).await.unwrap();
    world.holds(&page, &["30,000 / 90,000", "about 2 min left"]).await;
}

#[tokio::test]
async fn every_page_has_the_navigation_and_the_keys() {
    let world = World::new().await;
    for (path, name) in [
        ("/", "Overview"),
        ("/jobs", "Jobs"),
        ("/errors", "Errors"),
        ("/accounts", "Accounts"),
        ("/servants", "Servants"),
        ("/queues", "Queues"),
        ("/schedules", "Schedules"),
        ("/limits", "Limits"),
        ("/anomalies", "Anomalies"),
        ("/groups", "Groups"),
        ("/audit", "Audit"),
        ("/admin", "Admin"),
    ] {
        let text = world.page(path, 200).await;
        assert!(text.contains(&format!(r#"aria-current="page">{name}</a>"#)), "{path}:\n{text}");
        assert_eq!(text.matches(r#"aria-current="page""#).count(), 1, "{path}");
        assert_eq!(text.matches("data-key=").count(), 12, "{path}");
        for forbidden in ["<style", " style=", "onclick", "<script>"] {
            assert!(!text.contains(forbidden), "{path} has {forbidden}, which the policy refuses");
        }
    }
    world.holds("/keys", &["next and previous row", "<code>state:</code>", r#"<kbd>g</kbd> <kbd>a</kbd>"#]).await;
}

#[tokio::test]
async fn a_form_of_another_site_is_refused() {
    let world = World::new().await;
    let id = world.insert("nobodys").await;
    let request = reqwest::Client::new().post(format!("{}/jobs/{}/cancel", world.url, id.0));
    let answer = request.header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert!(!world.store.find_job(id).await.unwrap().unwrap().state.is_finished());
}
