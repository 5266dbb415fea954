//! Copying a node's files into a new snapshot: read once, hashed while they are read.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::dedup::Earlier;
use super::describe::{attributes_of, entry, plain_attributes, stored_attributes, view_of};
use super::fs::place::{MAX_NAMES, Place, split};
use super::fs::{Attributes, FileSystem, Kind, Stat};
use super::group::{Group, Shape, Source};
use super::journal::Standing;
use super::snapshot::{Entry, EntryKind, NodePath, Skipped};
use super::vault::{MAX_DEPTH, OURS, SYNC_EACH_UP_TO};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// Files up to this size are read whole before anything is written, so that a shared one never is.
const WHOLE_BYTES: u64 = 1 << 20;
/// The largest file that is taken.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// What has been copied so far.
pub(super) struct Gathered<'d, 'f, F: FileSystem> {
    pub(super) entries: Vec<Entry>,
    pub(super) skipped: Vec<Skipped>,
    /// Copied files that are not on stable storage yet, up to [`SYNC_EACH_UP_TO`] of them.
    pub(super) unsynced: Vec<F::Handle>,
    /// How many files were written, whether or not their handle was kept.
    pub(super) written: usize,
    /// The new snapshot's folders, each after the one that it is in.
    pub(super) folders: Vec<Place<'f, F>>,
    /// How many folders were made, whether or not they are in `folders`.
    pub(super) folder_count: usize,
    /// Attributes that folders get once their content is there.
    later: Vec<(Place<'f, F>, Attributes)>,
    /// What was read, to be looked at again at the end.
    watched: Vec<(PathBuf, Stat)>,
    /// Files whose times cannot tell whether they were written while they were read.
    fresh: Vec<(PathBuf, Digest)>,
    earlier: &'d Earlier<'f, F>,
    deadline: &'d Deadline,
    buffer: Vec<u8>,
}

/// A folder of the node together with the folder of the snapshot that its files go to.
struct Pair<'p, 'f, F: FileSystem> {
    group: Group,
    from: &'p Place<'f, F>,
    /// `from`'s path on the node.
    on_node: &'p Path,
    into: &'p Place<'f, F>,
    /// `into`'s path in the snapshot.
    stored: &'p Path,
}

impl<'d, 'f, F: FileSystem> Gathered<'d, 'f, F> {
    pub(super) fn new(earlier: &'d Earlier<'f, F>, deadline: &'d Deadline) -> Self {
        Self {
            entries: Vec::new(),
            skipped: Vec::new(),
            unsynced: Vec::new(),
            written: 0,
            folders: Vec::new(),
            folder_count: 0,
            later: Vec::new(),
            watched: Vec::new(),
            fresh: Vec::new(),
            earlier,
            deadline,
            buffer: vec![0; 256 * 1024],
        }
    }

    /// Copies one source into the snapshot's folder `top`; a source that is not there has no files.
    pub(super) fn take(&mut self, root: &Place<'f, F>, top: &Place<'f, F>, source: &Source) -> Result<()> {
        let (folder, name) = split(&source.path)?;
        let Some(folder) = root.folder_if_any(folder)? else { return Ok(()) };
        let Some(stat) = folder.stat(name)? else { return Ok(()) };
        if source.shape == Shape::ConfFiles {
            return self.take_conf_files(&folder.folder(name)?, top, source);
        }
        if stat.kind == Kind::Folder {
            let from = folder.folder(name)?;
            return self.take_folder(source.group, &from, &source.path, top, &source.stored, MAX_DEPTH);
        }
        let Some(parent) = source.stored.parent() else { return Ok(()) };
        let into = self.make_path(top, parent)?;
        let pair = Pair {
            group: source.group,
            from: &folder,
            on_node: source.path.parent().unwrap_or(Path::new("/")),
            into: &into,
            stored: parent,
        };
        self.take_name(&pair, name, MAX_DEPTH)
    }

    fn take_conf_files(&mut self, from: &Place<'f, F>, top: &Place<'f, F>, source: &Source) -> Result<()> {
        let conf = |name: &OsString| Path::new(name).extension() == Some(OsStr::new("conf"));
        let names: Vec<OsString> = from.list()?.into_iter().filter(conf).collect();
        if names.is_empty() {
            return Ok(());
        }
        let into = self.make_path(top, &source.stored)?;
        let pair =
            Pair { group: source.group, from, on_node: &source.path, into: &into, stored: &source.stored };
        for name in names {
            let folder = from.stat(&name)?.is_some_and(|stat| stat.kind == Kind::Folder);
            if !folder {
                self.take_name(&pair, &name, MAX_DEPTH)?;
            }
        }
        Ok(())
    }

