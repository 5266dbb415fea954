//! Copying a node's files into a new snapshot: read once, hashed while they are read.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::Digest as _;

use super::dedup::Earlier;
use super::describe::{attributes_of, entry, plain_attributes, stored_attributes, view_of};
use super::fs::place::{MAX_NAMES, Place, split};
use super::fs::{Attributes, FileSystem, Kind, Parallel as _, Stat, Work};
use super::group::{Group, Shape, Source};
use super::journal::Standing;
use super::snapshot::{Entry, EntryKind, NodePath, Skipped};
use super::source::{Found, bare_link, find, left_out};
use super::vault::{BUFFER, LOOKED_AT_ONCE, MAX_DEPTH, MAX_FILE_BYTES, OURS, SYNC_EACH_UP_TO};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// Files up to this size are read whole before anything is written, so that a shared one never is.
const WHOLE_BYTES: u64 = 1 << 20;
/// Files that are found before they are copied, at most: each keeps its folders open.
const MAX_PENDING: usize = 512;

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
    /// Files that were found and are to be copied.
    pending: Vec<Pending<'f, F>>,
    /// Attributes that folders get once their content is there.
    later: Vec<(Place<'f, F>, Attributes)>,
    /// What was read, to be looked at again at the end.
    watched: Vec<(PathBuf, Stat)>,
    /// Files whose times cannot tell whether they were written while they were read.
    fresh: Vec<(PathBuf, Digest)>,
    earlier: &'d Earlier<'f, F>,
    deadline: &'d Deadline,
}

/// A folder of the node together with the folder of the snapshot that its files go to.
struct Pair<'f, F: FileSystem> {
    group: Group,
    from: Place<'f, F>,
    /// `from`'s path on the node.
    on_node: PathBuf,
    into: Place<'f, F>,
    /// `into`'s path in the snapshot.
    stored: PathBuf,
}

/// A file that is to be copied.
struct Pending<'f, F: FileSystem> {
    pair: Arc<Pair<'f, F>>,
    name: OsString,
    /// Its number in the entries.
    number: usize,
}

