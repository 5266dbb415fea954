//! A snapshot as one tar stream.
//!
//! The archive holds the snapshot's folder as it is, `index.json` first, so that `tar x` and
//! `sha256sum -c SHA256SUMS` are all that a person needs.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sha2::Digest as _;

use super::describe::stored_attributes;
use super::fs::place::Place;
use super::fs::{FileSystem, Rename};
use super::snapshot::{Entry, EntryKind, Snapshot, SnapshotId};
use super::vault::{
    BUFFER, INDEX, MAX_INDEX_BYTES, MAX_STORED_DEPTH, NEW, SNAPSHOTS, SUMS, Vault, parse_index, sums_of,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

#[allow(clippy::unused_self, reason = "the steps of one protocol are methods alike")]
impl<'f, F: FileSystem> Vault<'f, F> {
    /// Writes a snapshot that verifies as a tar stream.
    pub(super) fn export(&self, id: &SnapshotId, to: &mut dyn Write, deadline: &Deadline) -> Result<()> {
        let (top, index, snapshot) = self.open_intact(id, deadline)?;
        let mut tar = tar::Builder::new(to);
        let wrote = |source| Error::io(format!("write archive of snapshot {id}"), source);
        let time = snapshot.created_unix_s;
        let plain = |size: u64, kind: tar::EntryType, mode: u32| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_mode(mode);
            header.set_mtime(time);
            header
        };
        let sums = sums_of(&snapshot, &Digest::of(&index));
        for (name, bytes) in [(INDEX, &index), (SUMS, &sums)] {
            let mut header = plain(bytes.len() as u64, tar::EntryType::Regular, 0o600);
            tar.append_data(&mut header, Path::new(id.as_str()).join(name), bytes.as_slice())
                .map_err(wrote)?;
        }
        for entry in &snapshot.entries {
            deadline.check("export")?;
            let path = Path::new(id.as_str()).join(entry.stored.as_path());
            let kept = stored_attributes(entry.group, entry.attributes(), owner_bits(entry.kind));
            let kind = match entry.kind {
                EntryKind::File => tar::EntryType::Regular,
                EntryKind::Folder => tar::EntryType::Directory,
                EntryKind::Symlink => tar::EntryType::Symlink,
            };
            let mut header = plain(entry.size, kind, kept.mode);
            header.set_uid(entry.uid.into());
            header.set_gid(entry.gid.into());
            header.set_mtime(u64::try_from(entry.mtime_s).unwrap_or(0));
            match (&entry.target, entry.kind) {
                (Some(target), _) => {
                    tar.append_link(&mut header, path, target.as_path()).map_err(wrote)?;
                }
                (None, EntryKind::Folder) => {
                    tar.append_data(&mut header, path, std::io::empty()).map_err(wrote)?;
                }
                (None, _) => {
                    let bytes = self.stored_bytes(&top, entry)?;
                    tar.append_data(&mut header, path, bytes.as_slice()).map_err(wrote)?;
                }
            }
        }
        tar.finish().map_err(wrote)
    }

    /// Verifies a snapshot that is about to leave the store; returns its folder, the bytes of its index, and
    /// what they say.
    pub(super) fn open_intact(
        &self,
        id: &SnapshotId,
        deadline: &Deadline,
    ) -> Result<(Place<'f, F>, Vec<u8>, Snapshot)> {
        let report = self.verify(id, deadline)?;
        if let Some(damage) = report.damage.iter().find(|damage| !damage.is_harmless()) {
            return Err(Error::new(ErrorKind::Corrupt, format!("snapshot {id} is damaged: {damage:?}")));
        }
        let top = self.folder_of(id)?;
        let index = top.read(INDEX, MAX_INDEX_BYTES)?;
        let snapshot = parse_index(id, &index)?;
        Ok((top, index, snapshot))
    }

    /// Reads a stored file and checks its digest.
    pub(super) fn stored_bytes(&self, top: &Place<'f, F>, entry: &Entry) -> Result<Vec<u8>> {
        let stored = entry.stored.as_path();
        let (Some(parent), Some(name)) = (stored.parent(), stored.file_name()) else {
            return Err(Error::new(ErrorKind::Internal, format!("{} is no file", entry.stored)));
        };
        let limit = usize::try_from(entry.size).unwrap_or(usize::MAX);
        let bytes = top.folder(parent)?.read(name, limit)?;
        if Some(Digest::of(&bytes)) == entry.sha256 {
            return Ok(bytes);
        }
        let path = top.path.join(stored);
        Err(Error::new(ErrorKind::Corrupt, format!("{} does not have its recorded digest", path.display())))
    }

    /// Makes a snapshot out of an index and the files that `feed` hands over, in any order; a damaged one of the
    /// same index gives way to it.
    pub(super) fn take_in(
        &self,
        snapshot: &Snapshot,
        index: &[u8],
        feed: impl FnOnce(&mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>) -> Result<()>,
    ) -> Result<Snapshot> {
        let snapshots = self.own(SNAPSHOTS)?;
        let id = &snapshot.id;
        let mends = snapshots.stat(id.as_str())?.is_some();
        if mends {
            self.check_mendable(id, &Digest::of(index))?;
        } else {
            self.check_number(id)?;
        }
        let staged = format!("{NEW}{id}");
        if snapshots.stat(&staged)?.is_some() {
            snapshots.remove_tree(OsStr::new(&staged), MAX_STORED_DEPTH + 1)?;
        }
        let top = snapshots.make_folder(&staged)?;
        let done = self.unpack(&top, snapshot, index, feed).and_then(|()| {
            self.sync_tree(&top, MAX_STORED_DEPTH)?;
            self.remember_absent(snapshot)?;
            // Swapped in one step: no crash leaves the name without a snapshot, and the sweep removes what has the
            // staged one's name, which is the new one before and the damaged one after.
            let how = if mends { Rename::Exchange } else { Rename::NoReplace };
            snapshots.rename(&staged, &snapshots, id.as_str(), how)
        });
        if let Err(error) = done {
            let _ = snapshots.remove_tree(OsStr::new(&staged), MAX_STORED_DEPTH + 1);
            return Err(error.context(format!("take in snapshot {id}")));
        }
        snapshots.sync().map_err(|error| error.context(format!("take in snapshot {id}")))?;
        if mends && let Err(error) = snapshots.remove_tree(OsStr::new(&staged), MAX_STORED_DEPTH + 1) {
            tracing::warn!(%error, "the damaged snapshot {id} is replaced, but what it was is not removed");
        }
        Ok(snapshot.clone())
    }

    /// Refuses to replace a snapshot that is intact, or that is another one of the same name.
    fn check_mendable(&self, id: &SnapshotId, index: &Digest) -> Result<()> {
        let exists = |text: &str| Err(Error::new(ErrorKind::AlreadyExists, format!("snapshot {id} {text}")));
        let known = match self.load(id) {
            Ok(known) => Some(known.sha256),
            // One of a newer version, or one that cannot be opened now, may be whole.
            Err(error) if error.kind() != ErrorKind::Corrupt && !is_of_the_disk(&error) => {
                return Err(error.context(format!("snapshot {id} is in the store")));
            }
            Err(_) => None,
        };
        let recorded = self.recorded_digests(id)?;
        if !known.iter().chain(&recorded).any(|digest| digest == index)
            && (known.is_some() || !recorded.is_empty())
        {
            return exists("is in the store with other content");
        }
        if known.is_some() && self.is_restorable(id) {
            return exists("is in the store already");
        }
        Ok(())
    }

    fn unpack(
        &self,
        top: &Place<'f, F>,
        snapshot: &Snapshot,
        index: &[u8],
        feed: impl FnOnce(&mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let mut folders = Vec::new();
        let parent_of =
            |entry: &Entry| entry.stored.as_path().parent().map(Path::to_owned).unwrap_or_default();
        for entry in &snapshot.entries {
            if entry.kind == EntryKind::Folder {
                let place = ensure_path(top, entry.stored.as_path())?;
                folders.push((place, stored_attributes(entry.group, entry.attributes(), 0o700)));
            }
            if let (EntryKind::Symlink, Some(target)) = (entry.kind, &entry.target) {
                let place = ensure_path(top, &parent_of(entry))?;
                let name = entry.stored.as_path().file_name().unwrap_or_default();
                let made = self.fs.make_symlink(&place.handle, name, target, &entry.attributes());
                place.told("make symbolic link", name, made)?;
            }
        }
        let mut missing: std::collections::BTreeSet<PathBuf> = snapshot
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::File)
            .map(|entry| entry.stored.as_path().to_owned())
            .collect();
        let mut buffer = vec![0; BUFFER];
        feed(&mut |entry, from| {
            let place = ensure_path(top, &parent_of(entry))?;
            let name = entry.stored.as_path().file_name().unwrap_or_default();
            let file = place.told("create", name, self.fs.create(&place.handle, name))?;
            copy_checked(from, entry, &mut buffer, |part| {
                place.told("write", name, self.fs.write(&file, part))
            })?;
            let kept = stored_attributes(entry.group, entry.attributes(), 0o600);
            place.told("set attributes of", name, self.fs.set_attributes(&file, &kept))?;
            missing.remove(entry.stored.as_path());
            Ok(())
        })?;
        if let Some(first) = missing.first() {
            let (count, first) = (missing.len(), first.display());
            return Err(Error::new(ErrorKind::Corrupt, format!("{count} files are missing, {first} first")));
        }
        top.create(INDEX, index)?;
        top.create(SUMS, &sums_of(snapshot, &Digest::of(index)))?;
        folders.iter().rev().try_for_each(|(place, attributes)| place.set_attributes(attributes))
    }
}

