//! The lock on an etcd data directory.

use std::path::Path;

use crate::error::Result;
use crate::model::Observed;

/// Returns device and inode of `member/snap/db` below a data directory (a path for us).
#[must_use]
pub fn database_file(data_dir: &Path) -> Observed<(u64, u64)> {
    let _ = data_dir;
    todo!()
}

/// Reports whether nobody holds the lock on a database file (a path for us); `true` when there is no
/// such file. A shared lock is taken and given back at once, so that a starting etcd, which retries,
/// is not disturbed.
///
/// # Errors
/// The kinds of a failed open or flock(2).
pub fn lock_is_free(database: &Path) -> Result<bool> {
    let _ = database;
    todo!()
}
