//! Anomalies: what can be out of the ordinary in a customer's data, how grave it is, and what becomes of an anomaly that is
//! seen again or that a person has looked at. Does not own how one is detected (`sync`), nor the rows (`store`).

use std::{fmt, str::FromStr};

/// What is out of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnomalyKind {
    /// The object has a field that it did not have.
    FieldAdded,
    /// A field that was read is gone, or is no longer shown to us.
    FieldLost,
    /// A field has another type.
    FieldRetyped,
    /// A field has a type that we do not know; it is read as text.
    FieldTypeUnknown,
    /// The object is gone, or is no longer shown to us.
    ObjectLost,
    /// Records that cannot be stored are in quarantine.
    RecordsDamaged,
    /// The vendor's count and ours differ.
    CountsDiffer,
    /// Far more or fewer changes than is usual at this time.
    VolumeUnusual,
    /// Far more deletes than is usual at this time.
    DeletesUnusual,
    /// A field is empty far more often than is usual.
    NullsUnusual,
    /// Changes show later than the windows reach back.
    ChangesLate,
    /// The vendor has forgotten where reading was, and it begins again.
    CursorLost,
    /// So many records seem gone that they are kept until a person says so.
    DeletesHeld,
    /// The vendor's clock and ours are apart.
    ClocksApart,
    /// The customer's quota will not last.
    QuotaShort,
}

impl AnomalyKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::FieldAdded,
        Self::FieldLost,
        Self::FieldRetyped,
        Self::FieldTypeUnknown,
        Self::ObjectLost,
        Self::RecordsDamaged,
        Self::CountsDiffer,
        Self::VolumeUnusual,
        Self::DeletesUnusual,
        Self::NullsUnusual,
        Self::ChangesLate,
        Self::CursorLost,
        Self::DeletesHeld,
        Self::ClocksApart,
        Self::QuotaShort,
    ];

    /// Its name in the database, the API and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FieldAdded => "field_added",
            Self::FieldLost => "field_lost",
            Self::FieldRetyped => "field_retyped",
            Self::FieldTypeUnknown => "field_type_unknown",
            Self::ObjectLost => "object_lost",
            Self::RecordsDamaged => "records_damaged",
            Self::CountsDiffer => "counts_differ",
            Self::VolumeUnusual => "volume_unusual",
            Self::DeletesUnusual => "deletes_unusual",
            Self::NullsUnusual => "nulls_unusual",
            Self::ChangesLate => "changes_late",
            Self::CursorLost => "cursor_lost",
            Self::DeletesHeld => "deletes_held",
            Self::ClocksApart => "clocks_apart",
            Self::QuotaShort => "quota_short",
        }
    }
}

impl FromStr for AnomalyKind {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| format!("'{name}' is no anomaly"))
    }
}

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// To know.
    Info,
    /// To look at.
    Warning,
    /// To act on: data is missing or wrong until somebody does.
    Critical,
}

impl Severity {
    /// All of them, the least grave first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// As the ledger has it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Info => 1,
            Self::Warning => 2,
            Self::Critical => 3,
        }
    }

    /// What the ledger has.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.code() == code)
    }
}

impl FromStr for Severity {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|severity| severity.as_str() == name);
        found.ok_or_else(|| format!("'{name}' is no severity; they are info, warning and critical"))
    }
}

/// Where an anomaly stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnomalyState {
    /// Nobody has looked at it.
    Open,
    /// Somebody has, and is at it.
    Acknowledged,
    /// Somebody has, and wants to hear no more of it.
    Muted,
    /// It is over.
    Resolved,
}

impl AnomalyState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Acknowledged, Self::Muted, Self::Resolved];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Muted => "muted",
            Self::Resolved => "resolved",
        }
    }

    /// Where it stands once it is seen again: what was over is open, and so is what a person had looked at when it was
    /// less grave. What is muted stays so.
    #[must_use]
    pub fn seen_again(self, was: Severity, is: Severity) -> Self {
        match self {
            Self::Resolved => Self::Open,
            Self::Acknowledged if is > was => Self::Open,
            same => same,
        }
    }
}

impl FromStr for AnomalyState {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == name);
        found.ok_or_else(|| {
            format!("'{name}' is no state of an anomaly; they are open, acknowledged, muted and resolved")
        })
    }
}

/// What a person does with an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnomalyAct {
    /// Takes it on.
    Acknowledge,
    /// Says that it is over; seen again, it is open again.
    Resolve,
    /// Wants to hear no more of it, however often it is seen.
    Mute,
}

impl AnomalyAct {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Acknowledge, Self::Resolve, Self::Mute];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Resolve => "resolve",
            Self::Mute => "mute",
        }
    }

    /// Where an anomaly stands after it; `None`: it makes no sense there.
    #[must_use]
    pub const fn of(self, state: AnomalyState) -> Option<AnomalyState> {
        use AnomalyState as S;
        match (self, state) {
            (Self::Acknowledge, S::Open | S::Muted) => Some(S::Acknowledged),
            (Self::Resolve, S::Open | S::Acknowledged | S::Muted) => Some(S::Resolved),
            (Self::Mute, S::Open | S::Acknowledged | S::Resolved) => Some(S::Muted),
            _ => None,
        }
    }
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        assert!(AnomalyKind::ALL.iter().all(|kind| kind.as_str().parse() == Ok(*kind)));
        assert!(Severity::ALL.iter().all(|severity| severity.as_str().parse() == Ok(*severity)));
        assert!(Severity::ALL.iter().all(|severity| Severity::from_code(severity.code()) == Some(*severity)));
        assert!(AnomalyState::ALL.iter().all(|state| state.as_str().parse() == Ok(*state)));
        assert!("gone".parse::<AnomalyState>().is_err() && "x".parse::<AnomalyKind>().is_err());
    }

    #[test]
    fn what_is_seen_again_is_open_unless_a_person_knows_it() {
        use AnomalyState as S;
        let (less, more) = (Severity::Info, Severity::Critical);
        let cases = [
            (S::Open, [S::Open, S::Open]),
            (S::Acknowledged, [S::Acknowledged, S::Open]),
            (S::Muted, [S::Muted, S::Muted]),
            (S::Resolved, [S::Open, S::Open]),
        ];
        for (state, [as_grave, graver]) in cases {
            assert_eq!((state.seen_again(less, less), state.seen_again(less, more)), (as_grave, graver), "{state:?}");
            assert_eq!(state.seen_again(more, less), as_grave, "{state:?}");
        }
    }

    #[test]
    fn acts_lead_somewhere_else_or_nowhere() {
        for act in AnomalyAct::ALL {
            let moved = AnomalyState::ALL.into_iter().filter_map(|state| Some((state, act.of(state)?)));
            assert!(moved.clone().all(|(from, to)| from != to) && moved.count() >= 2, "{act:?}");
        }
    }
}