/// Hands the bytes of a file on, and fails when they are not the recorded ones; no more are read than it has.
fn copy_checked(
    from: &mut dyn Read,
    entry: &Entry,
    buffer: &mut [u8],
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let stored = &entry.stored;
    let mut hash = sha2::Sha256::new();
    let mut from = from.take(entry.size.saturating_add(1));
    let mut size = 0_u64;
    loop {
        let count = match from.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(format!("read {stored}"), error)),
        };
        size += count as u64;
        if size > entry.size {
            let text = format!("{stored} is larger than its {} bytes", entry.size);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        let part = buffer.get(..count).unwrap_or_default();
        hash.update(part);
        sink(part)?;
    }
    if Some(Digest::from_bytes(hash.finalize().into())) == entry.sha256 && size == entry.size {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, format!("{stored} has another digest")))
}

/// Reports whether what is there cannot be read whoever reads it.
fn is_of_the_disk(error: &Error) -> bool {
    [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA]
        .iter()
        .any(|errno| error.os_error() == Some(errno.raw_os_error()))
}

const fn owner_bits(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::Folder => 0o700,
        _ => 0o600,
    }
}

fn ensure_path<'f, F: FileSystem>(top: &Place<'f, F>, path: &Path) -> Result<Place<'f, F>> {
    path.iter().try_fold(top.clone(), |place, name| place.ensure_folder(name).map(|(inner, _)| inner))
}
