//! Laws of trying again: waits lie within their bounds, each class has its own policy and, where the kind says so, its own
//! numbers, and no charged class outlives its attempts.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

use chrono::{DateTime, TimeDelta};
use domain::{Backoff, Catalogue, CatalogueTables, ClassRetry, ErrorClass, Failure, Kind, RetryPolicy, Verdict};
use proptest::prelude::*;
use serde_json::{Value, json};

fn failure(class: ErrorClass) -> Failure {
    Failure { class, chain: String::new(), until: None }
}

proptest! {
    #[test]
    fn a_delay_is_positive_and_below_the_cap(
        first in 1_u64..100_000, cap in 1_u64..10_000_000, attempt in 1_u16.., jitter in 0.0..1.0_f64,
    ) {
        let backoff = Backoff { first_delay_ms: first, delay_max_ms: cap };
        let delay = backoff.delay(attempt, jitter).num_milliseconds();
        prop_assert!(delay >= 1);
        prop_assert!(delay <= i64::try_from(cap).unwrap());
    }

    #[test]
    fn the_ceiling_never_falls_with_the_attempts(first in 1_u64..100_000, cap in 1_u64..10_000_000, attempt in 1_u16..2_000) {
        let backoff = Backoff { first_delay_ms: first, delay_max_ms: cap };
        prop_assert!(backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1));
    }

    #[test]
    fn full_jitter_spans_the_whole_range(attempt in 1_u16..20) {
        let backoff = RetryPolicy::default().backoff(ErrorClass::Transient);
        prop_assert_eq!(backoff.delay(attempt, 0.0), TimeDelta::milliseconds(1));
        prop_assert!(backoff.delay(attempt, 0.999_999) >= backoff.ceiling(attempt) * 9 / 10);
    }

    #[test]
    fn no_class_outlives_its_attempts_but_a_rate_limit(attempt in 1_u16..50, jitter in 0.0..1.0_f64) {
        let policy = RetryPolicy::default();
        let now = DateTime::UNIX_EPOCH;
        for class in ErrorClass::ALL {
            let verdict = policy.verdict(&failure(class), attempt, attempt, false, now, jitter);
            match class {
                ErrorClass::RateLimited => {
                    let is_free = matches!(verdict, Verdict::RetryAt { charged: false, .. });
                    prop_assert!(is_free);
                }
                _ => prop_assert_eq!(verdict, Verdict::Fail),
            }
        }
    }
}

#[test]
fn a_vendors_word_on_when_to_come_back_is_kept() {
    let now = DateTime::UNIX_EPOCH;
    let until = now + TimeDelta::hours(3);
    let limited = Failure { class: ErrorClass::RateLimited, chain: String::new(), until: Some(until) };
    let Verdict::RetryAt { due, .. } = RetryPolicy::default().verdict(&limited, 1, 3, false, now, 0.5) else {
        panic!("a rate limit must delay");
    };
    assert!(due >= until);
}

#[test]
fn each_class_has_its_own_policy() {
    let policy = RetryPolicy::default();
    let now = DateTime::UNIX_EPOCH;
    let verdict =
        |class, attempt, has_connection| policy.verdict(&failure(class), attempt, 10, has_connection, now, 0.5);
    let retried =
        |attempt, charged| Verdict::RetryAt { due: now + policy.backoff(ErrorClass::Bug).delay(attempt, 0.5), charged };
    for attempt in [1, 5, 9] {
        for class in [ErrorClass::Transient, ErrorClass::LedgerAway, ErrorClass::LeaseLost, ErrorClass::Bug] {
            assert_eq!(verdict(class, attempt, true), retried(attempt, true), "{class}");
        }
        for class in [ErrorClass::Permanent, ErrorClass::DeadlineExceeded] {
            assert_eq!(verdict(class, attempt, true), Verdict::Fail, "{class}");
        }
        assert_eq!(verdict(ErrorClass::RateLimited, attempt, true), retried(1, false));
    }
}

