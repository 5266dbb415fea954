//! A snapshot as one tar stream.
//!
//! The archive holds the snapshot's folder as it is, `index.json` first, so that `tar x` and
//! `sha256sum -c SHA256SUMS` are all that a person needs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use super::describe::stored_attributes;
use super::fs::place::Place;
use super::fs::{FileSystem, Rename};
use super::proof::index_line;
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

    /// Takes a snapshot in; the store must be locked. Every digest is checked before it gets its name.
    pub(super) fn import(&self, from: &mut dyn Read, deadline: &Deadline) -> Result<Snapshot> {
        self.ensure_format()?;
        let mut archive = tar::Archive::new(from);
        let broken = |source| Error::with_source(ErrorKind::Invalid, "read archive", source);
        let mut entries = archive.entries().map_err(broken)?;
        let Some(first) = entries.next() else {
            return Err(Error::new(ErrorKind::Invalid, "the archive is empty"));
        };
        let mut first = first.map_err(broken)?;
        let (id, name) = split_path(&first.path().map_err(broken)?)?;
        if name != Path::new(INDEX) {
            return Err(Error::new(ErrorKind::Invalid, format!("the archive does not begin with {INDEX}")));
        }
        let index = read_entry(&mut first, MAX_INDEX_BYTES as u64)?;
        let snapshot = parse_index(&id, &index)?;
        let mut files = BTreeMap::new();
        for entry in &snapshot.entries {
            files.insert(entry.stored.as_path().to_owned(), entry);
        }
        self.take_in(&snapshot, &index, |unpack| {
            for entry in entries {
                deadline.check("import")?;
                let mut entry = entry.map_err(broken)?;
                let (inner, path) = split_path(&entry.path().map_err(broken)?)?;
                if inner != id {
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        format!("the archive holds {inner} beside {id}"),
                    ));
                }
                match files.get(&path) {
                    Some(known) if known.kind == EntryKind::File => {
                        let bytes = read_entry(&mut entry, known.size)?;
                        unpack(known, &bytes)?;
                    }
                    Some(_) => {}
                    None if path == Path::new(SUMS) => {
                        let sums = read_entry(&mut entry, MAX_INDEX_BYTES as u64)?;
                        if index_line(&sums).is_some_and(|recorded| recorded != Digest::of(&index)) {
                            let what = format!("{INDEX} does not have the digest that {SUMS} records");
                            return Err(Error::new(ErrorKind::Corrupt, what));
                        }
                    }
                    None => {
                        let path = path.display();
                        return Err(Error::new(ErrorKind::Invalid, format!("{path} is not in the index")));
                    }
                }
            }
            Ok(())
        })
    }

    /// Makes a snapshot out of an index and the files that `feed` hands over, in any order.
    pub(super) fn take_in(
        &self,
        snapshot: &Snapshot,
        index: &[u8],
        feed: impl FnOnce(&mut dyn FnMut(&Entry, &[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<Snapshot> {
        let snapshots = self.store.folder(SNAPSHOTS)?;
        let id = &snapshot.id;
        if snapshots.stat(id.as_str())?.is_some() {
            let same = self.load(id).is_ok_and(|known| known.sha256 == Digest::of(index));
            let text = if same { "is in the store already" } else { "is in the store with other content" };
            return Err(Error::new(ErrorKind::AlreadyExists, format!("snapshot {id} {text}")));
        }
        let staged = format!("{NEW}{id}");
        if snapshots.stat(&staged)?.is_some() {
            snapshots.remove_tree(OsStr::new(&staged), MAX_STORED_DEPTH + 1)?;
        }
        let top = snapshots.make_folder(&staged)?;
        let done = self.unpack(&top, snapshot, index, feed).and_then(|()| {
            self.sync_tree(&top, MAX_STORED_DEPTH)?;
            self.remember_absent(snapshot)?;
            snapshots.rename(&staged, &snapshots, id.as_str(), Rename::NoReplace)?;
            snapshots.sync()
        });
        if let Err(error) = done {
            let _ = snapshots.remove_tree(OsStr::new(&staged), MAX_STORED_DEPTH + 1);
            return Err(error.context(format!("take in snapshot {id}")));
        }
        Ok(snapshot.clone())
    }

    fn unpack(
        &self,
        top: &Place<'f, F>,
        snapshot: &Snapshot,
        index: &[u8],
        feed: impl FnOnce(&mut dyn FnMut(&Entry, &[u8]) -> Result<()>) -> Result<()>,
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
        feed(&mut |entry, bytes| {
            if Some(Digest::of(bytes)) != entry.sha256 {
                return Err(Error::new(ErrorKind::Corrupt, format!("{} has another digest", entry.stored)));
            }
            let place = ensure_path(top, &parent_of(entry))?;
            let name = entry.stored.as_path().file_name().unwrap_or_default();
            let file = place.create(name, bytes)?;
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

const fn owner_bits(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::Folder => 0o700,
        _ => 0o600,
    }
}

fn ensure_path<'f, F: FileSystem>(top: &Place<'f, F>, path: &Path) -> Result<Place<'f, F>> {
    path.iter().try_fold(top.clone(), |place, name| place.ensure_folder(name).map(|(inner, _)| inner))
}

/// Splits an archive's path into the snapshot's id and the path in it.
fn split_path(path: &Path) -> Result<(SnapshotId, PathBuf)> {
    let wrong = || Error::new(ErrorKind::Invalid, format!("the archive holds {}", path.display()));
    let mut parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    let Some(Component::Normal(id)) = parts.next() else { return Err(wrong()) };
    let id = id.to_str().ok_or_else(wrong)?.parse()?;
    let rest: PathBuf = parts.clone().collect();
    if parts.all(|part| matches!(part, Component::Normal(_))) { Ok((id, rest)) } else { Err(wrong()) }
}

fn read_entry(entry: &mut impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(limit.min(BUFFER as u64)).unwrap_or(BUFFER));
    entry
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| Error::with_source(ErrorKind::Invalid, "read archive", source))?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("a file of the archive is larger than {limit} bytes"),
        ));
    }
    Ok(bytes)
}
