//! Who may ask, by the real programs: the first admin, a token, a servant's credential, and what does not start.

use crate::fleet::LIMIT;
use manager_api::ManagerClient;
use reqwest::{StatusCode, redirect};
use std::{process::Stdio, time::Duration};
use testkit::{Process, TestDatabase, eventually};
use tokio::io::AsyncWriteExt as _;

const MANAGER: [&str; 2] = ["--config", "config/manager.toml"];

async fn manager(database: &TestDatabase, more: &[(&str, &str)]) -> Process {
    let own = [("DATABASE_URL", database.url()), ("SERVANT_MANAGER__LISTEN", "127.0.0.1:0")];
    Process::start("manager", &MANAGER, &[&own[..], more].concat()).await
}

/// What `servantctl` prints.
async fn servantctl(environment: &[(&str, &str)], words: &[&str]) -> (bool, String) {
    servantctl_told(environment, words, "").await
}

/// The same, which reads that from its standard input.
async fn servantctl_told(environment: &[(&str, &str)], words: &[&str], input: &str) -> (bool, String) {
    let mut command = tokio::process::Command::new(testkit::build_binaries().unwrap().join("servantctl"));
    command.args(words).envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text)
}

#[tokio::test]
async fn the_first_admin_lets_in_programs_and_servants() {
    let database = testkit::database().await;
    let manager = manager(&database, &[]).await;
    let url = format!("http://{}", manager.address(LIMIT).await);
    let there = [("DATABASE_URL", database.url()), ("SERVANT_MANAGER_URL", url.as_str())];
    let (is_done, text) = servantctl(&there, &["whoami"]).await;
    assert!(!is_done && text.contains("tokens create"), "{text}");

    let (is_done, text) = servantctl(&there, &["users", "bootstrap", "--json"]).await;
    assert!(is_done, "{text}");
    let printed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let address: reqwest::Url = printed["url"].as_str().unwrap().parse().unwrap();
    let code = address.query_pairs().next().unwrap().1.into_owned();
    let browser = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
    let form = [("code", code.as_str()), ("name", "Ada"), ("password", "correct horse battery")];
    let answer = browser.post(format!("{url}/login/code")).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let form = [("name", "ci"), ("role", "admin"), ("days", "1")];
    let made = browser.post(format!("{url}/admin/tokens")).header("cookie", &cookie).form(&form).send().await.unwrap();
    let page = made.text().await.unwrap();
    let token = page.split("svt_").nth(1).and_then(|rest| rest.split('<').next()).expect("a token on the page");
    let token = format!("svt_{}", token.trim());
    let (is_done, text) = servantctl(&there, &["users", "bootstrap"]).await;
    assert!(!is_done && text.contains("there is an admin already"), "{text}");

    let known = [&there[..], &[("SERVANT_TOKEN", token.as_str())]].concat();
    let (is_done, text) = servantctl(&known, &["whoami"]).await;
    assert!(is_done && text.contains("ci") && text.contains("admin"), "{text}");
    let (is_done, credential) = servantctl(&known, &["credentials", "create", "noop"]).await;
    assert!(is_done && credential.starts_with("svc_"), "{credential}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &credential).unwrap();
    let client = ManagerClient::with_token(&url, &token.clone().into()).unwrap();
    let environment = [
        ("DATABASE_URL", database.url()),
        ("SERVANT_QUEUE__BACKEND", "postgres"),
        ("SERVANT_MANAGER__URL", url.as_str()),
    ];
    let beats = async |servants: usize| {
        eventually(LIMIT, "a heartbeat that is known", async || {
            let known = client.servants().await.ok()?.servants;
            (known.iter().filter(|servant| servant.heartbeat_at.is_some()).count() == servants).then_some(())
        })
        .await;
    };
    let with_file = [&environment[..], &[("SERVANT_MANAGER_TOKEN_FILE", file.path().to_str().unwrap())]].concat();
    let mut servant = Process::start("noop", &["--config", "config/servant.toml"], &with_file).await;
    beats(1).await;

    // One without a credential works on, and is not heard.
    let mut silent = Process::start("noop", &["--config", "config/servant.toml"], &environment).await;
    silent.line_with(LIMIT, "work goes on").await;
    beats(1).await;
    assert!(servant.terminate(LIMIT).await.success() && silent.terminate(LIMIT).await.success());

    let (is_done, text) = servantctl(&known, &["audit", "list"]).await;
    assert!(is_done && text.contains("make a one-time code") && text.contains("code of a new admin"), "{text}");
    assert!(text.lines().any(|line| line.contains("  cli:") && line.contains("one-time code")), "{text}");
    for (input, outcome) in [
        ("correct horse battery\n", "two passwords are needed"),
        ("incorrect horse battery\nanother horse battery\n", "do not go together"),
        ("correct horse battery\nanother horse battery\n", "other sessions that ended: 1"),
    ] {
        let (is_done, text) = servantctl_told(&there, &["users", "password", "ada"], input).await;
        assert!(text.contains(outcome) && is_done == outcome.contains("ended"), "{outcome}: {text}");
    }
}

#[tokio::test]
async fn a_manager_that_asks_nobody_is_for_this_machine_alone() {
    let database = testkit::database().await;
    for (more, key) in [
        ([("SERVANT_ACCESS__SIGN_ON", "open"), ("SERVANT_MANAGER__LISTEN", "0.0.0.0:0")], "access.sign_on"),
        ([("SERVANT_ACCESS__SIGN_ON", "required"), ("SERVANT_MANAGER__LISTEN", "0.0.0.0:0")], "connect.public_url"),
        ([("SERVANT_ACCESS__IDLE_MINUTES", "0"), ("SERVANT_MANAGER__LISTEN", "127.0.0.1:0")], "access.idle_minutes"),
    ] {
        let mut manager = manager(&database, &more).await;
        assert_eq!(manager.exit(Duration::from_secs(30)).await.code(), Some(64), "{key}: {}", manager.output());
        assert!(manager.output().contains(key), "{key}: {}", manager.output());
    }
}
