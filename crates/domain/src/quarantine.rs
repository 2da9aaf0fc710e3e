//! Where a record stands that could not be stored. Does not own what is wrong with one (`sync`), nor the rows (`store`).

use std::str::FromStr;

/// Where a record in quarantine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuarantineState {
    /// Nothing has become of it.
    Open,
    /// Somebody wants to hear no more of it, as long as the vendor shows it as it is. It is kept all the same.
    Dismissed,
    /// It is over: a version of the record could be stored, or the vendor has it no more.
    Resolved,
}

impl QuarantineState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Dismissed, Self::Resolved];

    /// Its name in the database, the API and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Dismissed => "dismissed",
            Self::Resolved => "resolved",
        }
    }
}

impl FromStr for QuarantineState {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == name);
        found.ok_or_else(|| {
            format!("'{name}' is no state of a record in quarantine; they are open, dismissed and resolved")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_its_state_and_no_other_does() {
        for state in QuarantineState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("muted".parse::<QuarantineState>().unwrap_err().contains("open, dismissed and resolved"));
    }
}
