//! Copying a snapshot to a remote.

use std::collections::BTreeSet;

use serde::Serialize;

use super::pointer::{MAX_POINTER_BYTES, Pointer, name_of, node_part};
use super::{PutOutcome, RemoteObjects, RemoteSnapshot, blob_name};
use crate::backup::fs::FileSystem;
use crate::backup::vault::Vault;
use crate::backup::{EntryKind, SnapshotId};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// What a copy to a remote did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PushReport {
    /// The snapshot as the remote knows it.
    pub snapshot: RemoteSnapshot,
    /// The digest of its index: who keeps it elsewhere can tell that the remote was not exchanged.
    pub index_sha256: Digest,
    /// Objects that the remote did not have.
    pub created: usize,
    /// Objects that it had; each was read back and has its digest.
    pub reused: usize,
    /// Objects that it had with other bytes, and that were mended.
    pub mended: usize,
    /// Bytes that were sent.
    pub sent_bytes: u64,
}

impl<F: FileSystem> Vault<'_, F> {
    /// Copies a snapshot that verifies; its name is put last.
    pub(in crate::backup) fn push(
        &self,
        id: &SnapshotId,
        remote: &dyn RemoteObjects,
        deadline: &Deadline,
    ) -> Result<PushReport> {
        let (top, index, snapshot) = self.open_intact(id, deadline)?;
        let pointer = Pointer::new(&snapshot, &index);
        let node = node_part(snapshot.node.as_deref());
        let mut report = PushReport {
            snapshot: RemoteSnapshot { node, id: id.clone() },
            index_sha256: pointer.index_sha256,
            created: 0,
            reused: 0,
            mended: 0,
            sent_bytes: 0,
        };
        let name = name_of(&report.snapshot);
        check_pointer(remote, &name, &pointer, &report.snapshot, deadline)?;
        let mut sent = BTreeSet::new();
        for entry in snapshot.entries.iter().filter(|entry| entry.kind == EntryKind::File) {
            if entry.sha256.is_some_and(|digest| sent.insert(digest)) {
                // The digest is checked here too: a file may have rotted since it was verified.
                report.put_blob(remote, self.stored_bytes(&top, entry)?, deadline)?;
            }
        }
        report.put_blob(remote, index, deadline)?;
        let bytes = pointer.to_bytes()?;
        if remote.put_new(&name, bytes, deadline)? == PutOutcome::Existed {
            check_pointer(remote, &name, &pointer, &report.snapshot, deadline)?;
        }
        Ok(report)
    }
}

impl PushReport {
    /// Puts an object under the name of its content unless it is there, which is told by reading it; one with
    /// other bytes is mended.
    fn put_blob(&mut self, remote: &dyn RemoteObjects, bytes: Vec<u8>, deadline: &Deadline) -> Result<()> {
        let digest = Digest::of(&bytes);
        let (name, size) = (blob_name(&digest), bytes.len() as u64);
        let stands = |error: Error| match error.kind() {
            ErrorKind::NotFound => Ok(None),
            ErrorKind::Limit => Ok(Some(false)),
            _ => Err(error),
        };
        let fetched = || remote.fetch(&name, size, deadline);
        let mut there = fetched().map(|there| Some(Digest::of(&there) == digest)).or_else(stands)?;
        if there.is_none() {
            self.sent_bytes += size;
            if remote.put_new(&name, bytes.clone(), deadline)? == PutOutcome::Created {
                self.created += 1;
                return Ok(());
            }
            // Someone else put it there in between.
            there = fetched().map(|there| Some(Digest::of(&there) == digest)).or_else(stands)?;
        }
        if there == Some(true) {
            self.reused += 1;
            return Ok(());
        }
        tracing::warn!(object = %name, "the remote's object does not have its digest and is mended");
        remote.replace(&name, bytes, deadline)?;
        self.mended += 1;
        self.sent_bytes += size;
        Ok(())
    }
}

/// Fails when the remote has another snapshot of that name.
fn check_pointer(
    remote: &dyn RemoteObjects,
    name: &str,
    pointer: &Pointer,
    of: &RemoteSnapshot,
    deadline: &Deadline,
) -> Result<()> {
    let there = match remote.fetch(name, MAX_POINTER_BYTES, deadline) {
        Ok(bytes) => Pointer::parse(of, &bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if there == *pointer {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        format!("the remote has another snapshot {} of node {}; it is kept", of.id, of.node),
    ))
}
