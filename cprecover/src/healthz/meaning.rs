//! What a failed check means, and what it does not mean.

use serde::Serialize;

/// What it means that a named check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CheckMeaning {
    /// The name, or the prefix of a name when it ends in `*`.
    pub check: &'static str,
    /// What a failure means, one sentence.
    pub meaning: &'static str,
    /// Where that is written.
    pub source: &'static str,
}

/// Returns what a failure of the check `name` means, for the names that this crate knows.
#[must_use]
pub fn meaning(name: &str) -> Option<&'static CheckMeaning> {
    let _ = name;
    todo!()
}
