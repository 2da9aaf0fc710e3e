//! What tells something of a person: a mask wherever it is printed, unless whoever shows it has the capability to see it.
//! Owns the masks and who gets the capability. Pure. Which columns hold such data, the crates that read them say.

use crate::{Principal, action, authorize};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;

/// In the place of what is not shown.
const MASK: &str = "•••";
/// A word with so many digits is a telephone number or an id, and no count of anything.
const ID_DIGITS_MIN: usize = 7;
/// So long a word with a digit in it is an id.
const ID_CHARS_MIN: usize = 15;
/// The stamp of a line of a log has so many characters.
const STAMP_CHARS_MIN: usize = 20;

/// The capability to see personal data. Only [`SeePersonalData::of`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeePersonalData(());

impl SeePersonalData {
    /// For those who may read payloads.
    #[must_use]
    pub fn of(principal: &Principal) -> Option<Self> {
        authorize::<action::ReadPayload>(principal, "").ok().map(|_| Self(()))
    }
}

/// What can be shown without what it tells of anybody.
pub trait Mask {
    /// The same with masks.
    #[must_use]
    fn masked(&self) -> Self;
}

/// A value that nobody prints by accident: Debug, Display and Serialize show its mask.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive<T>(T);

impl<T> Sensitive<T> {
    /// From here on it is a mask.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub const fn expose(&self, _: &SeePersonalData) -> &T {
        &self.0
    }
}

impl<T: Mask> Sensitive<T> {
    /// The value for those who may see it, its mask for others.
    #[must_use]
    pub fn shown(self, see: Option<&SeePersonalData>) -> T {
        if see.is_some() { self.0 } else { self.0.masked() }
    }
}

impl<T: Mask + fmt::Debug> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.masked().fmt(f)
    }
}

impl<T: Mask + fmt::Display> fmt::Display for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.masked().fmt(f)
    }
}

impl<T: Mask + Serialize> Serialize for Sensitive<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.masked().serialize(serializer)
    }
}

/// A value of a customer's data: nothing of it is shown but, of an address, that it is one.
impl Mask for String {
    fn masked(&self) -> Self {
        address(self).unwrap_or_else(|| MASK.to_owned())
    }
}

/// Keys stay, as far as they are names; values go.
impl Mask for Value {
    fn masked(&self) -> Self {
        match self {
            Self::Null | Self::Bool(_) => self.clone(),
            Self::Number(_) => Self::String(MASK.to_owned()),
            Self::String(text) => Self::String(text.masked()),
            Self::Array(values) => Self::Array(values.iter().map(Mask::masked).collect()),
            Self::Object(entries) => {
                let entry = |(key, value): (&String, &Self)| (sentence(key), value.masked());
                Self::Object(entries.iter().map(entry).collect::<Map<_, _>>())
            }
        }
    }
}

/// What a program says in words: an error, a reason, a summary. What it quotes goes, and addresses, numbers of
/// telephones and ids; its own words stay, or nobody could use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence(pub String);

impl Mask for Sentence {
    fn masked(&self) -> Self {
        Self(sentence(&self.0))
    }
}

/// What a program logged: the stamp, the level and the place of each line stay, and the names of its fields. Its message is
/// a [`Sentence`], and the fields' values go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLines(pub String);

impl Mask for LogLines {
    fn masked(&self) -> Self {
        // A message or a value may have several lines, and what is in the others looks like anything.
        let mut events: Vec<(&str, String)> = Vec::new();
        for line in self.0.lines() {
            let head = head_of(line);
            match (events.last_mut(), head) {
                (Some((_, said)), 0) => said.push_str(&format!("\n{line}")),
                _ => events.push((&line[..head], line[head..].to_owned())),
            }
        }
        let event = |(head, said): (&str, String)| format!("{head}{}", message(&said));
        Self(events.into_iter().map(event).collect::<Vec<_>>().join("\n"))
    }
}

