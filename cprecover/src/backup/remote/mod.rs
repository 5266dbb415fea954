//! Copies of snapshots elsewhere, so that a node whose disk died gets its manifests back.
//!
//! A remote holds objects under names. Every file, and every snapshot's `index.json`, is one object that
//! is named after the SHA-256 of its bytes; a small object `snapshots/NODE/ID.json` names the index and
//! is put last, so that a copy that was cut short is no copy. Nothing is believed that does not have its
//! digest, and no object of a snapshot is ever replaced by another.
//!
//! [`RemoteObjects`] is all that a remote has to be; with the feature `remote`, `ObjectStoreRemote` is
//! one for local paths, S3 and what is compatible with it, Google Cloud Storage and Azure.

#[cfg(feature = "remote")]
mod connect;
#[cfg(feature = "remote")]
mod objects;
pub(super) mod pointer;
mod pull;
mod push;

#[cfg(feature = "remote")]
pub use objects::{ObjectStoreRemote, RemoteOptions};
pub use pointer::{RemoteSnapshot, list_remote};
pub use push::PushReport;

use crate::error::Result;
use crate::model::Digest;
use crate::sys::Deadline;

/// What became of an object that was to be put only where none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutOutcome {
    /// It is there now, durably as far as the remote promises.
    Created,
    /// An object of that name was there, and was left as it is.
    Existed,
}

/// The few effects that a place for copies needs.
pub trait RemoteObjects {
    /// Puts an object under `name` unless there is one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Peer`], [`crate::ErrorKind::PermissionDenied`], [`crate::ErrorKind::Timeout`].
    fn put_new(&self, name: &str, bytes: Vec<u8>, deadline: &Deadline) -> Result<PutOutcome>;

    /// Puts an object under `name`, whatever is there; only ever called to mend a damaged one.
    ///
    /// # Errors
    /// As [`RemoteObjects::put_new`].
    fn replace(&self, name: &str, bytes: Vec<u8>, deadline: &Deadline) -> Result<()>;

    /// Reads an object of at most `limit_bytes`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] only when the remote says so, [`crate::ErrorKind::Limit`], and as
    /// [`RemoteObjects::put_new`].
    fn fetch(&self, name: &str, limit_bytes: u64, deadline: &Deadline) -> Result<Vec<u8>>;

    /// Lists the names below the folder `folder`, at any depth, at most `limit`; more are an error.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`], and as [`RemoteObjects::put_new`].
    fn list(&self, folder: &str, limit: usize, deadline: &Deadline) -> Result<Vec<String>>;
}

/// Returns the name of the object with this content.
fn blob_name(digest: &Digest) -> String {
    let hex = digest.to_string();
    // Two characters first, since a local folder with all names in it would be slow.
    format!("blobs/sha256/{}/{hex}", hex.get(..2).unwrap_or_default())
}
