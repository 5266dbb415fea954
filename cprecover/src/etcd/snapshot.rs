//! Saves a running member's database.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::client::Client;
use crate::error::Result;
use crate::model::Digest;
use crate::sys::Deadline;

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SnapshotReceipt {
    /// The file.
    pub path: PathBuf,
    /// Its size, the 32 bytes of the trailer included.
    pub size_bytes: u64,
    /// SHA-256 of the database in it, as etcd sent it and as it was computed here.
    pub sha256: Digest,
    /// The newest revision in it.
    pub revision: Option<u64>,
    /// Key revisions in it.
    pub key_revisions: u64,
}

/// Streams a snapshot of a running member into the new file `to`.
///
/// The bytes go to a temporary file beside `to`, the SHA-256 that etcd appends is compared, the database
/// is walked page by page, and only then the file takes its name, after `fsync` of file and folder. The
/// trailer stays in the file: `etcdctl snapshot restore` and `etcdutl snapshot restore` want it.
///
/// # Errors
/// [`crate::ErrorKind::AlreadyExists`] when `to` exists, [`crate::ErrorKind::Corrupt`] when digest or pages
/// are wrong, [`crate::ErrorKind::NoSpace`], and the kinds of [`Client::members`]. No file is left behind.
pub fn snapshot(client: &Client, to: &Path, deadline: &Deadline) -> Result<SnapshotReceipt> {
    let _ = (client, to, deadline);
    todo!()
}
