//! Taking a snapshot in from a remote.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::pointer::{MAX_POINTER_BYTES, Pointer, name_of};
use super::{PushReport, RemoteObjects, RemoteSnapshot, blob_name, list_remote};
use crate::backup::fs::FileSystem;
use crate::backup::number::{CLOCK_SLACK_S, of_number};
use crate::backup::spool::{MAX_SPOOLED_BYTES, Spool};
use crate::backup::vault::{MAX_INDEX_BYTES, Vault, parse_index};
use crate::backup::{EntryKind, Snapshot, SnapshotId, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// How many snapshots are asked for while the last known good is looked for.
const MAX_ASKED: usize = 1000;

impl Store {
    /// Copies a snapshot that verifies to a remote; what the remote has already is read back and, where it is
    /// whole, not sent again.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] when the snapshot does not verify,
    /// [`crate::ErrorKind::AlreadyExists`] when the remote has another snapshot of that id, and the kinds
    /// of a failed call of the remote; then the remote's list of snapshots is as it was.
    pub fn push(
        &self,
        id: &SnapshotId,
        remote: &dyn RemoteObjects,
        deadline: &Deadline,
    ) -> Result<PushReport> {
        let doing = |error: Error| error.context(format!("copy snapshot {id} to the remote"));
        self.existing()?.push(id, remote, deadline).map_err(doing)
    }

    /// Takes a snapshot in from a remote; it keeps its id, and every digest is checked first. The store is locked
    /// when all of it is on this machine.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when the remote does not have it,
    /// [`crate::ErrorKind::Corrupt`] when an object does not have its digest,
    /// [`crate::ErrorKind::AlreadyExists`] when the store has that snapshot intact, or another of that id; then the
    /// store is as it was. A damaged copy is replaced.
    pub fn pull(
        &self,
        from: &RemoteSnapshot,
        remote: &dyn RemoteObjects,
        deadline: &Deadline,
    ) -> Result<Snapshot> {
        let doing = |error: Error| {
            error.context(format!("take snapshot {} of node {} from the remote", from.id, from.node))
        };
        let fetched = Fetched::of(from, self.spool()?, remote, deadline).map_err(doing)?;
        let (vault, _lock) = self.change(deadline)?;
        vault.recover()?;
        vault.set_malformed_note_aside()?;
        vault.take_fetched(&fetched, deadline).map_err(doing)
    }

    /// Finds a snapshot of a remote by id, number, `latest` or `last-known-good`.
    ///
    /// The latest is the one with the latest time, since numbers begin again where a node lost its store; a time
    /// that lies ahead is that of a wrong clock and comes last. Without `node`, it is this store's node, or the
    /// only one that the remote has.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is none, [`crate::ErrorKind::Missing`] when the remote
    /// has several nodes, or several snapshots of that number, and it is not said which.
    pub fn resolve_remote(
        &self,
        name: &str,
        node: Option<&str>,
        remote: &dyn RemoteObjects,
        deadline: &Deadline,
    ) -> Result<RemoteSnapshot> {
        let mut all = list_remote(remote, deadline)?;
        if let Some(node) = node.or(self.node_name()) {
            let node = super::pointer::node_part(Some(node));
            all.retain(|snapshot| snapshot.node == node);
        }
        let mut nodes: Vec<&str> = all.iter().map(|snapshot| snapshot.node.as_str()).collect();
        nodes.dedup();
        if nodes.len() > 1 {
            return Err(Error::new(
                ErrorKind::Missing,
                format!("the remote has snapshots of {}; say of which node", nodes.join(", ")),
            ));
        }
        let ahead = SnapshotId::new(0, self.clock.unix().as_secs().saturating_add(CLOCK_SLACK_S));
        all.sort_by_key(|snapshot| snapshot.id.time() <= ahead.time());
        let mut newest_first = all.into_iter().rev();
        let found = match (name, name.parse::<u32>()) {
            ("latest", _) => newest_first.next(),
            ("last-known-good", _) => good(newest_first.take(MAX_ASKED), remote, deadline)?,
            (_, Ok(number)) => {
                let ids = newest_first.clone().map(|snapshot| snapshot.id);
                let id = of_number(ids, number)?;
                newest_first.find(|snapshot| Some(&snapshot.id) == id.as_ref())
            }
            _ => {
                let id: SnapshotId = name.parse()?;
                newest_first.find(|snapshot| snapshot.id == id)
            }
        };
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the remote has no snapshot {name:?} of this node"))
        })
    }
}