/// A file that was copied.
struct Copied<H> {
    entry: Entry,
    before: Stat,
    /// The copy, unless an earlier snapshot's file has been given the name.
    copy: Option<H>,
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
            pending: Vec::new(),
            later: Vec::new(),
            watched: Vec::new(),
            fresh: Vec::new(),
            earlier,
            deadline,
        }
    }

    /// Copies one source into the snapshot's folder `top`; a source that is not there has no files. Of a group
    /// that is not taken `alone`, one behind a link is skipped.
    pub(super) fn take(
        &mut self,
        root: &Place<'f, F>,
        top: &Place<'f, F>,
        source: &Source,
        alone: bool,
    ) -> Result<()> {
        let found = match find(root, source) {
            Err(error) if let Some(skipped) = left_out(source, alone, &error) => {
                self.skipped.push(skipped);
                return Ok(());
            }
            other => other?,
        };
        let Some(Found { parent: folder, kind }) = found else { return Ok(()) };
        let (_, name) = split(&source.path)?;
        if source.shape == Shape::ConfFiles {
            return self.take_conf_files(folder.folder(name)?, top, source);
        }
        if kind == Kind::Folder {
            let from = folder.folder(name)?;
            return self.take_folder(source, from, top);
        }
        self.skipped.extend(bare_link(source, kind));
        let Some(parent) = source.stored.parent() else { return Ok(()) };
        let pair = Pair {
            group: source.group,
            from: folder,
            on_node: source.path.parent().unwrap_or(Path::new("/")).to_owned(),
            into: self.make_path(top, parent)?,
            stored: parent.to_owned(),
        };
        self.take_name(&Arc::new(pair), name, MAX_DEPTH)
    }

    fn take_conf_files(&mut self, from: Place<'f, F>, top: &Place<'f, F>, source: &Source) -> Result<()> {
        let conf = |name: &OsString| Path::new(name).extension() == Some(OsStr::new("conf"));
        let names: Vec<OsString> = from.list()?.into_iter().filter(conf).collect();
        if names.is_empty() {
            return Ok(());
        }
        let pair = Arc::new(Pair {
            group: source.group,
            from,
            on_node: source.path.clone(),
            into: self.make_path(top, &source.stored)?,
            stored: source.stored.clone(),
        });
        for name in names {
            let folder = pair.from.stat(&name)?.is_some_and(|stat| stat.kind == Kind::Folder);
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

    fn take_folder(&mut self, source: &Source, from: Place<'f, F>, top: &Place<'f, F>) -> Result<()> {
        let stat = from.told("stat", "", from.fs.describe(&from.handle))?;
        let pair = Pair {
            group: source.group,
            from,
            on_node: source.path.clone(),
            into: self.make_path(top, &source.stored)?,
            stored: source.stored.clone(),
        };
        self.take_content(pair, stat, MAX_DEPTH)
    }

    /// Notes a folder and takes what is in it.
    fn take_content(&mut self, pair: Pair<'f, F>, stat: Stat, depth: usize) -> Result<()> {
        let attributes = attributes_of(&pair.from, &pair.from.handle, "", &stat)?;
        self.watched.push((pair.on_node.clone(), stat));
        self.entries.push(entry(pair.group, &pair.on_node, &pair.stored, EntryKind::Folder, &attributes));
        let pair = Arc::new(pair);
        for name in pair.from.list()? {
            self.take_name(&pair, &name, depth)?;
        }
        self.set_later(pair.into.clone(), stored_attributes(pair.group, attributes, 0o700))
    }

    /// A folder's time is set when its files are there; few handles are kept open for that.
    fn set_later(&mut self, place: Place<'f, F>, attributes: Attributes) -> Result<()> {
        self.later.push((place, attributes));
        if self.later.len() < SYNC_EACH_UP_TO { Ok(()) } else { self.copy_pending() }
    }

    fn take_name(&mut self, pair: &Arc<Pair<'f, F>>, name: &OsStr, depth: usize) -> Result<()> {
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
            Kind::File => {
                let stored = pair.stored.join(name);
                let number = self.entries.len();
                self.entries.push(entry(
                    pair.group,
                    &on_node,
                    &stored,
                    EntryKind::File,
                    &plain_attributes(&stat),
                ));
                self.pending.push(Pending { pair: Arc::clone(pair), name: name.to_owned(), number });
                if self.pending.len() < MAX_PENDING { Ok(()) } else { self.copy_pending() }
            }
            Kind::Folder if depth == 0 => {
                Err(Error::new(ErrorKind::Limit, format!("{} is nested too deep", on_node.display())))
            }
            Kind::Folder => {
                let from = pair.from.folder(name)?;
                let into = pair.into.make_folder(name)?;
                self.note_folder(&into);
                let inner = Pair { group: pair.group, from, on_node, into, stored: pair.stored.join(name) };
                self.take_content(inner, stat, depth - 1)
            }
            Kind::Symlink => self.take_symlink(pair, name, &on_node, &stat),
            Kind::Other => {
                let reason = "neither a file, a folder nor a symbolic link".to_owned();
                self.skipped.push(Skipped { path: NodePath::new(&on_node), reason });
                Ok(())
            }
        }
    }

    fn take_symlink(&mut self, pair: &Pair<'f, F>, name: &OsStr, on_node: &Path, stat: &Stat) -> Result<()> {
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

    /// Copies the files that were found, and then gives folders that are complete their times.
    pub(super) fn copy_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if let Some(first) = pending.first() {
            let fs = first.pair.from.fs;
            let copied = fs.each_of(Work::Compute, &pending, |file| file.copy(self.earlier, self.deadline));
            for (file, copied) in pending.iter().zip(copied.map_err(|(_, error)| error)?) {
                if let Some(copy) = copied.copy {
                    self.note_file(copy);
                }
                let on_node = file.pair.on_node.join(&file.name);
                if let Some(digest) = copied.entry.sha256
                    && fs.may_hide_a_write(&copied.before)
                {
                    self.fresh.push((on_node.clone(), digest));
                }
                self.watched.push((on_node, copied.before));
                if let Some(entry) = self.entries.get_mut(file.number) {
                    *entry = copied.entry;
                }
            }
        }
        self.later.drain(..).rev().try_for_each(|(place, attributes)| place.set_attributes(&attributes))
    }

    fn note_file(&mut self, file: F::Handle) {
        self.written += 1;
        if self.unsynced.len() < SYNC_EACH_UP_TO {
            self.unsynced.push(file);
        }
    }

    /// Fails when anything that was read has changed since: the files then are of different times.
    pub(super) fn check_untouched(&mut self, root: &Place<'f, F>) -> Result<()> {
        self.read_again(root)?;
        let parts: Vec<&[(PathBuf, Stat)]> = self.watched.chunks(LOOKED_AT_ONCE).collect();
        let looked = root.fs.each_of(Work::Compute, &parts, |part| {
            let mut folder: Option<(&Path, Place<'f, F>)> = None;
            for (path, before) in *part {
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
        });
        looked.map(drop).map_err(|(_, error)| error)
    }
}

impl<F: FileSystem> Pending<'_, F> {
    /// Copies the file, or shares an equal one of an earlier snapshot.
    fn copy(&self, earlier: &Earlier<'_, F>, deadline: &Deadline) -> Result<Copied<F::Handle>> {
        deadline.check("snapshot")?;
        let (pair, name) = (&*self.pair, self.name.as_os_str());
        let on_node = pair.on_node.join(name);
        let (file, before) = pair.from.open_file(name)?;
        let attributes = attributes_of(&pair.from, &file, name, &before)?;
        let mut entry = entry(pair.group, &on_node, &pair.stored.join(name), EntryKind::File, &attributes);
        let kept = stored_attributes(pair.group, attributes, 0o600);
        let copy = if before.size <= WHOLE_BYTES {
            self.copy_small(&file, &before, &mut entry, &kept, earlier)?
        } else {
            self.copy_large(&file, &mut entry, &kept, earlier, deadline)?
        };
        let after = pair.from.told("stat", name, pair.from.fs.describe(&file))?;
        if !before.is_untouched(&after) || after.size != entry.size {
            return Err(changed(&on_node));
        }
        Ok(Copied { entry, before, copy })
    }

    fn copy_small(
        &self,
        file: &F::Handle,
        stat: &Stat,
        entry: &mut Entry,
        kept: &Attributes,
        earlier: &Earlier<'_, F>,
    ) -> Result<Option<F::Handle>> {
        let (pair, name) = (&*self.pair, self.name.as_os_str());
        // One byte of room more than expected tells the end of the file without growing.
        let room = usize::try_from(stat.size).unwrap_or(0) + 1;
        let mut buffer = vec![0; room.clamp(512, BUFFER)];
        let mut bytes = Vec::with_capacity(room);
        entry.size = pair.from.stream(name, file, WHOLE_BYTES * 2, &mut buffer, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        entry.sha256 = Some(Digest::of(&bytes));
        entry.link = earlier.share(entry, kept, &pair.into, name, Some(&bytes), &mut buffer);
        let copy = match entry.link {
            Some(_) => None,
            None => Some(self.finish(pair.into.create(name, &bytes)?, kept)?),
        };
        // The disk writes meanwhile.
        if pair.group == Group::Manifests {
            entry.view = view_of(&bytes);
        }
        Ok(copy)
    }

    fn copy_large(
        &self,
        file: &F::Handle,
        entry: &mut Entry,
        kept: &Attributes,
        earlier: &Earlier<'_, F>,
        deadline: &Deadline,
    ) -> Result<Option<F::Handle>> {
        let (pair, name) = (&*self.pair, self.name.as_os_str());
        let copy = pair.into.create(name, &[])?;
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; BUFFER];
        entry.size = pair.from.stream(name, file, MAX_FILE_BYTES, &mut buffer, |chunk| {
            deadline.check("snapshot")?;
            hash.update(chunk);
            pair.into.told("write", name, pair.into.fs.write(&copy, chunk))
        })?;
        entry.sha256 = Some(Digest::from_bytes(hash.finalize().into()));
        entry.link = earlier.share(entry, kept, &pair.into, name, None, &mut buffer);
        if entry.link.is_some() { Ok(None) } else { self.finish(copy, kept).map(Some) }
    }

    fn finish(&self, copy: F::Handle, kept: &Attributes) -> Result<F::Handle> {
        let into = &self.pair.into;
        into.told("set attributes of", &self.name, into.fs.set_attributes(&copy, kept))?;
        into.fs.start_writeback(&copy);
        Ok(copy)
    }
}

impl<'f, F: FileSystem> Gathered<'_, 'f, F> {
    /// Reads those files again that were written so shortly before that a write meanwhile may have
    /// left no trace in their times; one after this leaves it.
    fn read_again(&mut self, root: &Place<'f, F>) -> Result<()> {
        if !self.fresh.is_empty() {
            root.fs.let_time_pass();
        }
        let mut buffer = vec![0; BUFFER];
        for (path, sha256) in std::mem::take(&mut self.fresh) {
            let (parent, name) = split(&path)?;
            if root.folder(parent)?.standing(name, &mut buffer)? != (Standing::File { sha256 }) {
                return Err(changed(&path));
            }
        }
        Ok(())
    }
}

fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::Changed, format!("{} changed while it was read", path.display()))
}
