//! The words by which people say which jobs they mean: `state:failed kind:noop age:<2h`. Pure; which index answers them is
//! the ledger's to know. The text is kept with what is done to all those jobs, so old words must go on being read.

use crate::{AccountId, Fingerprint, GroupId, JobState, Kind, ServantId};
use std::{fmt, str::FromStr};

/// Ages beyond ten years are no ages: what is kept is younger, and no date arithmetic overflows.
const AGE_SECS_MAX: u32 = 3_650 * 86_400;

/// Which jobs. The default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// In any of these states, in their order; none: in all.
    pub states: Vec<JobState>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this account.
    pub account: Option<AccountId>,
    /// Members of this group.
    pub group: Option<GroupId>,
    /// Running on this servant.
    pub servant: Option<ServantId>,
    /// Failed with an error of this group.
    pub error: Option<Fingerprint>,
    /// Created at least so many seconds ago.
    pub older_secs: Option<u32>,
    /// Created at most so many seconds ago.
    pub newer_secs: Option<u32>,
}

impl Search {
    /// Takes one word in: `key:value`, or the name of a kind.
    ///
    /// # Errors
    /// A word that is none, or that was said before.
    pub fn take(&mut self, word: &str) -> Result<(), String> {
        let (key, value) = word.split_once(':').unwrap_or(("kind", word));
        match key {
            "state" => self.take_states(value),
            "kind" => once(&mut self.kind, Kind::new(value).map_err(|error| format!("kind: {error}"))?, key),
            "account" => once(&mut self.account, AccountId(number(key, value)?), key),
            "group" => once(&mut self.group, GroupId(number(key, value)?), key),
            "servant" => once(&mut self.servant, ServantId(number(key, value)?), key),
            "error" => once(&mut self.error, value.parse()?, key),
            "age" => self.take_age(value),
            _ => Err(format!(
                "'{key}:' is no word of the search; they are state:, kind:, account:, group:, servant:, error:, age:"
            )),
        }
    }

    /// States, with commas between them; `pending` stands for those that wait.
    ///
    /// # Errors
    /// A word that is no state.
    pub fn take_states(&mut self, names: &str) -> Result<(), String> {
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "pending" {
                self.states.extend(JobState::ALL.into_iter().filter(|state| state.is_pending()));
            } else {
                self.states.push(name.parse().map_err(|error| format!("state: {error}, and pending"))?);
            }
        }
        self.states.sort_unstable();
        self.states.dedup();
        Ok(())
    }

    fn take_age(&mut self, value: &str) -> Result<(), String> {
        let wrong = || format!("age: '{value}' is no bound of an age; write age:>2h or age:<30m");
        let (place, text) = match value.split_at_checked(1) {
            Some((">", text)) => (&mut self.older_secs, text),
            Some(("<", text)) => (&mut self.newer_secs, text),
            _ => return Err(wrong()),
        };
        once(place, age_secs(text).ok_or_else(wrong)?, "age")
    }
}

/// Seconds of an age as people write it: `90s`, `15m`, `6h`, `2d`.
#[must_use]
pub fn age_secs(text: &str) -> Option<u32> {
    let secs = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u32>().ok()?.checked_mul(secs).filter(|secs| *secs <= AGE_SECS_MAX)
}

fn once<T>(place: &mut Option<T>, value: T, key: &str) -> Result<(), String> {
    if place.is_some() {
        return Err(format!("'{key}:' is said twice"));
    }
    *place = Some(value);
    Ok(())
}

fn number(key: &str, value: &str) -> Result<i64, String> {
    value.parse().ok().filter(|number| *number >= 0).ok_or_else(|| format!("{key}: '{value}' is no number"))
}

impl FromStr for Search {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut search = Self::default();
        for word in text.split_whitespace() {
            search.take(word)?;
        }
        Ok(search)
    }
}

