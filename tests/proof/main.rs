//! The proof of the Salesforce engine: its real programs against the simulated Salesforce, harmed and killed in every known
//! way, and in the end equal to the truth. Does not own what one crate can test by itself.
//!
//! A seed decides everything that is left to chance; a case that fails prints its seed. Few seeds run by default:
//!
//! - `SERVANT_PROOF_SEEDS`: how many cases of harm; an even seed is one harm by itself, an odd one three at random.
//! - `SERVANT_PROOF_SEED`: that case alone.
//! - `SERVANT_PROOF_KILLS`: how many kills at the least, one of them on each side of each commit of a first load. Without it
//!   they are few, at commits that are spread over the load.
//! - `SERVANT_PROOF_SLICE`: `2/5` is every fifth case and kill, from the second on; the five slices are the whole.
//! - `SERVANT_PROOF_AT_ONCE`: how many cases at a time; they mostly wait.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

mod customer;
mod faults;
mod harm;
mod kills;
mod ledger;
mod tap;
mod world;

/// The part of the whole that this run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    /// Counted from 0.
    place: usize,
    of: usize,
}

impl Slice {
    const WHOLE: Self = Self { place: 0, of: 1 };

    /// As the environment says.
    fn asked() -> Self {
        let Ok(text) = std::env::var("SERVANT_PROOF_SLICE") else { return Self::WHOLE };
        Self::read(&text).unwrap_or_else(|| panic!("SERVANT_PROOF_SLICE is '{text}', not like 2/5"))
    }

    fn read(text: &str) -> Option<Self> {
        let (place, of) = text.split_once('/')?;
        let (place, of) = (place.parse::<usize>().ok()?, of.parse().ok()?);
        (1..=of).contains(&place).then(|| Self { place: place - 1, of })
    }

    /// What of `all` belongs to it.
    fn take<T>(self, all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        all.into_iter().skip(self.place).step_by(self.of)
    }
}

#[test]
fn slices_are_the_whole() {
    let of = |text| Slice::read(text).unwrap().take(0..8).collect::<Vec<_>>();
    assert_eq!((of("1/3"), of("2/3"), of("3/3")), (vec![0, 3, 6], vec![1, 4, 7], vec![2, 5]));
    assert_eq!(Slice::WHOLE.take(0..8).count(), 8);
    assert!(["", "2", "0/3", "4/3", "a/b", "1/0"].iter().all(|text| Slice::read(text).is_none()));
}

/// A number that the environment may say.
fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is '{text}', not a number")),
        Err(_) => otherwise,
    }
}
