//! Which errors are the same error: a fingerprint of where it happened, its class and its text without what differs from
//! time to time. Pure. The rule has a version, so that another rule makes other groups and never mixes two.

use crate::Kind;
use std::{fmt, str::FromStr};
use xxhash_rust::xxh3::xxh3_64;

/// The rule below.
const VERSION: u8 = 1;
/// Characters of a chain that count, and of a title.
const CHARS_MAX: usize = 4_000;
const TITLE_CHARS_MAX: usize = 200;
/// Shorter words with digits in them are names (`v2`, `na1`, `utf8`), not ids.
const ID_CHARS_MIN: usize = 8;

/// What is the same error, whatever kind of work it happened in: the rule's version and a digest.
#[must_use]
pub fn error_digest(class: &str, chain: &str) -> String {
    // The class is part of it, so that errors without a text do not all fall into one group.
    let digest = xxh3_64(format!("{class}\n{}", normalised(chain)).as_bytes());
    format!("{VERSION}-{digest:016x}")
}

/// A group of errors: [`error_digest`], and the kind of work that they happened in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Of an attempt of `kind` that failed with this class and chain of causes.
    #[must_use]
    pub fn of(kind: &str, class: &str, chain: &str) -> Self {
        Self(format!("{}-{kind}", error_digest(class, chain)))
    }

    /// The text in the database and in addresses.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '-');
        let (version, digest, kind) = (parts.next(), parts.next(), parts.next());
        let is_version = version.is_some_and(|v| (1..4).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_digit()));
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_digest = digest.is_some_and(|digest| digest.len() == 16 && digest.bytes().all(is_hex));
        let is_kind = kind.is_some_and(|kind| Kind::new(kind).is_ok());
        if is_version && is_digest && is_kind {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("'{text}' is no group of errors"))
        }
    }
}

/// The first line of a chain without what differs: what a group is called.
#[must_use]
pub fn error_title(chain: &str) -> String {
    let first = chain.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("(no text)");
    normalised(first).chars().take(TITLE_CHARS_MAX).collect()
}

/// A chain of causes in which numbers are `#`, ids `<id>` and quoted texts `<text>`; white space is one blank.
fn normalised(chain: &str) -> String {
    let cut: String = chain.chars().take(CHARS_MAX).collect();
    let mut text = String::new();
    let mut rest = cut.as_str();
    while let Some(at) = rest.chars().next() {
        let (piece, after) = match at {
            '\'' | '"' | '`' => quoted(rest, at),
            _ if at.is_alphanumeric() => word(rest),
            _ if at.is_whitespace() => {
                let after = rest.trim_start();
                (" ".to_owned(), after)
            }
            _ => (at.to_string(), &rest[at.len_utf8()..]),
        };
        text.push_str(&piece);
        rest = after;
    }
    text.trim().to_owned()
}

/// What is quoted differs; an apostrophe alone is one.
fn quoted(text: &str, mark: char) -> (String, &str) {
    let inside = &text[mark.len_utf8()..];
    match inside.find([mark, '\n']) {
        Some(end) if inside[end..].starts_with(mark) => ("<text>".to_owned(), &inside[end + mark.len_utf8()..]),
        _ => (mark.to_string(), inside),
    }
}

fn word(text: &str) -> (String, &str) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '\''))).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    let is_hex = word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let piece = if digits == 0 {
        word.to_owned()
    } else if letters == 0 {
        numbers(word)
    } else if word.len() >= ID_CHARS_MIN && (is_hex || digits * 4 >= word.len()) {
        "<id>".to_owned()
    } else if word.starts_with(|c: char| c.is_ascii_digit()) {
        // A number with its unit, or a moment: 30s, 2030-01-02T03.
        numbers(word)
    } else {
        word.to_owned()
    };
    (piece, rest)
}

fn numbers(word: &str) -> String {
    let mut text = String::new();
    for c in word.chars() {
        if !c.is_ascii_digit() {
            text.push(c);
        } else if !text.ends_with('#') {
            text.push('#');
        }
    }
    text
}

/// Whether errors came much more often in the latest hour than in those before: at least ten, and four times their mean.
#[must_use]
pub fn is_spike(latest: i64, before: &[i64]) -> bool {
    let sum: i64 = before.iter().sum();
    let hours = i64::try_from(before.len()).unwrap_or(i64::MAX).max(1);
    latest >= 10 && latest.saturating_mul(hours) >= sum.saturating_mul(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        Fingerprint::of("k", "transient", a) == Fingerprint::of("k", "transient", b)
    }

    #[test]
    fn what_differs_from_time_to_time_makes_no_other_group() {
        for (a, b) in [
            ("no answer within 30 s", "no answer within 5 s"),
            ("no answer within 30s", "no answer within 5s"),
            ("record 003aa00000AbCdEAAV is locked", "record 003bb00000XyZzQAAV is locked"),
            (
                "request 9f86d081-884c-4d65-9f86-d081884c7d65 failed",
                "request 12345678-90ab-4cde-8f01-234567890abc failed",
            ),
            ("no such column 'Foo__c'", "no such column 'Bar__c'"),
            ("at 2030-01-02T03:04:05Z: gone", "at 2031-11-12T13:14:15Z: gone"),
            ("a\n  b", "a\nb"),
        ] {
            assert!(same(a, b), "{} / {}", normalised(a), normalised(b));
        }
    }

    #[test]
    fn what_is_another_error_makes_another_group() {
        for (a, b) in [
            ("no answer within 30 s", "no connection within 30 s"),
            ("the outer\nwrong password", "the outer\nno such user"),
            ("host na1 is down", "host eu5 is down"),
            ("", "something"),
        ] {
            assert!(!same(a, b), "{}", normalised(a));
        }
        assert_ne!(
            Fingerprint::of("k", "bug", ""),
            Fingerprint::of("k", "transient", ""),
            "without a text the class tells"
        );
        assert_ne!(Fingerprint::of("k", "bug", "x"), Fingerprint::of("l", "bug", "x"), "the place tells");
    }

    #[test]
    fn the_rule_does_not_change_unseen() {
        assert_eq!(Fingerprint::of("noop", "permanent", "row 7 of 'a' lacks <name>").as_str().len(), 23);
        assert_eq!(
            normalised("row 7 of 'a' isn't <name>: it's 12ms late"),
            "row # of <text> isn't <name>: it's #ms late"
        );
        assert_eq!(error_title("\n  page 12 is cut \nbecause"), "page # is cut");
        assert_eq!(error_title(""), "(no text)");
    }

    #[test]
    fn texts_are_checked_on_the_way_in() {
        let fingerprint = Fingerprint::of("k", "bug", "x");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for wrong in
            ["", "1-", "1-ABCDEF0123456789-k", "x-0123456789abcdef-k", "1-0123456789abcde-k", "1-0123456789abcdef"]
        {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_spike_is_many_and_many_more() {
        assert!(is_spike(40, &[9; 24]) && is_spike(10, &[]) && is_spike(10, &[0; 24]));
        assert!(!is_spike(9, &[0; 24]) && !is_spike(30, &[9; 24]));
    }
}
