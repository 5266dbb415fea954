//! Sharing equal files with an earlier snapshot of the same store.

use std::collections::HashMap;
use std::ffi::OsStr;

use super::describe::stored_attributes;
use super::fs::place::Place;
use super::fs::{Attributes, FileSystem, Kind};
use super::snapshot::{Entry, EntryKind, Link, NodePath, Snapshot, SnapshotId};
use super::vault::{SNAPSHOTS, Vault};
use crate::error::Result;
use crate::model::Digest;

/// How many earlier snapshots are searched for equal files.
const SEARCHED: usize = 32;

/// The files of earlier snapshots by content.
pub(super) struct Earlier<'f, F: FileSystem> {
    snapshots: Option<Place<'f, F>>,
    files: HashMap<Digest, Vec<(SnapshotId, NodePath, Attributes)>>,
}

#[allow(clippy::unused_self, reason = "the steps of one protocol are methods alike")]
impl<'f, F: FileSystem> Earlier<'f, F> {
    /// Collects the files of the newest of the snapshots `ids`; `newest` has been read already.
    ///
    /// Damaged snapshots are passed over: making a new one must not depend on the old.
    pub(super) fn collect(
        vault: &Vault<'f, F>,
        ids: Vec<SnapshotId>,
        newest: Option<&Snapshot>,
    ) -> Result<Self> {
        let mut earlier = Self { snapshots: vault.part(SNAPSHOTS)?, files: HashMap::new() };
        if let Some(newest) = newest {
            earlier.add(newest);
        }
        let older = ids.into_iter().rev().filter(|id| newest.is_none_or(|n| n.id != *id));
        for id in older.take(SEARCHED) {
            if let Ok(indexed) = vault.load(&id) {
                earlier.add(&indexed.snapshot);
            }
        }
        Ok(earlier)
    }

    fn add(&mut self, snapshot: &Snapshot) {
        for entry in snapshot.entries.iter().filter(|entry| entry.kind == EntryKind::File) {
            let Some(digest) = entry.sha256 else { continue };
            let kept = stored_attributes(entry.group, entry.attributes(), 0o600);
            let known = self.files.entry(digest).or_default();
            if !known.iter().any(|(_, _, attributes)| *attributes == kept) {
                known.push((snapshot.id.clone(), entry.stored.clone(), kept));
            }
        }
    }

    /// Gives an earlier file with the same bytes and attributes the name `name` in `into` as well.
    ///
    /// The earlier file is compared byte by byte first, with `bytes` or, without them, with the copy
    /// that stands under `name` already: what has rotted must not become the new snapshot's too.
    pub(super) fn share(
        &self,
        entry: &Entry,
        kept: &Attributes,
        into: &Place<'f, F>,
        name: &OsStr,
        bytes: Option<&[u8]>,
        buffer: &mut [u8],
    ) -> Option<Link> {
        let found = entry.sha256.and_then(|digest| self.files.get(&digest));
        let (snapshot, stored, _) =
            found.and_then(|known| known.iter().find(|(_, _, attributes)| attributes == kept))?;
        let Some(snapshots) = &self.snapshots else { return None };
        match self.try_share(snapshots, snapshot, stored, kept, entry, (into, name), bytes, buffer) {
            Ok(true) => Some(Link { snapshot: snapshot.clone(), stored: stored.clone() }),
            Ok(false) => {
                tracing::warn!(snapshot = %snapshot, file = %stored, "earlier copy is damaged, not shared");
                None
            }
            Err(error) => {
                // EMLINK, EXDEV, an unreadable old file: a copy of its own is always right.
                tracing::debug!(%error, "earlier copy not shared");
                None
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one private call, split off for its early returns")]
    fn try_share(
        &self,
        snapshots: &Place<'f, F>,
        snapshot: &SnapshotId,
        stored: &NodePath,
        kept: &Attributes,
        entry: &Entry,
        (into, name): (&Place<'f, F>, &OsStr),
        bytes: Option<&[u8]>,
        buffer: &mut [u8],
    ) -> Result<bool> {
        let path = std::path::Path::new(snapshot.as_str()).join(stored.as_path());
        let (Some(parent), Some(file_name)) = (path.parent(), path.file_name()) else { return Ok(false) };
        let folder = snapshots.folder(parent)?;
        let (file, stat) = folder.open_file(file_name)?;
        let same = stat.size == entry.size
            && (stat.mode, stat.uid, stat.gid, stat.modified)
                == (kept.mode, kept.uid, kept.gid, kept.modified)
            && folder.told("read extended attributes of", file_name, folder.fs.xattrs(&file))? == kept.xattrs;
        if !same {
            return Ok(false);
        }
        if let Some(bytes) = bytes {
            let mut rest = bytes;
            let mut equal = true;
            folder.stream(file_name, &file, entry.size, buffer, |chunk| {
                match rest.strip_prefix(chunk) {
                    Some(after) => rest = after,
                    None => equal = false,
                }
                Ok(())
            })?;
            if !equal || !rest.is_empty() {
                return Ok(false);
            }
            folder.told("link", file_name, folder.fs.link(&folder.handle, file_name, &into.handle, name))?;
        } else {
            use sha2::Digest as _;
            let mut hash = sha2::Sha256::new();
            folder.stream(file_name, &file, entry.size, buffer, |chunk| {
                hash.update(chunk);
                Ok(())
            })?;
            if Some(Digest::from_bytes(hash.finalize().into())) != entry.sha256 {
                return Ok(false);
            }
            // The new copy keeps its name until the link is there to take it.
            let staged = format!(".cprecover-link-{}", Digest::of(name.as_encoded_bytes()));
            let staged = OsStr::new(&staged);
            folder.told(
                "link",
                file_name,
                folder.fs.link(&folder.handle, file_name, &into.handle, staged),
            )?;
            into.rename(staged, into, name, super::fs::Rename::Replace)?;
        }
        debug_assert!(stat.kind == Kind::File);
        Ok(true)
    }
}

impl Entry {
    /// Returns what a restore sets besides the content.
    pub(super) fn attributes(&self) -> Attributes {
        Attributes {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            modified: (self.mtime_s, self.mtime_ns),
            xattrs: self.xattrs.clone(),
        }
    }
}
