//! The fates of attempts against the table of legal changes; needs no database. The statements themselves are
//! tested in `tests/ledger`.

use super::Fate;
use domain::{ErrorClass, Failure, JobEvent, JobState, next};

#[test]
fn every_fate_leads_where_its_event_leads() {
    let failure = || Failure { class: ErrorClass::Bug, chain: "it broke".to_owned(), until: None };
    let retry = Fate::RetryAt { due: chrono::DateTime::UNIX_EPOCH, charged: true, failure: failure() };
    for (fate, event) in [
        (retry, JobEvent::RetryLater),
        (Fate::Fail(failure()), JobEvent::Fail),
        (Fate::GiveBack, JobEvent::GiveBack),
        (Fate::Park(failure()), JobEvent::Park),
        (Fate::Rescue(failure()), JobEvent::Rescue),
        (Fate::Cancelled, JobEvent::Cancel),
    ] {
        assert_eq!(Some(fate.state()), next(JobState::Running, event), "{fate:?}");
    }
    assert!(!Fate::Park(failure()).is_charged(), "a revoked grant uses no job up");
}
