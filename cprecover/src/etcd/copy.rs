//! Copies a member's files while nobody uses them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::model::Digest;
use crate::sys::Deadline;

/// One file of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopiedFile {
    /// Its path below the copy.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of the copy, read back.
    pub sha256: Digest,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopyReceipt {
    /// The folder that now holds `member/` and `SHA256SUMS`.
    pub path: PathBuf,
    /// Every file, by path.
    pub files: Vec<CopiedFile>,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Whether the blocks are shared with the original (FICLONE) and take no room of their own.
    pub reflinked: bool,
}

/// Copies `data_dir/member` as a whole to the new folder `to`, while holding the database's lock.
///
/// The database alone would lack the entries that are only in the WAL, so the copy is of everything.
/// `to` appears by a rename after everything is on disk, or not at all.
///
/// # Errors
/// [`crate::ErrorKind::Busy`] when a process holds the lock (with its pid),
/// [`crate::ErrorKind::AlreadyExists`] when `to` exists, [`crate::ErrorKind::NoSpace`] when the target has
/// no room, [`crate::ErrorKind::NotFound`] when there is no member, [`crate::ErrorKind::Limit`] for more
/// than 10,000 files, and the kinds of failed reads and writes.
pub fn copy_member(data_dir: &Path, to: &Path, deadline: &Deadline) -> Result<CopyReceipt> {
    let _ = (data_dir, to, deadline);
    todo!()
}
