//! What a duty has already said, so that what it meets again at every look is one line in the log and not two a second.
//! Kept for as long as the office stands: a new leader says it again, once.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// Things remembered at the most; beyond that all are forgotten, and said again.
const TOLD_MAX: usize = 1_000;

/// What was said.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// Whether this was not said before; from now on it was.
    pub fn is_news(&self, what: String) -> bool {
        // Poisoned or not: whoever panicked with it has at the worst said one thing less.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD_MAX && !told.contains(&what) {
            told.clear();
        }
        told.insert(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_news_once_and_memory_has_a_bound() {
        let told = Told::default();
        for at in 0..TOLD_MAX {
            assert!(told.is_news(at.to_string()));
            assert!(!told.is_news(at.to_string()));
        }
        assert!(!told.is_news("0".to_owned()));
        assert!(told.is_news("one more".to_owned()));
        assert!(told.is_news("0".to_owned()), "it was forgotten");
    }
}
