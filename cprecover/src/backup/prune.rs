//! Which snapshots are kept.

use serde::Serialize;

use super::SnapshotId;

/// How many snapshots are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// The newest so many; at least one is always kept.
    pub keep_last: usize,
    /// The last one of each of so many days (UTC) that have one.
    pub keep_daily: usize,
}

impl Retention {
    /// Keeps the newest `keep_last`, and the last of each of `keep_daily` days.
    #[must_use]
    pub const fn new(keep_last: usize, keep_daily: usize) -> Self {
        Self { keep_last, keep_daily }
    }
}

/// What pruning did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PruneReport {
    /// Removed snapshots.
    pub removed: Vec<SnapshotId>,
    /// Kept ones, with the reason.
    pub kept: Vec<(SnapshotId, String)>,
}
