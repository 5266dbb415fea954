//! What is wrong with a snapshot, in words.

use std::fmt;

use super::vault::SUMS;
use super::{Damage, VerifyReport};

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content { stored } => write!(f, "{stored} is not what was kept"),
            Self::Missing { stored } => write!(f, "{stored} is missing"),
            Self::Extra { stored } => write!(f, "{stored} does not belong to the snapshot"),
            Self::Attributes { stored, what } => {
                write!(f, "{stored} is stored with other attributes: {what}")
            }
            Self::Link { stored, snapshot } => {
                write!(f, "{stored} is whole, but no longer one file with that of snapshot {snapshot}")
            }
            Self::Index { what } => f.write_str(what),
            Self::Sums { what } => write!(f, "{SUMS}: {what}"),
            Self::Chain { what } => write!(f, "the chain of snapshots: {what}"),
            Self::Unreadable { stored, what } => write!(f, "{stored} cannot be read: {what}"),
        }
    }
}

impl VerifyReport {
    /// Reports whether a restore from the snapshot would still give the right files, whatever else is wrong.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.damage.iter().all(Damage::is_harmless)
    }
}
