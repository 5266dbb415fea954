//! A folder handle together with its path, so that every error names what it was about.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::{Attributes, FileSystem, Kind, Parallel as _, Rename, Stat, Work};
use crate::backup::snapshot::{NodePath, is_plain_name};
use crate::error::{Error, ErrorKind, Result};

/// Names in one folder, at most; the same bound holds for a whole snapshot.
pub(crate) const MAX_NAMES: usize = 100_000;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Place<'f, F: FileSystem> {
    pub(crate) fs: &'f F,
    pub(crate) handle: F::Handle,
    pub(crate) path: PathBuf,
}

impl<F: FileSystem> Clone for Place<'_, F> {
    fn clone(&self) -> Self {
        Self { fs: self.fs, handle: self.handle.clone(), path: self.path.clone() }
    }
}

impl<F: FileSystem> Place<'_, F> {
    /// Turns the result of an operation on `name` into one that names it.
    pub(crate) fn told<T>(&self, op: &str, name: impl AsRef<Path>, result: io::Result<T>) -> Result<T> {
        result.map_err(|source| told(op, &self.path.join(name), source))
    }

    /// Opens the folder at `path`, absolute or relative, strictly beneath this one.
    pub(crate) fn folder(&self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let relative: PathBuf =
            path.components().filter(|part| !matches!(part, std::path::Component::RootDir)).collect();
        let handle = self.told("open folder", &relative, self.fs.folder(&self.handle, &relative))?;
        Ok(Self { fs: self.fs, handle, path: self.path.join(relative) })
    }

    /// Opens the folder at `path`, or says that there is none.
    pub(crate) fn folder_if_any(&self, path: impl AsRef<Path>) -> Result<Option<Self>> {
        absent_to_none(self.folder(path))
    }

    /// Opens the folder `name` and makes it first where it is missing; tells whether it did.
    pub(crate) fn ensure_folder(&self, name: impl AsRef<OsStr>) -> Result<(Self, bool)> {
        let name = name.as_ref();
        if let Some(folder) = self.folder_if_any(name)? {
            return Ok((folder, false));
        }
        self.make_folder(name).map(|folder| (folder, true))
    }

    /// Makes the folder `name`, mode 0700.
    pub(crate) fn make_folder(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        self.told("make folder", name, self.fs.make_folder(&self.handle, name))?;
        self.folder(name)
    }

    /// Lists the names in it, sorted.
    pub(crate) fn list(&self) -> Result<Vec<OsString>> {
        self.told("list", "", self.fs.list(&self.handle, MAX_NAMES))
    }

    /// Describes what stands under `name`; `None` when nothing does.
    pub(crate) fn stat(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>> {
        let name = name.as_ref();
        absent_to_none(self.told("stat", name, self.fs.stat(&self.handle, name)))
    }

    /// Opens the regular file `name`.
    pub(crate) fn open_file(&self, name: impl AsRef<OsStr>) -> Result<(F::Handle, Stat)> {
        let name = name.as_ref();
        let file = self.told("open", name, self.fs.open(&self.handle, name))?;
        let stat = self.told("stat", name, self.fs.describe(&file))?;
        if stat.kind != Kind::File {
            let path = self.path.join(name);
            return Err(Error::new(ErrorKind::Refused, format!("{} is not a regular file", path.display())));
        }
        Ok((file, stat))
    }

    /// Feeds a file of at most `limit` bytes to `sink`; returns how many there were.
    pub(crate) fn stream(
        &self,
        name: &OsStr,
        file: &F::Handle,
        limit: u64,
        buffer: &mut [u8],
        mut sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<u64> {
        let mut total = 0_u64;
        loop {
            let count = self.told("read", name, self.fs.read(file, buffer))?;
            if count == 0 {
                return Ok(total);
            }
            total += count as u64;
            if total > limit {
                let path = self.path.join(name);
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("{} is larger than {limit} bytes", path.display()),
                ));
            }
            sink(buffer.get(..count).unwrap_or_default())?;
        }
    }

    /// Reads a whole regular file of at most `limit` bytes.
    pub(crate) fn read(&self, name: impl AsRef<OsStr>, limit: usize) -> Result<Vec<u8>> {
        let name = name.as_ref();
        let (file, stat) = self.open_file(name)?;
        let limit = limit as u64;
        // One byte of room more than expected tells the end of the file without growing.
        let room = usize::try_from(stat.size.min(limit)).unwrap_or(0) + 1;
        let mut bytes = Vec::with_capacity(room);
        self.stream(name, &file, limit, &mut vec![0; room.clamp(512, 256 * 1024)], |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// As [`Place::read`]; `None` when there is no such file.
    pub(crate) fn read_if_any(&self, name: impl AsRef<OsStr>, limit: usize) -> Result<Option<Vec<u8>>> {
        absent_to_none(self.read(name, limit))
    }

    /// Makes the file `name`, which must not exist, with `bytes` in it; not synced yet.
    pub(crate) fn create(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<F::Handle> {
        let name = name.as_ref();
        let file = self.told("create", name, self.fs.create(&self.handle, name))?;
        self.told("write", name, self.fs.write(&file, bytes))?;
        Ok(file)
    }

    /// Puts `bytes` under `name` so that a crash leaves the old or the new content, durably.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let staged = format!(".new-{name}");
        self.remove_if_any(&staged)?;
        let written = self
            .create(&staged, bytes)
            .and_then(|file| self.told("sync", &staged, self.fs.sync(&file)))
            .and_then(|()| self.rename(&staged, self, name, Rename::Replace));
        if written.is_err() {
            // A part of it must not take the last room of a full disk.
            let _ = self.remove_if_any(&staged);
        }
        written.and_then(|()| self.sync())
    }

    /// Sets owner, mode, time and extended attributes of this folder.
    pub(crate) fn set_attributes(&self, attributes: &Attributes) -> Result<()> {
        self.told("set attributes of", "", self.fs.set_attributes(&self.handle, attributes))
    }

    /// Changes a name, here or into another folder.
    pub(crate) fn rename(
        &self,
        name: impl AsRef<OsStr>,
        to: &Self,
        new: impl AsRef<OsStr>,
        how: Rename,
    ) -> Result<()> {
        let (name, new) = (name.as_ref(), new.as_ref());
        let done = self.fs.rename(&self.handle, name, &to.handle, new, how);
        done.map_err(|source| {
            told(&format!("rename {} to", self.path.join(name).display()), &to.path.join(new), source)
        })
    }

    /// Removes a name; of a folder only when it is empty.
    pub(crate) fn remove(&self, name: impl AsRef<OsStr>, kind: Kind) -> Result<()> {
        let name = name.as_ref();
        self.told("remove", name, self.fs.remove(&self.handle, name, kind))
    }

    /// Removes a file's name if it is there.
    pub(crate) fn remove_if_any(&self, name: impl AsRef<OsStr>) -> Result<()> {
        absent_to_none(self.remove(name, Kind::File)).map(|_| ())
    }

    /// Removes a folder with all that is in it, which must not be deeper than `depth`.
    pub(crate) fn remove_tree(&self, name: &OsStr, depth: usize) -> Result<()> {
        if depth == 0 {
            let path = self.path.join(name);
            return Err(Error::new(ErrorKind::Limit, format!("{} is nested too deep", path.display())));
        }
        let folder = self.folder(name)?;
        for inner in folder.list()? {
            match folder.stat(&inner)?.map(|stat| stat.kind) {
                Some(Kind::Folder) => folder.remove_tree(&inner, depth - 1)?,
                Some(kind) => folder.remove(&inner, kind)?,
                None => {}
            }
        }
        self.remove(name, Kind::Folder)
    }

    /// Waits until the names in this folder are on stable storage.
    pub(crate) fn sync(&self) -> Result<()> {
        self.told("sync", "", self.fs.sync(&self.handle))
    }

    /// Waits until all of these are on stable storage; `name` tells the path of one that fails.
    pub(crate) fn sync_all(&self, handles: &[F::Handle], name: impl Fn(usize) -> PathBuf) -> Result<()> {
        // Every fsync by itself waits for a flush of the disk's cache; those that wait together share one.
        let synced = self.fs.each_of(Work::Wait, handles, |handle| self.fs.sync(handle));
        synced.map(drop).map_err(|(number, source)| told("sync", &self.path.join(name(number)), source))
    }

    /// Reads a symbolic link.
    pub(crate) fn read_link(&self, name: impl AsRef<OsStr>) -> Result<NodePath> {
        let name = name.as_ref();
        self.told("read link", name, self.fs.read_link(&self.handle, name))
    }
}

/// Reports whether a path is absolute and leads nowhere but down.
pub(crate) fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(std::path::Component::RootDir)
        && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Splits an absolute path of the node into its folder and its name.
pub(crate) fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if is_plain(path) && is_plain_name(name) => Ok((folder, name)),
        _ => Err(Error::new(
            ErrorKind::Invalid,
            format!("{} is not the absolute path of a file, without . and ..", path.display()),
        )),
    }
}

/// Turns proven absence into `None`.
pub(crate) fn absent_to_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn told(op: &str, path: &Path, source: io::Error) -> Error {
    const ELOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();
    const ENOTDIR: i32 = rustix::io::Errno::NOTDIR.raw_os_error();
    const EXDEV: i32 = rustix::io::Errno::XDEV.raw_os_error();
    match source.raw_os_error() {
        // What a planted symbolic link looks like under NOFOLLOW and RESOLVE_NO_SYMLINKS (openat2(2)).
        Some(ELOOP | ENOTDIR) => Error::with_source(
            ErrorKind::Refused,
            format!("{op} {}: it is or passes a symbolic link, or is no folder", path.display()),
            source,
        ),
        Some(EXDEV) => Error::with_source(
            ErrorKind::Refused,
            format!("{op} {}: it leaves its folder or file system", path.display()),
            source,
        ),
        _ => Error::path(op, path, source),
    }
}