/// Where a line's message begins, behind its stamp, its level and its place; 0: it goes on with the line before.
fn head_of(line: &str) -> usize {
    let mut words = line.splitn(4, ' ');
    let (Some(stamp), Some(level), Some(place)) = (words.next(), words.next(), words.next()) else { return 0 };
    let is_stamp = stamp.len() >= STAMP_CHARS_MIN && stamp.chars().all(|c| c.is_ascii_digit() || "-:.TZ".contains(c));
    let is_level = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level);
    let is_place = place.ends_with(':') && place.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c));
    if is_stamp && is_level && is_place { stamp.len() + level.len() + place.len() + 2 } else { 0 }
}

/// What a field may be called.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c))
}

/// A message and the fields behind it, with masks.
fn message(said: &str) -> String {
    let mut at = 0;
    let mut words = Vec::new();
    for word in said.split([' ', '\n']) {
        words.push((at, word.split_once('=').map(|(name, _)| name).filter(|name| is_name(name))));
        at += word.len() + 1;
    }
    let fields = words.iter().find(|(_, name)| name.is_some()).map_or(said.len(), |(at, _)| *at);
    let mut text = sentence(&said[..fields]);
    let names = words.into_iter().filter_map(|(_, name)| name).map(|name| format!("{name}={MASK}"));
    text.push_str(&names.collect::<Vec<_>>().join(" "));
    text
}

/// What is opened and never closed goes to the end.
fn sentence(said: &str) -> String {
    let mut text = String::new();
    let mut word = String::new();
    let mut rest = said.chars();
    while let Some(at) = rest.next() {
        let closing = match at {
            // Within a word it is an apostrophe.
            '\'' if word.chars().next_back().is_some_and(char::is_alphanumeric) => None,
            '\'' | '"' | '`' => Some(at),
            '{' => Some('}'),
            '[' => Some(']'),
            '“' => Some('”'),
            '«' => Some('»'),
            _ => None,
        };
        if let Some(closing) = closing {
            push_word(&mut text, &mut word);
            text.push(at);
            text.push_str(MASK);
            let left = rest.as_str();
            // The last one: quotes may stand in quotes.
            let end = if closing == at { left.find(closing) } else { left.rfind(closing) };
            let Some(end) = end else { return text };
            text.push(closing);
            rest = left[end + closing.len_utf8()..].chars();
        } else if at.is_whitespace() || matches!(at, ',' | ';' | '(' | ')' | '<' | '>' | '=') {
            push_word(&mut text, &mut word);
            text.push(at);
        } else {
            word.push(at);
        }
    }
    push_word(&mut text, &mut word);
    text
}

fn push_word(text: &mut String, word: &mut String) {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let is_id = digits >= ID_DIGITS_MIN || (digits > 0 && word.chars().count() >= ID_CHARS_MIN);
    match address(word) {
        Some(masked) => text.push_str(&masked),
        None if is_id || word.contains('@') => text.push_str(MASK),
        None => text.push_str(word),
    }
    word.clear();
}

