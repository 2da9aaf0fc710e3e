//! What a bare text leads to, and how many jobs a search finds in each state where no counter says.

use crate::world::{KIND, World};
use domain::Kind;
use serde_json::json;
use store::{Inserted, NewJob, Unique};

#[tokio::test]
async fn a_bare_text_is_looked_for_as_whatever_it_may_be() {
    let world = World::new().await;
    let mut accounts = Vec::new();
    for name in ["Acme Ltd", "acme_two", "acmeXtwo", "100% Pure", "The Acme"] {
        accounts.push(world.store.create_account(name).await.unwrap().0);
    }
    let unique = Some(Unique { key: "nightly of 7".to_owned(), for_secs: None });
    let keyed = NewJob { unique, ..NewJob::new(Kind::new(KIND).unwrap(), json!({})) };
    let [Inserted::New(job)] = world.store.insert_jobs(&[keyed]).await.unwrap()[..] else { panic!("no job") };
    world.fold().await;

    // One that has ended is found by its key still, beside the next that has it.
    let until = world.clock.now() + chrono::TimeDelta::seconds(60);
    let of_key = |key: &str| {
        let unique = Some(Unique { key: key.to_owned(), for_secs: None });
        NewJob { unique, ..NewJob::new(Kind::new(KIND).unwrap(), json!({})) }
    };
    let [Inserted::New(ended)] = world.store.insert_jobs(&[of_key("weekly")]).await.unwrap()[..] else { panic!() };
    let claimed = testkit::claim_ready(&world.store, world.servant, &Kind::new(KIND).unwrap(), 9, until).await.unwrap();
    let key = claimed.iter().find(|job| job.key.id == ended).unwrap().key;
    assert_eq!(world.store.succeed(&[key]).await.unwrap().len(), 1);
    world.fold().await;
    world.holds("/find?text=weekly", &[r#"<span class="state succeeded">"#, &format!("/jobs/{ended}/again")]).await;
    let [Inserted::New(next)] = world.store.insert_jobs(&[of_key("weekly")]).await.unwrap()[..] else { panic!() };
    let both = [ended, next].map(|id| format!(r#"<a href="/jobs/{id}">"#));
    world.holds("/find?text=weekly", &[&both[0], &both[1]]).await;

    // One thing is gone to at once: a job by its key, a kind by a part of its name, an account.
    world.holds("/jobs?q=nightly%20of%207", &[&format!("/jobs/{job}/cancel")]).await;
    world
        .holds("/jobs?q=force_syn", &[&format!(r#"value="kind:{KIND}""#), &format!(r#"<a href="/jobs/{job}">"#)])
        .await;
    let account = |at: usize| format!(r#"<a href="/accounts/{}">"#, accounts[at]);
    world.holds("/jobs?q=ACME%20l", &[&format!("/accounts/{}/weight", accounts[0])]).await;
    // What stands for any letters elsewhere is a letter here.
    world.holds("/find?text=acme_", &[&format!("/accounts/{}/weight", accounts[1])]).await;
    world.holds("/find?text=100%25", &[&format!("/accounts/{}/weight", accounts[3])]).await;
    // Several are listed.
    let page = "/jobs?q=acme";
    let all = ["Acme Ltd", "acme_two", "acmeXtwo", "The Acme", &account(0), &account(1), &account(2), &account(4)];
    world.holds(page, &all).await;
    world.lacks(page, &["100% Pure"]).await;
    world.holds("/accounts?id=100%25%20pure", &[&format!("/accounts/{}/weight", accounts[3])]).await;
    world.holds(&format!("/accounts?id=%20{}", accounts[0]), &[&format!("/accounts/{}/weight", accounts[0])]).await;
    // A name is found by any of its words, from there on, and by nothing in the middle of one.
    world.holds("/find?text=pur", &[&format!("/accounts/{}/weight", accounts[3])]).await;
    world.holds("/find?text=TWO", &[&format!("/accounts/{}/weight", accounts[1])]).await;
    world.holds("/find?text=cme", &["<h1>Errors</h1>", "None."]).await;
    // A customer that is called otherwise is found by the new name alone, whoever wrote it.
    let sql = sqlx::PgPool::connect(world.database.url()).await.unwrap();
    sqlx::query("UPDATE accounts SET name = 'Big Fish' WHERE name = '100% Pure'").execute(&sql).await.unwrap();
    world.holds("/find?text=fish", &[&format!("/accounts/{}/weight", accounts[3])]).await;
    world.holds("/find?text=pure", &["<h1>Errors</h1>", "None."]).await;
    // A number that is looked for everywhere is an account, too; in the search of jobs it is a job.
    let text = format!("/find?text={}", accounts[4]);
    world.holds(&text, &["The Acme"]).await;
    // Beside other words a bare one is a kind; where there is none of that name, the page says so.
    let elsewhere = "No kind is called sandbox: <a href=\"/find?text=sandbox\">";
    world.holds("/jobs?q=state%3Afailed%20sandbox", &["No job matches.", elsewhere]).await;
    world.lacks(&format!("/jobs?q=state%3Afailed%20{KIND}"), &["No kind is called"]).await;
    // What is nothing of this may be an older error.
    world.holds("/jobs?q=nothing%20like%20it", &["<h1>Errors</h1>", "None."]).await;
    world.page("/find?text=%20", 400).await;
}

#[tokio::test]
async fn tabs_say_how_many_there_are_or_that_there_are_more() {
    let world = World::new().await;
    let few = world.store.create_account("few").await.unwrap();
    let many = world.store.create_account("many").await.unwrap();
    let job = |account| NewJob { account, ..NewJob::new(Kind::new(KIND).unwrap(), json!({})) };
    world.store.insert_jobs(&vec![job(few); 2]).await.unwrap();
    world.store.insert_jobs(&vec![job(many); 130]).await.unwrap();
    world.fold().await;
    for search in ["account%3A", "state%3Afailed%20account%3A"] {
        let page = format!("/jobs?q={search}{few}");
        world.holds(&page, &["all <b>2</b>", "ready <b>2</b>", "failed <b>0</b>"]).await;
        let page = format!("/jobs?q={search}{many}");
        world.holds(&page, &["all <b>50+</b>", "ready <b>50+</b>", ">failed</a>"]).await;
    }
    // A counter knows all of them; of what no index has together nothing is said but what is seen whole.
    world.holds("/jobs", &["all <b>132</b>", "ready <b>132</b>"]).await;
    let page = format!("/jobs?q=kind%3A{KIND}%20account%3A{many}");
    world.holds(&page, &[">all</a>", ">ready</a>"]).await;
    let page = format!("/jobs?q=kind%3A{KIND}%20account%3A{few}");
    world.holds(&page, &["all <b>2</b>"]).await;
}