fn good(
    newest_first: impl Iterator<Item = RemoteSnapshot>,
    remote: &dyn RemoteObjects,
    deadline: &Deadline,
) -> Result<Option<RemoteSnapshot>> {
    for snapshot in newest_first {
        deadline.check("look for the last known good")?;
        let bytes = remote.fetch(&name_of(&snapshot), MAX_POINTER_BYTES, deadline)?;
        // A malformed one is passed over; asking for it by its id tells what is wrong.
        if Pointer::parse(&snapshot, &bytes).is_ok_and(|pointer| pointer.health_verified) {
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}

/// A snapshot that was fetched whole.
struct Fetched {
    snapshot: Snapshot,
    index: Vec<u8>,
    spool: Spool,
    /// Where each content begins in the spool.
    contents: BTreeMap<Digest, u64>,
}

impl Fetched {
    fn of(
        from: &RemoteSnapshot,
        mut spool: Spool,
        remote: &dyn RemoteObjects,
        deadline: &Deadline,
    ) -> Result<Self> {
        let pointer = remote.fetch(&name_of(from), MAX_POINTER_BYTES, deadline)?;
        let pointer = Pointer::parse(from, &pointer)?;
        if pointer.index_bytes > MAX_INDEX_BYTES as u64 {
            return Err(Error::new(ErrorKind::Limit, "the index is larger than any that is read"));
        }
        let index = fetch_blob(remote, &pointer.index_sha256, pointer.index_bytes, deadline)?;
        let snapshot = parse_index(&from.id, &index)?;
        if snapshot.health_verified != pointer.health_verified {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "its remote object and its index disagree on whether health was verified",
            ));
        }
        // Each entry is unpacked into a file of its own, also where many have the same content.
        let files = snapshot.entries.iter().filter(|entry| entry.kind == EntryKind::File);
        let total = files.fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
        if total > MAX_SPOOLED_BYTES {
            let text = format!(
                "its files come to {total} bytes, more than the {MAX_SPOOLED_BYTES} that are taken in at once"
            );
            return Err(Error::new(ErrorKind::Limit, text));
        }
        let mut contents = BTreeMap::new();
        for entry in snapshot.entries.iter().filter(|entry| entry.kind == EntryKind::File) {
            deadline.check("fetch files")?;
            if let Some(digest) = &entry.sha256
                && !contents.contains_key(digest)
            {
                contents.insert(*digest, spool.append(&fetch_blob(remote, digest, entry.size, deadline)?)?);
            }
        }
        Ok(Self { snapshot, index, spool, contents })
    }
}

impl<F: FileSystem> Vault<'_, F> {
    fn take_fetched(&self, fetched: &Fetched, deadline: &Deadline) -> Result<Snapshot> {
        self.ensure_format()?;
        self.take_in(&fetched.snapshot, &fetched.index, |unpack| {
            for entry in fetched.snapshot.entries.iter().filter(|entry| entry.kind == EntryKind::File) {
                deadline.check("take in files")?;
                let at = entry.sha256.as_ref().and_then(|digest| fetched.contents.get(digest));
                let mut content = fetched.spool.read_from(at.copied().unwrap_or_default())?.take(entry.size);
                unpack(entry, &mut content)?;
            }
            Ok(())
        })
    }
}

/// Reads the object of that content; any other content is an error.
fn fetch_blob(
    remote: &dyn RemoteObjects,
    digest: &Digest,
    size_bytes: u64,
    deadline: &Deadline,
) -> Result<Vec<u8>> {
    let name = blob_name(digest);
    let bytes = match remote.fetch(&name, size_bytes, deadline) {
        // The snapshot names it, so that its absence is damage and not an answer.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::with_source(ErrorKind::Corrupt, format!("remote object {name}"), error));
        }
        Err(error) if error.kind() == ErrorKind::Limit => {
            return Err(Error::with_source(ErrorKind::Corrupt, format!("remote object {name}"), error));
        }
        other => other?,
    };
    if Digest::of(&bytes) == *digest && bytes.len() as u64 == size_bytes {
        return Ok(bytes);
    }
    Err(Error::new(ErrorKind::Corrupt, format!("remote object {name} does not have its digest")))
}