#[test]
fn broken_authorisation_uses_no_job_up_and_fails_one_without_a_connection() {
    let policy = RetryPolicy::default();
    for attempt in [1, 10, 11] {
        let verdict = |has_connection| {
            policy.verdict(&failure(ErrorClass::AuthBroken), attempt, 10, has_connection, DateTime::UNIX_EPOCH, 0.5)
        };
        assert_eq!((verdict(true), verdict(false)), (Verdict::Park, Verdict::Fail));
    }
}

fn class_retry() -> impl Strategy<Value = ClassRetry> {
    let ms = || proptest::option::of(1_u64..1_000_000);
    (proptest::option::of(1_u16..20), ms(), ms()).prop_map(|(attempts_max, first_delay_ms, delay_max_ms)| ClassRetry {
        attempts_max,
        first_delay_ms,
        delay_max_ms,
    })
}

/// One that a catalogue would take.
fn policy() -> impl Strategy<Value = RetryPolicy> {
    let classes = (class_retry(), class_retry(), class_retry(), class_retry(), class_retry());
    ((1_u16..20, 1_u64..100_000, 1_u64..1_000_000), classes)
        .prop_map(
            |((attempts_max, first_delay_ms, delay_max_ms), (transient, ledger_away, rate_limited, bug, lost))| {
                let rate_limited = ClassRetry { attempts_max: None, ..rate_limited };
                let lease_lost = ClassRetry { attempts_max: lost.attempts_max, ..ClassRetry::default() };
                RetryPolicy {
                    attempts_max,
                    first_delay_ms,
                    delay_max_ms,
                    transient,
                    ledger_away,
                    rate_limited,
                    bug,
                    lease_lost,
                }
            },
        )
        .prop_filter("bounds the wrong way round", |policy| policy.check().is_ok())
}

/// What a kind says of one class.
fn said(policy: &RetryPolicy, class: ErrorClass) -> ClassRetry {
    let as_written: Value = serde_json::to_value(policy).unwrap();
    as_written.get(class.as_str()).map_or_else(ClassRetry::default, |own| serde_json::from_value(own.clone()).unwrap())
}

proptest! {
    #[test]
    fn a_class_is_tried_by_its_own_numbers_and_where_it_has_none_by_the_kinds(
        policy in policy(), attempt in 1_u16..25, of_job in 1_u16..25, jitter in 0.0..1.0_f64, has_connection: bool,
    ) {
        let now = DateTime::UNIX_EPOCH;
        for class in ErrorClass::ALL {
            let own = said(&policy, class);
            let most_ms = own.delay_max_ms.unwrap_or(policy.delay_max_ms);
            let first_ms = own.first_delay_ms.unwrap_or(policy.first_delay_ms);
            match policy.verdict(&failure(class), attempt, of_job, has_connection, now, jitter) {
                Verdict::RetryAt { due, charged } => {
                    let waits_ms = u64::try_from((due - now).num_milliseconds()).unwrap();
                    prop_assert!((1..=most_ms).contains(&waits_ms), "{class} waits {waits_ms} ms");
                    prop_assert_eq!(charged, class != ErrorClass::RateLimited);
                    if attempt == 1 || !charged {
                        prop_assert!(waits_ms <= first_ms, "{class} waits {waits_ms} ms first");
                    }
                    if charged {
                        prop_assert!(attempt < of_job && own.attempts_max.is_none_or(|most| attempt < most), "{class}");
                    }
                }
                Verdict::Park => prop_assert!(class == ErrorClass::AuthBroken && has_connection),
                Verdict::Fail => {
                    let is_final = matches!(
                        class,
                        ErrorClass::Permanent | ErrorClass::DeadlineExceeded | ErrorClass::AuthBroken
                    );
                    let is_over = attempt >= of_job || own.attempts_max.is_some_and(|most| attempt >= most);
                    prop_assert!(class != ErrorClass::RateLimited && (is_final || is_over), "{class}");
                }
            }
        }
    }

    #[test]
    fn what_one_class_says_changes_no_other(policy in policy(), bug in class_retry(), attempt in 1_u16..25) {
        let other = RetryPolicy { bug, ..policy };
        for class in ErrorClass::ALL.into_iter().filter(|class| *class != ErrorClass::Bug) {
            let verdict = |policy: &RetryPolicy| {
                policy.verdict(&failure(class), attempt, 10, true, DateTime::UNIX_EPOCH, 0.7)
            };
            prop_assert_eq!(verdict(&policy), verdict(&other));
        }
    }
}

