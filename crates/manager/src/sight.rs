//! What the one who asks may see, for as long as the request is served: personal data or masks of it; everything, or one
//! account as its customer sees it. Owns the masking of what handlers answer with, and the first wall around an account:
//! its second is the ledger's. Outside of a request nobody sees anything.

use crate::{App, error::ApiError};
use chrono::{DateTime, Utc};
use domain::{AccountId, LogLines, Mask as _, SeePersonalData, Sensitive, Sentence};
use serde_json::Value;

tokio::task_local! {
    static SIGHT: Sight;
}

/// What may be seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sight {
    pub(crate) personal: Option<SeePersonalData>,
    pub(crate) look: Option<Look>,
}

/// A look at an account as its customer sees it.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) id: i64,
    pub(crate) account: AccountId,
    pub(crate) by: String,
    pub(crate) ticket: String,
    pub(crate) ends_at: DateTime<Utc>,
}

impl Look {
    /// When it ends, for whoever has no script that counts.
    pub(crate) fn ends(&self) -> String {
        self.ends_at.format("%H:%M:%S UTC").to_string()
    }

    pub(crate) fn ends_exactly(&self) -> String {
        self.ends_at.to_rfc3339()
    }
}

/// Serves a request, whatever is awaited on the way, with that sight.
pub(crate) async fn within<F: Future>(sight: Sight, work: F) -> F::Output {
    SIGHT.scope(sight, work).await
}

/// Makes an answer with that sight.
pub(crate) fn within_now<T>(sight: Sight, work: impl FnOnce() -> T) -> T {
    SIGHT.sync_scope(sight, work)
}

/// The capability to see personal data, if the one who asks has it.
pub(crate) fn personal() -> Option<SeePersonalData> {
    SIGHT.try_with(|sight| sight.personal.clone()).ok().flatten()
}

/// The look that this request is part of.
pub(crate) fn look() -> Option<Look> {
    SIGHT.try_with(|sight| sight.look.clone()).ok().flatten()
}

/// Whether a page of the navigation is there for the one who asks.
pub(crate) fn has_page(path: &str) -> bool {
    look().is_none() || crate::assume::is_shown(path)
}

/// The account that is listed: the one that is looked at, or whichever was asked for.
pub(crate) fn narrow(app: &App, asked: Option<AccountId>) -> Result<Option<AccountId>, ApiError> {
    match (app.store.viewed(), asked) {
        (Some(own), Some(other)) if own != other => Err(ApiError::not_found(format!("there is no account {other}"))),
        (Some(own), _) => Ok(Some(own)),
        (None, asked) => Ok(asked),
    }
}

/// Whether something of that account is there for the one who asks.
pub(crate) fn shows(app: &App, account: AccountId) -> bool {
    app.store.viewed().is_none_or(|own| own == account)
}

/// A payload, a checkpoint, evidence: values go where they are not to be seen.
pub(crate) fn value(value: Sensitive<Value>) -> Value {
    value.shown(personal().as_ref())
}

/// An error, a reason, a summary: what it tells of anybody goes where that is not to be seen.
pub(crate) fn words(text: String) -> String {
    Sensitive::new(Sentence(text)).shown(personal().as_ref()).0
}

/// What an attempt logged: what it tells of anybody goes where that is not to be seen.
pub(crate) fn log(text: String) -> String {
    Sensitive::new(LogLines(text)).shown(personal().as_ref()).0
}

/// What a job says of how far it is: its numbers stay.
pub(crate) fn progress(progress: Option<Value>) -> Option<Value> {
    if personal().is_some() {
        return progress;
    }
    Some(match progress? {
        Value::Object(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(key, entry)| {
                    let entry = match entry {
                        Value::String(text) => Value::String(words(text)),
                        Value::Number(_) if matches!(key.as_str(), "done" | "total") => entry,
                        other => other.masked(),
                    };
                    (key, entry)
                })
                .collect(),
        ),
        other => other.masked(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Principal;
    use serde_json::json;

    #[test]
    fn outside_of_a_request_nothing_is_seen() {
        let said = json!({"done": 3, "total": 9, "of": 7, "message": "read 'Ada' <ada@x.org>"});
        let masked = json!({"done": 3, "total": 9, "of": "•••", "message": "read '•••' <a•••@x•••.org>"});
        assert_eq!(progress(Some(said.clone())), Some(masked));
        assert_eq!(value(Sensitive::new(json!({"to": "ada"}))), json!({"to": "•••"}));
        assert!(personal().is_none() && look().is_none());
        let sight = Sight { personal: SeePersonalData::of(&Principal::open("ada")), look: None };
        within_now(sight, || {
            assert_eq!(progress(Some(said.clone())), Some(said));
            assert_eq!(words("'Ada'".to_owned()), "'Ada'");
        });
    }
}