    /// Opens the folders of `path` in the new snapshot, making those that are missing.
    fn make_path(&mut self, top: &Place<'f, F>, path: &Path) -> Result<Place<'f, F>> {
        let mut place = top.clone();
        for name in path {
            let (inner, new) = place.ensure_folder(name)?;
            if new {
                self.note_folder(&inner);
            }
            place = inner;
        }
        Ok(place)
    }

    fn note_folder(&mut self, place: &Place<'f, F>) {
        self.folder_count += 1;
        if self.folders.len() < SYNC_EACH_UP_TO {
            self.folders.push(place.clone());
        }
    }

    fn take_folder(
        &mut self,
        group: Group,
        from: &Place<'f, F>,
        on_node: &Path,
        top: &Place<'f, F>,
        stored: &Path,
        depth: usize,
    ) -> Result<()> {
        let stat = from.told("stat", "", from.fs.describe(&from.handle))?;
        let into = self.make_path(top, stored)?;
        let attributes = attributes_of(from, &from.handle, "", &stat)?;
        self.watched.push((on_node.to_owned(), stat));
        self.entries.push(entry(group, on_node, stored, EntryKind::Folder, &attributes));
        let pair = Pair { group, from, on_node, into: &into, stored };
        for name in from.list()? {
            self.take_name(&pair, &name, depth)?;
        }
        self.set_later(into, stored_attributes(group, attributes, 0o700))
    }

    /// A folder's time is set when its files are there; few handles are kept open for that.
    fn set_later(&mut self, place: Place<'f, F>, attributes: Attributes) -> Result<()> {
        if self.later.len() < SYNC_EACH_UP_TO {
            self.later.push((place, attributes));
            return Ok(());
        }
        place.set_attributes(&attributes)
    }

    fn take_name(&mut self, pair: &Pair<'_, 'f, F>, name: &OsStr, depth: usize) -> Result<()> {
        self.deadline.check("snapshot")?;
        if self.entries.len() >= MAX_NAMES {
            return Err(Error::new(ErrorKind::Limit, format!("more than {MAX_NAMES} files in a snapshot")));
        }
        if name.as_encoded_bytes().starts_with(OURS.as_bytes()) {
            return Ok(());
        }
        let on_node = pair.on_node.join(name);
        // A name that went away since the folder was listed changed the folder, which is seen at the end.
        let Some(stat) = pair.from.stat(name)? else { return Err(changed(&on_node)) };
        match stat.kind {
            Kind::File => self.take_file(pair, name, on_node),
            Kind::Folder if depth == 0 => {
                Err(Error::new(ErrorKind::Limit, format!("{} is nested too deep", on_node.display())))
            }
            Kind::Folder => {
                let inner = pair.from.folder(name)?;
                let into = pair.into.make_folder(name)?;
                self.note_folder(&into);
                let attributes = attributes_of(&inner, &inner.handle, "", &stat)?;
                self.watched.push((on_node.clone(), stat));
                let stored = pair.stored.join(name);
                self.entries.push(entry(pair.group, &on_node, &stored, EntryKind::Folder, &attributes));
                let group = pair.group;
                let pair = Pair { group, from: &inner, on_node: &on_node, into: &into, stored: &stored };
                for name in inner.list()? {
                    self.take_name(&pair, &name, depth - 1)?;
                }
                self.set_later(into, stored_attributes(group, attributes, 0o700))
            }
            Kind::Symlink => self.take_symlink(pair, name, &on_node, &stat),
            Kind::Other => {
                let reason = "neither a file, a folder nor a symbolic link".to_owned();
                self.skipped.push(Skipped { path: NodePath::new(&on_node), reason });
                Ok(())
            }
        }
    }

    fn take_symlink(
        &mut self,
        pair: &Pair<'_, 'f, F>,
        name: &OsStr,
        on_node: &Path,
        stat: &Stat,
    ) -> Result<()> {
        let target = pair.from.read_link(name)?;
        let attributes = plain_attributes(stat);
        let made = pair.into.fs.make_symlink(&pair.into.handle, name, &target, &attributes);
        pair.into.told("make symbolic link", name, made)?;
        let mut entry = entry(pair.group, on_node, &pair.stored.join(name), EntryKind::Symlink, &attributes);
        entry.target = Some(target);
        self.entries.push(entry);
        self.watched.push((on_node.to_owned(), *stat));
        Ok(())
    }

    fn take_file(&mut self, pair: &Pair<'_, 'f, F>, name: &OsStr, on_node: PathBuf) -> Result<()> {
        let (file, before) = pair.from.open_file(name)?;
        let attributes = attributes_of(pair.from, &file, name, &before)?;
        let mut entry = entry(pair.group, &on_node, &pair.stored.join(name), EntryKind::File, &attributes);
        let kept = stored_attributes(pair.group, attributes, 0o600);
        if before.size <= WHOLE_BYTES {
            self.take_small(pair, name, &file, &before, &mut entry, &kept)?;
        } else {
            self.take_large(pair, name, &file, &mut entry, &kept)?;
        }
        let after = pair.from.told("stat", name, pair.from.fs.describe(&file))?;
        if !before.is_untouched(&after) || after.size != entry.size {
            return Err(changed(&on_node));
        }
        if let Some(digest) = entry.sha256
            && pair.from.fs.may_hide_a_write(&before)
        {
            self.fresh.push((on_node.clone(), digest));
        }
        self.watched.push((on_node, before));
        self.entries.push(entry);
        Ok(())
    }

    fn take_small(
        &mut self,
        pair: &Pair<'_, 'f, F>,
        name: &OsStr,
        file: &F::Handle,
        stat: &Stat,
        entry: &mut Entry,
        kept: &Attributes,
    ) -> Result<()> {
        let mut bytes = Vec::with_capacity(usize::try_from(stat.size).unwrap_or(0) + 1);
        let limit = WHOLE_BYTES * 2;
        entry.size = pair.from.stream(name, file, limit, &mut self.buffer, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        entry.sha256 = Some(Digest::of(&bytes));
        if pair.group == Group::Manifests {
            entry.view = view_of(&bytes);
        }
        entry.link = self.earlier.share(entry, kept, pair.into, name, Some(&bytes), &mut self.buffer);
        if entry.link.is_none() {
            let copy = pair.into.create(name, &bytes)?;
            pair.into.told("set attributes of", name, pair.into.fs.set_attributes(&copy, kept))?;
            self.note_file(copy, pair.into.fs);
        }
        Ok(())
    }

    fn take_large(
        &mut self,
        pair: &Pair<'_, 'f, F>,
        name: &OsStr,
        file: &F::Handle,
        entry: &mut Entry,
        kept: &Attributes,
    ) -> Result<()> {
        let copy = pair.into.create(name, &[])?;
        let mut hash = sha2::Sha256::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        entry.size = pair.from.stream(name, file, MAX_FILE_BYTES, &mut buffer, |chunk| {
            self.deadline.check("snapshot")?;
            hash.update(chunk);
            pair.into.told("write", name, pair.into.fs.write(&copy, chunk))
        })?;
        self.buffer = buffer;
        entry.sha256 = Some(Digest::from_bytes(hash.finalize().into()));
        entry.link = self.earlier.share(entry, kept, pair.into, name, None, &mut self.buffer);
        if entry.link.is_none() {
            pair.into.told("set attributes of", name, pair.into.fs.set_attributes(&copy, kept))?;
            self.note_file(copy, pair.into.fs);
        }
        Ok(())
    }

    fn note_file(&mut self, file: F::Handle, fs: &F) {
        self.written += 1;
        fs.start_writeback(&file);
        if self.unsynced.len() < SYNC_EACH_UP_TO {
            self.unsynced.push(file);
        }
    }

    /// Sets what folders could not be given before their content; innermost first.
    pub(super) fn finish_folders(&mut self) -> Result<()> {
        self.later.drain(..).rev().try_for_each(|(place, attributes)| place.set_attributes(&attributes))
    }

    /// Fails when anything that was read has changed since: the files then are of different times.
    pub(super) fn check_untouched(&mut self, root: &Place<'f, F>) -> Result<()> {
        self.read_again(root)?;
        let mut folder: Option<(&Path, Place<'f, F>)> = None;
        for (path, before) in &self.watched {
            let (parent, name) = split(path)?;
            let place = match folder.take() {
                Some((path, place)) if path == parent => place,
                _ => root.folder(parent)?,
            };
            let now = place.stat(name)?;
            if !now.is_some_and(|now| before.is_untouched(&now)) {
                return Err(changed(path));
            }
            folder = Some((parent, place));
        }
        Ok(())
    }
}

impl<'f, F: FileSystem> Gathered<'_, 'f, F> {
    /// Reads those files again that were written so shortly before that a write meanwhile may have
    /// left no trace in their times; one after this leaves it.
    fn read_again(&mut self, root: &Place<'f, F>) -> Result<()> {
        if !self.fresh.is_empty() {
            root.fs.let_time_pass();
        }
        for (path, sha256) in std::mem::take(&mut self.fresh) {
            let (parent, name) = split(&path)?;
            if root.folder(parent)?.standing(name, &mut self.buffer)? != (Standing::File { sha256 }) {
                return Err(changed(&path));
            }
        }
        Ok(())
    }
}

fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::Changed, format!("{} changed while it was read", path.display()))
}
