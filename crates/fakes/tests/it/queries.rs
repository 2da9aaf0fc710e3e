//! Owns the proof that queries find what the vendor's documents say they find.

use fakes::salesforce::Mutation;
use serde_json::{Value, json};

use crate::common::World;

/// Six accounts by name, one of them without an industry.
async fn world() -> World {
    let world = World::generated(0, |options| options.bulk_delay_ms = 0).await;
    let account = |name: &str, industry: Value, employees: u32, revenue: &str| {
        let fields =
            json!({ "Name": name, "Industry": industry, "NumberOfEmployees": employees, "AnnualRevenue": revenue });
        fields.as_object().unwrap().clone()
    };
    let upsert = vec![
        account("Alpha", json!("Bank"), 5, "10.50"),
        account("alpine 100%", json!("Shop"), 50, "12345678901234.25"),
        account("Beta", Value::Null, 500, "0"),
        account("Gamma_1", json!("bank"), 7, "-3"),
        account("Delta's", json!("Farm"), 8, "99.99"),
        account("Epsilon", json!("Farm"), 9, "1"),
    ];
    world.fake.mutate(&Mutation { object: "Account".to_owned(), upsert, ..Mutation::default() }).unwrap();
    world
}

async fn names(world: &World, rest: &str) -> Vec<String> {
    let found = world.query(&format!("SELECT Name FROM Account {rest}")).await;
    found["records"].as_array().unwrap().iter().map(|record| record["Name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn conditions_hold_as_documented() {
    let world = world().await;
    for (condition, expected) in [
        ("Name LIKE 'al%'", "Alpha,alpine 100%"),
        ("Name LIKE '%100\\%'", "alpine 100%"),
        ("Name LIKE 'Gamma\\_%' OR Name LIKE '_eta'", "Beta,Gamma_1"),
        ("Name = 'Delta\\'s'", "Delta's"),
        ("NOT (Industry IN ('Bank', 'Farm'))", "Beta,alpine 100%"),
        ("Industry NOT IN ('bank', null)", "Delta's,Epsilon,alpine 100%"),
        ("Industry = null", "Beta"),
        ("Industry = 'BANK' AND NumberOfEmployees > 5", "Gamma_1"),
        ("AnnualRevenue >= 12345678901234.25 OR AnnualRevenue < 0", "Gamma_1,alpine 100%"),
        ("CreatedDate = TODAY AND SystemModstamp >= LAST_N_DAYS:1 AND Name < 'B'", "Alpha,alpine 100%"),
        ("CreatedDate < TODAY", ""),
        ("CreatedDate > LAST_N_DAYS:3", ""),
    ] {
        let mut found = names(&world, &format!("WHERE {condition}")).await;
        found.sort();
        assert_eq!(found.join(","), expected, "{condition}");
    }
}

#[tokio::test]
async fn order_limit_and_offset_are_kept() {
    let world = world().await;
    for (rest, expected) in [
        ("ORDER BY NumberOfEmployees DESC LIMIT 2", "Beta,alpine 100%"),
        ("ORDER BY Industry, Name LIMIT 3", "Beta,Alpha,Gamma_1"),
        ("ORDER BY Industry ASC NULLS LAST, Name DESC LIMIT 2 OFFSET 4", "alpine 100%,Beta"),
        ("ORDER BY Name OFFSET 5", "Gamma_1"),
    ] {
        assert_eq!(names(&world, rest).await.join(","), expected, "{rest}");
    }
    assert_eq!(world.query("SELECT COUNT() FROM Account WHERE Name != 'Beta'").await["totalSize"], 5);
}

#[tokio::test]
async fn decimals_keep_their_digits() {
    let world = world().await;
    let found =
        world.get("/services/data/v66.0/query?q=SELECT+AnnualRevenue+FROM+Account+WHERE+NumberOfEmployees=50").await;
    assert!(found.body.contains("\"AnnualRevenue\":1.234567890123425E13"), "{}", found.body);
    let job = world.bulk("SELECT AnnualRevenue FROM Account WHERE NumberOfEmployees = 50").await.json();
    let path = format!("/services/data/v66.0/jobs/query/{}/results", job["id"].as_str().unwrap());
    assert_eq!(world.get(&path).await.body, "\"AnnualRevenue\"\n\"12345678901234.25\"\n");
}

#[tokio::test]
async fn what_finds_too_much_runs_for_too_long_by_rest_and_in_bulk() {
    let world = World::generated(100, |options| {
        options.bulk_delay_ms = 0;
        options.timely_records_max = Some(10);
    })
    .await;
    let contacts = "SELECT Id FROM Contact";
    assert_eq!(world.query("SELECT COUNT() FROM Contact").await["totalSize"], 25, "counting is quick");
    assert_eq!(world.query(&format!("{contacts} ORDER BY Id LIMIT 10")).await["totalSize"], 10);
    let refused = world.get("/services/data/v66.0/query?q=SELECT+Id+FROM+Contact").await;
    assert_eq!((refused.status.as_u16(), &refused.json()[0]["errorCode"]), (400, &json!("QUERY_TIMEOUT")));
    let job = world.bulk(contacts).await.json();
    let told = world.get(&format!("/services/data/v66.0/jobs/query/{}", job["id"].as_str().unwrap())).await.json();
    assert_eq!(told["state"], "Failed");
    assert!(told["errorMessage"].as_str().unwrap().contains("QUERY_TIMEOUT"), "{told}");
}