/// `j•••@a•••.com` of an address of e-mail.
fn address(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches(['.', ':']);
    let (local, host) = text.split_once('@')?;
    let is_one = !host.contains('@') && !text.contains(char::is_whitespace);
    let (name, top) = host.rsplit_once('.').filter(|_| is_one)?;
    let (of_local, of_name) = (local.chars().next()?, name.chars().next()?);
    let is_top = (2..=24).contains(&top.len()) && top.chars().all(|c| c.is_ascii_alphabetic());
    is_top.then(|| format!("{of_local}{MASK}@{of_name}{MASK}.{top}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;
    use crate::{AccountId, PrincipalKind};
    use proptest::prelude::*;
    use serde_json::json;

    fn said(text: &str) -> String {
        Sentence(text.to_owned()).masked().0
    }

    #[test]
    fn only_those_who_run_the_system_see_and_not_while_they_look_as_a_customer() {
        for role in Role::ALL {
            let principal = Principal::new(PrincipalKind::User, "7", "ada", role);
            let may = matches!(role, Role::Operator | Role::Admin);
            assert_eq!(SeePersonalData::of(&principal).is_some(), may, "{role}");
            assert!(SeePersonalData::of(&principal.assuming(AccountId(7))).is_none(), "{role}");
        }
    }

    #[test]
    fn whatever_prints_it_prints_a_mask() {
        let name = Sensitive::new("Ada Lovelace".to_owned());
        let mail = Sensitive::new("ada@analytical.example".to_owned());
        assert_eq!(format!("{name} {name:?} {mail}"), "••• \"•••\" a•••@a•••.example");
        assert_eq!(serde_json::to_string(&(&name, &mail)).unwrap(), r#"["•••","a•••@a•••.example"]"#);
        let see = SeePersonalData::of(&Principal::system("a test")).unwrap();
        assert_eq!(name.expose(&see), "Ada Lovelace");
        assert_eq!((name.clone().shown(Some(&see)), name.shown(None)), ("Ada Lovelace".into(), "•••".into()));
    }

    #[test]
    fn of_json_the_keys_stay_unless_they_tell_something() {
        let value = json!({"to": "ada@x.org", "n": 7, "on": true, "of": [{"a": null}], "bob@x.org": "bob"});
        let masked =
            json!({"to": "a•••@x•••.org", "n": "•••", "on": true, "of": [{"a": null}], "b•••@x•••.org": "•••"});
        assert_eq!(value.masked(), masked);
    }

    #[test]
    fn of_a_sentence_the_programs_words_stay() {
        let cases = [
            ("status 503 after 30 s", "status 503 after 30 s"),
            ("the row of 'Ada' isn't there", "the row of '•••' isn't there"),
            ("no <ada@x.org>, sorry", "no <a•••@x•••.org>, sorry"),
            ("call +49-30-1234567 or 003Aa00000AbCdEfGH", "call ••• or •••"),
            ("got {\"name\": \"Ada\"} back", "got {•••} back"),
            ("it was \"never closed, Ada", "it was \"•••"),
            ("ada@localhost", "•••"),
            ("a\nb 'c\nd' e", "a\nb '•••' e"),
        ];
        for (text, masked) in cases {
            assert_eq!(said(text), masked);
        }
    }

    #[test]
    fn of_a_log_the_places_and_the_names_stay() {
        let said = "2030-01-02T03:04:05.678901Z WARN sync::pass: the row of 'Ada' is odd pages=3 name=Ada Lovelace\n\
                    of London to=eve\n\
                    2030-01-02T03:04:06.678901Z INFO sync::pass: done";
        let masked = "2030-01-02T03:04:05.678901Z WARN sync::pass: the row of '•••' is odd pages=••• name=••• to=•••\n\
                      2030-01-02T03:04:06.678901Z INFO sync::pass: done";
        assert_eq!(LogLines(said.to_owned()).masked().0, masked);
        let bare = "called by ada@x.org\nas 'Ada\nLovelace'\nto=Ada\nLovelace";
        assert_eq!(LogLines(bare.to_owned()).masked().0, "called by a•••@x•••.org\nas '•••'\nto=•••");
    }

    proptest! {
        #[test]
        fn no_address_and_no_quotation_is_left(before in "[a-z ]{0,9}", secret in "[a-zA-Z]{8,20}", mark in 0..3_usize) {
            let hidden = [format!("'{secret}'"), format!("{secret}@host.example"), format!("{{\"a\": \"{secret}\"}}")];
            let masked = said(&format!("{before} {} after", hidden[mark]));
            prop_assert!(!masked.contains(&secret), "{}", masked);
            let masked = json!({"k": [secret.clone()]}).masked().to_string();
            prop_assert!(!masked.contains(&secret), "{}", masked);
        }
    }
}
