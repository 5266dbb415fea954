//! The store: one folder of snapshots, holds and journal.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    CreateOptions, Held, InstallOptions, NewFile, PruneReport, Recovered, RestoreOptions, RestoreReport,
    Retention, Selection, Snapshot, SnapshotDiff, SnapshotId, VerifyReport,
};
use crate::error::Result;
use crate::node::NodeOptions;
use crate::sys::{Clock, Deadline};

/// The snapshots of one node.
///
/// Calls that write take the store's lock and fail with [`crate::ErrorKind::Busy`] while another
/// process holds it. Opening makes nothing; the first write makes the folder.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
}

/// One snapshot of a listing; a damaged one is listed with what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Listed {
    /// Its name.
    pub id: SnapshotId,
    /// Its index, when that could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Why its index could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Store {
    /// Opens the node's store ([`NodeOptions::store`]) and finishes what a crash left half done.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] for a store of a newer version, the kinds of a failed read
    /// otherwise. A store that does not exist yet is no error.
    pub fn open(node: &NodeOptions) -> Result<Self> {
        Self::open_at(node, node.store())
    }

    /// Opens the store in the folder `dir` (not below the node's root) for `node`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_at(_node: &NodeOptions, _dir: impl Into<PathBuf>) -> Result<Self> {
        todo!()
    }

    /// Uses `clock` for the times of new snapshots.
    #[must_use]
    pub fn with_clock(self, _clock: impl Clock + 'static) -> Self {
        todo!()
    }

    /// Returns the store's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a snapshot; when this returns it is on stable storage.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Changed`] when a file kept changing while it was read,
    /// [`crate::ErrorKind::Busy`], and the kinds of failed reads and writes; then the store is as it was.
    pub fn create(&self, _options: &CreateOptions, _deadline: &Deadline) -> Result<Snapshot> {
        todo!()
    }

    /// Lists the snapshots, oldest first, damaged ones included.
    ///
    /// # Errors
    /// The kinds of a failed read of the store itself.
    pub fn list(&self) -> Result<Vec<Listed>> {
        todo!()
    }

    /// Reads one snapshot's index.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], [`crate::ErrorKind::Corrupt`] or, for an index of a newer
    /// version, [`crate::ErrorKind::Unsupported`]; the message names the snapshot.
    pub fn load(&self, _id: &SnapshotId) -> Result<Snapshot> {
        todo!()
    }

    /// Returns the newest snapshot whose index can be read.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn latest(&self) -> Result<Option<Snapshot>> {
        todo!()
    }

    /// Returns the newest snapshot that was made while the node's health was verified.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn last_known_good(&self) -> Result<Option<Snapshot>> {
        todo!()
    }

    /// Reads a manifest or other file's bytes out of a snapshot and checks their digest.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the bytes do not match, [`crate::ErrorKind::NotFound`] when
    /// the snapshot has no such file.
    pub fn read(&self, _id: &SnapshotId, _path_on_node: &Path) -> Result<Vec<u8>> {
        todo!()
    }

    /// Checks a snapshot: every digest, extra and missing files, the chain, the shared inodes.
    ///
    /// # Errors
    /// As [`Store::load`] when the snapshot does not exist; damage is in the report.
    pub fn verify(&self, _id: &SnapshotId, _deadline: &Deadline) -> Result<VerifyReport> {
        todo!()
    }

    /// Removes snapshots that `retention` does not keep; never the newest, the last known good, or
    /// one that a held manifest needs.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Busy`] and the kinds of failed writes.
    pub fn prune(&self, _retention: &Retention, _dry_run: bool) -> Result<PruneReport> {
        todo!()
    }

    /// Compares two snapshots: files, and for manifests which flag of which component changed.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn diff(&self, _old: &SnapshotId, _new: &SnapshotId) -> Result<SnapshotDiff> {
        todo!()
    }

    /// Compares a snapshot with what stands on the node now.
    ///
    /// # Errors
    /// As [`Store::load`] and [`Store::create`].
    pub fn diff_live(&self, _old: &SnapshotId, _deadline: &Deadline) -> Result<SnapshotDiff> {
        todo!()
    }

    /// Writes a verified snapshot as one tar stream.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the snapshot does not verify.
    pub fn export(&self, _id: &SnapshotId, _to: &mut dyn Write, _deadline: &Deadline) -> Result<()> {
        todo!()
    }

    /// Takes a snapshot in that [`Store::export`] wrote; it keeps its id.
    ///
    /// # Errors
    /// [`crate::ErrorKind::AlreadyExists`] when the store holds another snapshot of that id,
    /// [`crate::ErrorKind::Corrupt`] or [`crate::ErrorKind::Invalid`] for a bad archive.
    pub fn import(&self, _from: &mut dyn Read, _deadline: &Deadline) -> Result<Snapshot> {
        todo!()
    }

    /// Puts files of a snapshot back, all or nothing; what stood there is snapshotted first.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the snapshot does not verify, [`crate::ErrorKind::Refused`]
    /// when kubelet would run a pod twice, the kinds of failed writes; then nothing is changed.
    pub fn restore(
        &self,
        _id: &SnapshotId,
        _selection: &Selection,
        _options: &RestoreOptions,
        _deadline: &Deadline,
    ) -> Result<RestoreReport> {
        todo!()
    }

    /// Puts new files in place, all or nothing; what stood there is snapshotted first.
    ///
    /// # Errors
    /// As [`Store::restore`].
    pub fn install(
        &self,
        _files: &[NewFile],
        _options: &InstallOptions,
        _deadline: &Deadline,
    ) -> Result<RestoreReport> {
        todo!()
    }

    /// Takes a manifest out of kubelet's sight, durably, so that it can always be put back.
    ///
    /// `file_name` is the manifest's name in the manifests folder ([`crate::model::Component::manifest_file`]).
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such manifest, [`crate::ErrorKind::AlreadyExists`]
    /// when one of that name is held already.
    pub fn hold(&self, _file_name: &str, _reason: &str, _deadline: &Deadline) -> Result<Held> {
        todo!()
    }

    /// Puts a held manifest back under its own name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when it is not held, [`crate::ErrorKind::AlreadyExists`] when a
    /// different file of that name stands there; both are kept.
    pub fn release(&self, _file_name: &str, _deadline: &Deadline) -> Result<Held> {
        todo!()
    }

    /// Lists the held manifests.
    ///
    /// # Errors
    /// The kinds of a failed read.
    pub fn held(&self) -> Result<Vec<Held>> {
        todo!()
    }

    /// Finishes or takes back what a crash left half done, and says what it did; runs on open too.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Busy`], and the kinds of failed writes.
    pub fn recover_pending(&self) -> Result<Vec<Recovered>> {
        todo!()
    }
}