/// The same words again, in one order.
impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.states.is_empty() {
            let names: Vec<&str> = self.states.iter().map(|state| state.as_str()).collect();
            words.push(format!("state:{}", names.join(",")));
        }
        words.extend(self.kind.as_ref().map(|kind| format!("kind:{kind}")));
        words.extend(self.account.map(|id| format!("account:{id}")));
        words.extend(self.group.map(|id| format!("group:{id}")));
        words.extend(self.servant.map(|id| format!("servant:{id}")));
        words.extend(self.error.as_ref().map(|error| format!("error:{error}")));
        words.extend(self.older_secs.map(|secs| format!("age:>{secs}s")));
        words.extend(self.newer_secs.map(|secs| format!("age:<{secs}s")));
        f.write_str(&words.join(" "))
    }
}

/// What an operator does with all jobs that a search finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkAct {
    /// Starts failed and cancelled ones anew.
    Retry,
    /// Ends unfinished ones.
    Cancel,
}

impl BulkAct {
    /// The text in the database, the API and addresses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
        }
    }

    /// The search with the states that this can be done in: those it names, or if it names none, failed jobs are
    /// retried and unfinished ones cancelled.
    ///
    /// # Errors
    /// It names a state that nothing can be done in.
    pub fn within(self, mut search: Search) -> Result<Search, String> {
        let suits = |state: JobState| match self {
            Self::Retry => matches!(state, JobState::Failed | JobState::Cancelled),
            Self::Cancel => !state.is_finished(),
        };
        if let Some(state) = search.states.iter().find(|state| !suits(**state)) {
            return Err(format!(
                "nothing is {}: a job that is {state}",
                if self == Self::Retry { "retried" } else { "cancelled" }
            ));
        }
        if search.states.is_empty() {
            search.states = match self {
                Self::Retry => vec![JobState::Failed],
                Self::Cancel => JobState::ALL.into_iter().filter(|state| suits(*state)).collect(),
            };
        }
        Ok(search)
    }
}

impl FromStr for BulkAct {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Retry, Self::Cancel]
            .into_iter()
            .find(|act| act.as_str() == text)
            .ok_or_else(|| format!("'{text}' is nothing that is done in bulk; retry and cancel are"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_said_again() {
        let text = "state:failed,pending  kind:noop account:7 group:8 servant:9 age:>2h age:<90m";
        let search: Search = text.parse().unwrap();
        assert_eq!(search.states, [JobState::Scheduled, JobState::Ready, JobState::Queued, JobState::Failed]);
        assert_eq!((search.older_secs, search.newer_secs), (Some(7_200), Some(5_400)));
        assert_eq!(search.to_string().parse(), Ok(search));
        assert_eq!("noop".parse::<Search>().unwrap().kind, Kind::new("noop").ok(), "a bare word is a kind");
        assert_eq!("".parse(), Ok(Search::default()));
    }

    #[test]
    fn nonsense_is_named() {
        for (text, what) in [
            ("colour:blue", "'colour:' is no word"),
            ("state:done", "'done' is not a state"),
            ("account:x", "account: 'x' is no number"),
            ("account:-1", "no number"),
            ("account:1 account:2", "said twice"),
            ("age:2h", "no bound of an age"),
            ("age:>", "no bound of an age"),
            ("age:ü", "no bound of an age"),
            ("error:zz", "no group of errors"),
            ("age:>4294967295d", "no bound of an age"),
        ] {
            let error = text.parse::<Search>().unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
        for age in ["", "5", "m", "-1h", "5 m", "ü", "+5m"] {
            assert_eq!(age_secs(age), None, "{age:?} was taken");
        }
    }

    #[test]
    fn only_what_can_be_done_is_done_in_bulk() {
        let within = |act: BulkAct, text: &str| act.within(text.parse().unwrap());
        assert_eq!(within(BulkAct::Retry, "kind:noop").unwrap().to_string(), "state:failed kind:noop");
        assert_eq!(within(BulkAct::Cancel, "").unwrap().to_string(), "state:scheduled,ready,queued,running");
        assert!(within(BulkAct::Retry, "state:running").is_err());
        assert!(within(BulkAct::Cancel, "state:failed,ready").is_err());
    }
}
