//! Owns how a kind of work becomes the name of a queue. Does not own queue URLs, which only the server knows.

use crate::QueueError;

/// The longest queue name that SQS accepts, in characters.
pub const NAME_CHARS_MAX: usize = 80;
const DEAD: &str = "-dead";

/// `<prefix>-<kind>`.
///
/// # Errors
/// [`QueueError::Config`] when the name, with room for the dead-letter suffix, breaks SQS's rules: at most 80 of ASCII
/// letters, digits, `-` and `_`; or when the kind itself ends like a dead-letter queue.
pub fn queue_name(prefix: &str, kind: &str) -> Result<String, QueueError> {
    let name = format!("{prefix}-{kind}");
    let config = |reason: String| QueueError::Config { reason, source: None };
    if prefix.is_empty() || kind.is_empty() {
        return Err(config(format!("queue name {name:?} lacks its prefix or its kind")));
    }
    if kind.ends_with(DEAD) {
        return Err(config(format!("kind {kind:?} ends in {DEAD:?}, which names dead-letter queues")));
    }
    if let Some(bad) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
        return Err(config(format!("queue name {name:?} contains {bad:?}; SQS takes letters, digits, - and _")));
    }
    if name.len() + DEAD.len() > NAME_CHARS_MAX {
        return Err(config(format!("queue name {name:?} and {DEAD:?} are longer than {NAME_CHARS_MAX} characters")));
    }
    Ok(name)
}

/// `<prefix>-<kind>-dead`.
///
/// # Errors
/// Those of [`queue_name`].
pub fn dead_letter_name(prefix: &str, kind: &str) -> Result<String, QueueError> {
    Ok(queue_name(prefix, kind)? + DEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_prefix_and_kind() {
        assert_eq!(queue_name("servant", "sync_page").unwrap(), "servant-sync_page");
        assert_eq!(dead_letter_name("servant", "sync").unwrap(), "servant-sync-dead");
    }

    #[test]
    fn what_sqs_would_refuse_is_refused_before() {
        for (prefix, kind) in [("", "a"), ("a", ""), ("a", "b.c"), ("ä", "b"), ("a", "x-dead"), ("a", "b c")] {
            assert!(matches!(queue_name(prefix, kind), Err(QueueError::Config { .. })), "{prefix} {kind}");
        }
        assert!(queue_name("p", &"k".repeat(73)).is_ok());
        assert!(queue_name("p", &"k".repeat(74)).is_err());
    }
}
