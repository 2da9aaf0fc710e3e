//! Tests of the configuration reader. They own their environment: a list of pairs.

use std::collections::HashMap;

use secrecy::ExposeSecret;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    title: String,
    tick: Tick,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tick {
    batch_size_max: u32,
    name: Option<String>,
}

const GOOD: &str = "title = \"a\"\n[process]\ndrain_secs = 7\n[tick]\nbatch_size_max = 5\nname = \"x\"\n";

fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<(ProcessConfig, Own), ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("own.toml");
    std::fs::write(&file, text).unwrap();
    load(Some(&file), variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

#[test]
fn a_complete_file_is_read() {
    let (process, own) = load_text(GOOD, &[]).unwrap();
    assert_eq!(process.drain_secs, 7);
    assert_eq!(process.worker_threads, 2);
    assert_eq!((own.title.as_str(), own.tick.batch_size_max), ("a", 5));
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    for text in [
        GOOD.replace("drain_secs", "drain_sec"),
        GOOD.replace("title", "drain_sec = 1\ntitle"),
        GOOD.replace("name =", "drain_sec ="),
    ] {
        let message = load_text(&text, &[]).unwrap_err().to_string();
        assert!(message.contains("own.toml") && message.contains("drain_sec"), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn syntax_and_type_errors_name_the_place() {
    let message = load_text("title = ", &[]).unwrap_err().to_string();
    assert!(message.contains("line 1"), "{message}");
    let message = load_text(&GOOD.replace("= 5", "= \"five\""), &[]).unwrap_err().to_string();
    assert!(message.contains("batch_size_max"), "{message}");
    let message = load_text(&GOOD.replace("= 7", "= 7\nworker_threads = 0"), &[]).unwrap_err();
    assert!(message.to_string().contains("process.worker_threads"), "{message}");
}

#[test]
fn a_missing_file_and_no_file_say_the_way_out() {
    let none = std::iter::empty;
    let message = load::<Own>(Some(Path::new("/nonexistent/x.toml")), none()).unwrap_err();
    assert!(message.to_string().contains("/nonexistent/x.toml"), "{message}");
    let message = load::<Own>(None, none()).unwrap_err();
    assert!(message.to_string().contains("--config FILE"), "{message}");
}

#[test]
fn the_environment_overrides_the_file() {
    let (process, own) = load_text(
        GOOD,
        &[
            ("SERVANT_TICK__BATCH_SIZE_MAX", "9"),
            ("SERVANT_TICK__NAME", "123"),
            ("SERVANT_TITLE", "b"),
            ("SERVANT_PROCESS__LOG_FORMAT", "human"),
            ("SERVANT_PROCESS__HEALTH_LISTEN", "127.0.0.1:0"),
            ("SERVANT_DATABASE_URL", "postgres://ignored"),
            ("TICK__NAME", "ignored"),
        ],
    )
    .unwrap();
    assert_eq!(own.tick.batch_size_max, 9);
    assert_eq!(own.tick.name.as_deref(), Some("123"));
    assert_eq!(own.title, "b");
    assert_eq!(process.log_format, LogFormat::Human);
    assert!(process.health_listen.is_some());
}

#[test]
fn a_wrong_override_is_refused_by_name() {
    for (name, value) in [("SERVANT_TICK__NO_KEY", "1"), ("SERVANT_TICK__", "1"), ("SERVANT_TITLE__X", "1")] {
        let message = load_text(GOOD, &[(name, value)]).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn a_secret_comes_from_the_variable_or_from_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "from file\n").unwrap();
    let mut variables = HashMap::from([("KEY_FILE".to_owned(), file.display().to_string())]);
    let read = |variables: &HashMap<String, String>| secret_from("KEY", |name| variables.get(name).cloned());
    assert_eq!(read(&variables).unwrap().expose_secret(), "from file");
    variables.insert("KEY".to_owned(), "direct".to_owned());
    let secret = read(&variables).unwrap();
    assert_eq!(secret.expose_secret(), "direct");
    assert!(!format!("{secret:?}").contains("direct"));
    let message = read(&HashMap::new()).unwrap_err().to_string();
    assert!(message.contains("KEY_FILE"), "{message}");
}

#[test]
fn our_own_database_variable_comes_first() {
    let both = HashMap::from([("DATABASE_URL", "b"), ("SERVANT_DATABASE_URL", "a")]);
    let url = database_url_from(|name| both.get(name).map(|value| (*value).to_owned())).unwrap();
    assert_eq!(url.expose_secret(), "a");
    let error = database_url_from(|_| None).unwrap_err().to_string();
    assert!(error.contains("set DATABASE_URL"), "{error}");
}
