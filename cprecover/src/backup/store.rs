//! The store: one folder of snapshots, holds and journal.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::diff::{changed_lines, compare, has_text};
use super::fs::linux::Linux;
use super::group::Layout;
use super::snapshot::Entry;

use super::{
    CreateOptions, Held, InstallOptions, NewFile, PruneReport, Recovered, RestoreOptions, RestoreReport,
    Retention, Selection, Snapshot, SnapshotDiff, SnapshotId, UnreadableHold, VerifyReport,
};
use crate::error::{Error, ErrorKind, Result};
use crate::facts;
use crate::node::NodeOptions;
use crate::sys::{Clock, Deadline, SystemClock};

/// Threads of one call, at most.
const MAX_WORKERS: usize = 64;
/// How long a call without a deadline waits for another process's change.
const UNBOUNDED_WAIT: Duration = Duration::from_secs(5);

/// The snapshots of one node.
///
/// Calls that write take the store's lock; while another process holds it they wait, 20 s and their deadline
/// at most (5 s where they have none), and then fail with [`crate::ErrorKind::Busy`]. Opening makes nothing
/// and waits for nobody; the first write makes the folder.
pub struct Store {
    pub(super) path: PathBuf,
    pub(super) root: PathBuf,
    pub(super) layout: Layout,
    pub(super) node_name: Option<String>,
    pub(super) clock: Arc<dyn Clock + Send + Sync>,
    pub(super) fs: Linux,
    pub(super) read_only: bool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).field("root", &self.root).finish_non_exhaustive()
    }
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
    pub fn open_at(node: &NodeOptions, dir: impl Into<PathBuf>) -> Result<Self> {
        let store = Self::unopened(node, dir.into());
        if let Some(vault) = store.look()?
            && vault.check_format()?
            && vault.has_pending()?
        {
            match store.recover_by(&Deadline::after(Duration::ZERO)) {
                // Whoever holds the lock has done or will do it.
                Err(error) if error.kind() == ErrorKind::Busy => {}
                // A rescue system may have mounted the node read-only to look at its snapshots.
                Err(error) if error.kind() == ErrorKind::ReadOnly => {
                    tracing::warn!(%error, "a half-done change waits for a writable file system");
                }
                other => {
                    other?;
                }
            }
        }
        Ok(store)
    }

    pub(super) fn unopened(node: &NodeOptions, path: PathBuf) -> Self {
        Self {
            path,
            root: node.root.clone(),
            layout: Layout::of(node),
            node_name: facts::node_name(node).map(|name| name.as_str().to_owned()),
            clock: Arc::new(SystemClock),
            fs: Linux::default(),
            read_only: false,
        }
    }

    /// Uses `clock` for the times of new snapshots.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Lets a call have up to `workers` files in hand at once, with threads of its own that end before it
    /// returns; without this, calls start no threads.
    ///
    /// A backup of four manifests waits for eight files and folders. Disks flush their cache for each that
    /// is waited for alone, and once for those that are waited for together. Reading, hashing and copying
    /// use as many threads as the caller may use cores, and no more than `workers`.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.fs.workers = workers.min(MAX_WORKERS);
        self
    }

    /// Returns the store's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn node_name(&self) -> Option<&str> {
        self.node_name.as_deref()
    }

    /// Makes a snapshot; when this returns it is on stable storage.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Changed`] when a file kept changing while it was read, [`crate::ErrorKind::Refused`] when
    /// the manifests, or the only group asked for, lie behind a link (another group is skipped),
    /// [`crate::ErrorKind::Busy`], and the kinds of failed reads and writes; then the store is as it was.
    pub fn create(&self, options: &CreateOptions, deadline: &Deadline) -> Result<Snapshot> {
        let (vault, _lock) = self.change(deadline)?;
        vault.recover()?;
        vault.create(options, &[], deadline)
    }

    /// Lists the snapshots by number, damaged ones included; where a store was lost and begun anew, numbers do not
    /// tell their age.
    ///
    /// # Errors
    /// The kinds of a failed read of the store itself.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let Some(vault) = self.look()? else { return Ok(Vec::new()) };
        vault.check_format()?;
        let listed = vault.ids()?.into_iter().map(|id| match vault.load(&id) {
            Ok(indexed) => Listed { id, snapshot: Some(indexed.snapshot), error: None },
            Err(error) => Listed { id, snapshot: None, error: Some(error.to_string()) },
        });
        Ok(listed.collect())
    }

    /// Reads one snapshot's index.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], [`crate::ErrorKind::Corrupt`] or, for an index of a newer
    /// version, [`crate::ErrorKind::Unsupported`]; the message names the snapshot.
    pub fn load(&self, id: &SnapshotId) -> Result<Snapshot> {
        Ok(self.existing()?.load(id)?.snapshot)
    }

    /// Reads a manifest or other file's bytes out of a snapshot and checks their digest.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the bytes do not match, [`crate::ErrorKind::NotFound`] when
    /// the snapshot has no such file.
    pub fn read(&self, id: &SnapshotId, path_on_node: &Path) -> Result<Vec<u8>> {
        let vault = self.existing()?;
        let snapshot = vault.load(id)?.snapshot;
        let entry = snapshot.entries.iter().find(|entry| entry.path.as_path() == path_on_node);
        let entry = entry.filter(|entry| entry.sha256.is_some()).ok_or_else(|| {
            let path = path_on_node.display();
            Error::new(ErrorKind::NotFound, format!("snapshot {id} does not hold {path}"))
        })?;
        vault.stored_bytes(&vault.folder_of(id)?, entry)
    }

    /// Checks a snapshot: every digest, extra and missing files, the chain, the shared inodes.
    ///
    /// # Errors
    /// As [`Store::load`] when the snapshot does not exist; damage is in the report.
    pub fn verify(&self, id: &SnapshotId, deadline: &Deadline) -> Result<VerifyReport> {
        self.existing()?.verify(id, deadline)
    }

    /// Removes snapshots that `retention` does not keep; never the newest, the last known good, or
    /// one that a held manifest needs, and where one of these is damaged, not the next such one that is intact;
    /// none while a hold's record cannot be read.
    ///
    /// Where any would be removed, those that are fallen back on are verified first, which reads all of their files.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Busy`] and the kinds of failed writes.
    pub fn prune(&self, retention: &Retention, dry_run: bool) -> Result<PruneReport> {
        let (vault, _lock) = self.change(&Deadline::after(UNBOUNDED_WAIT))?;
        vault.recover()?;
        if let Some(report) = vault.nothing_pruned()? {
            return Ok(report);
        }
        if !dry_run {
            vault.set_malformed_note_aside()?;
        }
        vault.prune(retention, dry_run)
    }

    /// Compares two snapshots: files, and for manifests which flag of which component changed.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn diff(&self, old: &SnapshotId, new: &SnapshotId) -> Result<SnapshotDiff> {
        let vault = self.existing()?;
        let (old, new) = (vault.load(old)?.snapshot, vault.load(new)?.snapshot);
        let text = |snapshot: &SnapshotId, entry: &Entry| {
            vault.folder_of(snapshot).and_then(|top| vault.stored_bytes(&top, entry)).unwrap_or_default()
        };
        Ok(compare(&old, &new, |was, is| {
            if has_text(was) && has_text(is) {
                changed_lines(&text(&old.id, was), &text(&new.id, is))
            } else {
                Vec::new()
            }
        }))
    }

    /// Compares a snapshot with what stands on the node now.
    ///
    /// # Errors
    /// As [`Store::load`], and the kinds of failed reads.
    pub fn diff_live(&self, old: &SnapshotId, deadline: &Deadline) -> Result<SnapshotDiff> {
        let vault = self.existing()?;
        let old = vault.load(old)?.snapshot;
        let (new, live) = vault.survey(&old, deadline)?;
        let top = vault.folder_of(&old.id)?;
        Ok(compare(&old, &new, |was, is| {
            let stored = || vault.stored_bytes(&top, was).unwrap_or_default();
            match live.get(&is.path) {
                Some(bytes) if has_text(was) && has_text(is) => changed_lines(&stored(), bytes),
                _ => Vec::new(),
            }
        }))
    }

    /// Writes a verified snapshot as one tar stream.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the snapshot does not verify.
    pub fn export(&self, id: &SnapshotId, to: &mut dyn Write, deadline: &Deadline) -> Result<()> {
        self.existing()?.export(id, to, deadline)
    }

    /// Takes a snapshot in that [`Store::export`] wrote; it keeps its id. The store is locked when all of it has
    /// been read. A damaged snapshot of that id whose index is the same, or lost, is replaced by it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::AlreadyExists`] when the store holds that snapshot intact, or another of that id,
    /// [`crate::ErrorKind::Limit`] for a number far above the store's newest or an archive that is too large,
    /// [`crate::ErrorKind::Corrupt`] or [`crate::ErrorKind::Invalid`] for a bad archive.
    pub fn import(&self, from: &mut dyn Read, deadline: &Deadline) -> Result<Snapshot> {
        let mut spool = self.spool()?;
        spool.fill(from, deadline)?;
        let (vault, _lock) = self.change(deadline)?;
        vault.recover()?;
        vault.set_malformed_note_aside()?;
        vault.import(&spool, deadline)
    }

    /// Puts files of a snapshot back, all or nothing; what stood there is snapshotted first.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the index or a file is not the recorded one, [`crate::ErrorKind::Refused`]
    /// when kubelet would run a pod twice or may do, or the snapshot is of another node or cluster, the kinds of
    /// failed writes; then nothing is changed.
    pub fn restore(
        &self,
        id: &SnapshotId,
        selection: &Selection,
        options: &RestoreOptions,
        deadline: &Deadline,
    ) -> Result<RestoreReport> {
        let (vault, _lock) = self.change(deadline)?;
        vault.recover()?;
        vault.restore(id, selection, options, deadline)
    }

    /// Puts new files in place, all or nothing; what stood there is snapshotted first.
    ///
    /// # Errors
    /// As [`Store::restore`].
    pub fn install(
        &self,
        files: &[NewFile],
        options: &InstallOptions,
        deadline: &Deadline,
    ) -> Result<RestoreReport> {
        let (vault, _lock) = self.change(deadline)?;
        vault.recover()?;
        vault.install(files, options, deadline)
    }

    /// Takes a manifest out of kubelet's sight, durably, so that it can always be put back.
    ///
    /// `file_name` is the manifest's name in the manifests folder ([`crate::model::Component::manifest_file`]).
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such manifest, [`crate::ErrorKind::AlreadyExists`] when
    /// one of that name is held, [`crate::ErrorKind::Refused`] when kubelet runs its pod from another file too.
    pub fn hold(&self, file_name: &str, reason: &str, deadline: &Deadline) -> Result<Held> {
        let (vault, _lock) = self.change(deadline)?;
        vault.recover()?;
        vault.hold(file_name, reason, deadline)
    }

    /// Takes a file out that kubelet runs beside its pod's other manifest; [`Store::release`] undoes it.
    ///
    /// # Errors
    /// As [`Store::hold`]; [`crate::ErrorKind::Changed`] when it is the only manifest of its pod, and
    /// [`crate::ErrorKind::Refused`] when it is none.
    pub fn set_aside(&self, file_name: &str, reason: &str, deadline: &Deadline) -> Result<Held> {
        let (vault, _lock) = self.change(deadline)?;
        vault.recover()?;
        vault.set_aside(file_name, reason, deadline)
    }

    /// Puts a held manifest back under its own name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when it is not held, [`crate::ErrorKind::AlreadyExists`] when a
    /// different file of that name stands there, and [`crate::ErrorKind::Refused`] when another file has come for
    /// its pod; both are kept.
    pub fn release(&self, file_name: &str, deadline: &Deadline) -> Result<Held> {
        let (vault, _lock) = self.change(deadline)?;
        vault.recover()?;
        vault.release(file_name, deadline)
    }

    /// Lists the held manifests; those whose record cannot be read are in [`Store::unreadable_holds`].
    ///
    /// # Errors
    /// The kinds of a failed read.
    pub fn held(&self) -> Result<Vec<Held>> {
        match self.look()? {
            Some(vault) if vault.check_format()? => vault.held(),
            _ => Ok(Vec::new()),
        }
    }

    /// Lists the manifests that are held by a record that cannot be read.
    ///
    /// # Errors
    /// The kinds of a failed read of the store itself.
    pub fn unreadable_holds(&self) -> Result<Vec<UnreadableHold>> {
        match self.look()? {
            Some(vault) if vault.check_format()? => Ok(vault.holds()?.unreadable),
            _ => Ok(Vec::new()),
        }
    }

    /// Finishes or takes back what a crash left half done, and says what it did; runs on open too.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Busy`], and the kinds of failed writes.
    pub fn recover_pending(&self) -> Result<Vec<Recovered>> {
        self.recover_by(&Deadline::after(UNBOUNDED_WAIT))
    }

    fn recover_by(&self, deadline: &Deadline) -> Result<Vec<Recovered>> {
        if self.look()?.is_none() {
            return Ok(Vec::new());
        }
        let (vault, _lock) = self.change(deadline)?;
        vault.recover()
    }
}
