//! Every operation of the API has a page that shows or does the same. That it has a verb of servantctl, too, is tested
//! there.

use crate::world::World;
use std::collections::BTreeSet;

/// Operation, page and verb of each line.
fn table() -> Vec<[&'static str; 3]> {
    let lines = include_str!("../../../manager-api/parity.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" | ").collect::<Vec<_>>().try_into().expect("three columns")).collect()
}

/// The ledger's clock, which is no data.
const CLOCK: &str = "now";

#[test]
fn pages_read_and_act_through_the_functions_of_the_api() {
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/pages")).unwrap() {
        let file = file.unwrap();
        let (name, text) = (file.file_name().into_string().unwrap(), std::fs::read_to_string(file.path()).unwrap());
        for rest in text.split(".store").skip(1) {
            let call = rest.trim_start().strip_prefix('.').unwrap_or_else(|| panic!("{name} hands the ledger on"));
            let function: String = call.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if function != CLOCK {
                found.insert((name.clone(), function));
            }
        }
    }
    assert_eq!(found, BTreeSet::new(), "pages read or write the ledger by themselves");
}

#[tokio::test]
async fn every_operation_has_a_page() {
    let world = World::new().await;
    let http = reqwest::Client::new();
    let text = http.get(format!("{}/api/openapi.json", world.url)).send().await.unwrap().text().await.unwrap();
    let description: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut described = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    assert!(described.remove("POST /api/v1/heartbeats"), "servants send heartbeats");
    let listed: BTreeSet<String> = table().iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(listed, described, "parity.txt (left) and the API (right)");

    for [operation, page, _] in table() {
        let (method, path) = page.split_once(' ').unwrap();
        let path: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "7" } else { part }).collect();
        let url = format!("{}{}", world.url, path.join("/"));
        // A form without its fields, of things that are not there: refused, but by what stands at that address.
        let request = if method == "GET" { http.get(url) } else { http.post(url).form(&[("x", "y")]) };
        let answer = request.header("accept", "text/html").send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_ne!(status, 405, "{operation}: nothing takes {page}");
        assert!(!text.contains("there is nothing at this address"), "{operation}: there is no page {page}");
    }
}