fn read(retry: Value) -> Result<RetryPolicy, String> {
    let tables = json!({"noop": {"label": "A kind", "run_secs_max": 60, "concurrency": 1, "retry": retry}});
    let tables = serde_json::from_value::<CatalogueTables>(tables).map_err(|error| error.to_string())?;
    let catalogue = Catalogue::new(tables).map_err(|error| error.to_string())?;
    Ok(catalogue.get(&Kind::new("noop").unwrap()).unwrap().retry)
}

fn base(more: &Value) -> Value {
    let mut retry = json!({"attempts_max": 10, "first_delay_ms": 1_000, "delay_max_ms": 60_000});
    retry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    retry
}

#[test]
fn classes_are_read_from_the_catalogue() {
    let policy = read(base(&json!({
        "transient": {"first_delay_ms": 50}, "bug": {"attempts_max": 2}, "lease_lost": {"attempts_max": 3},
        "rate_limited": {"first_delay_ms": 30_000, "delay_max_ms": 30_000},
    })))
    .unwrap();
    assert_eq!(policy.backoff(ErrorClass::Transient), Backoff { first_delay_ms: 50, delay_max_ms: 60_000 });
    assert_eq!(policy.backoff(ErrorClass::RateLimited), Backoff { first_delay_ms: 30_000, delay_max_ms: 30_000 });
    assert_eq!(policy.backoff(ErrorClass::LedgerAway), Backoff { first_delay_ms: 1_000, delay_max_ms: 60_000 });
    let verdict = |class, attempt| policy.verdict(&failure(class), attempt, 10, true, DateTime::UNIX_EPOCH, 0.5);
    assert_eq!(verdict(ErrorClass::Bug, 2), Verdict::Fail, "a mistake is made twice and no more");
    assert!(matches!(verdict(ErrorClass::Transient, 2), Verdict::RetryAt { .. }), "an outage is not counted so");
    assert_eq!(verdict(ErrorClass::LeaseLost, 3), Verdict::Fail);
}

#[test]
fn what_makes_no_sense_is_named() {
    for (retry, words) in [
        (json!({"attempts_max": 0}), "[noop] retry.attempts_max must be at least 1"),
        (json!({"bug": {"attempts_max": 0}}), "[noop] retry.bug.attempts_max must be at least 1"),
        (json!({"rate_limited": {"attempts_max": 3}}), "[noop] retry.rate_limited.attempts_max counts nothing"),
        (json!({"lease_lost": {"first_delay_ms": 3}}), "[noop] retry.lease_lost.first_delay_ms delays nothing"),
        (json!({"lease_lost": {"delay_max_ms": 3}}), "[noop] retry.lease_lost.delay_max_ms delays nothing"),
        (json!({"first_delay_ms": 60_001}), "[noop] retry.first_delay_ms is more than delay_max_ms"),
        (json!({"transient": {"delay_max_ms": 10}}), "[noop] retry.transient.first_delay_ms is more than delay_max_ms"),
        (json!({"permanent": {"attempts_max": 3}}), "unknown field `permanent`"),
        (json!({"bug": {"attempts": 3}}), "unknown field `attempts`"),
    ] {
        let refusal = read(base(&retry)).unwrap_err();
        assert!(refusal.contains(words), "{retry}: {refusal}");
    }
}
