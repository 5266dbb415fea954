//! The manifests folder: told of changes by inotify, and compared at every look in case it was not.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::error::{Error, Result};

/// How long one wait lasts before a cancel is looked at again.
const SLICE: Duration = Duration::from_millis(200);
/// How many files are compared; kubelet's folder holds a handful.
const MAX_FILES: usize = 4096;
const BUFFER: usize = 16 << 10;

/// Name to inode, size and time of change of every file that kubelet would read.
type Fingerprint = BTreeMap<String, [i128; 4]>;

/// What changes in the folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// `None` where the kernel gives no inotify instance: then only looks notice changes.
    notify: Option<OwnedFd>,
    /// What the kernel calls the watch, which may be one of a folder that is no longer at the path.
    watch: Option<i32>,
    /// Device and inode of the folder that is watched; none where the watch is known to be over.
    watched: Option<(u64, u64)>,
    seen: Option<Fingerprint>,
    /// Names that the kernel told of since the last comparison.
    told: BTreeSet<String>,
}

impl Folder {
    /// Watches the folder, which need not exist yet.
    pub(super) fn new(path: PathBuf) -> Self {
        let notify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .inspect_err(|error| tracing::warn!(%error, "no inotify: changes are noticed at the next look"))
            .ok();
        let mut folder = Self { path, notify, watch: None, watched: None, seen: None, told: BTreeSet::new() };
        folder.watch();
        folder.seen = folder.fingerprint().ok();
        folder
    }

    fn watch(&mut self) {
        let here = self.here();
        let Some(notify) = &self.notify else { return };
        if let Some(old) = self.watch.take() {
            // It is gone already where its folder is.
            let _ = inotify::remove_watch(notify, old);
        }
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        self.watch = inotify::add_watch(notify, &self.path, flags).ok();
        // Asked for before: a folder that came in between is taken for another one at the next comparison.
        self.watched = here.filter(|_| self.watch.is_some());
    }

    /// Device and inode of what is at the path now.
    fn here(&self) -> Option<(u64, u64)> {
        std::fs::metadata(&self.path).ok().map(|meta| (meta.dev(), meta.ino()))
    }

    /// Waits for a change, at most for `limit` and not much longer than a fifth of a second.
    ///
    /// # Errors
    /// The kinds of a failed poll.
    pub(super) fn wait(&self, limit: Duration) -> Result<()> {
        let limit = limit.min(SLICE);
        let mut fds: Vec<PollFd<'_>> =
            self.notify.iter().map(|notify| PollFd::new(notify, PollFlags::IN)).collect();
        let failed = |source: rustix::io::Errno| {
            Error::io("wait for a change of manifests", std::io::Error::from(source))
        };
        let timeout = Timespec::try_from(limit).map_err(|_| failed(rustix::io::Errno::INVAL))?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns the names that changed since the last call, as far as the kernel told; never waits.
    pub(super) fn told(&mut self) -> Vec<String> {
        let Some(notify) = &self.notify else { return Vec::new() };
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(notify, &mut buffer);
        let mut names = Vec::new();
        let mut lost = false;
        while let Ok(event) = reader.next() {
            if Some(event.wd()) != self.watch {
                continue;
            }
            let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
            lost |= event.events().intersects(gone);
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
            if let Some(name) = name.filter(|name| is_read(name))
                && !names.contains(&name)
                && names.len() < MAX_FILES
            {
                names.push(name);
            }
        }
        if lost {
            self.watched = None;
        }
        self.told.extend(names.iter().cloned());
        names
    }

    /// Compares with the last look; returns the names that changed without a word of the kernel, and watches
    /// a new folder.
    ///
    /// # Errors
    /// The kinds of a failed read; a missing folder is an empty one.
    pub(super) fn compared(&mut self) -> Result<Vec<String>> {
        // The folder's own watch is not told when one above it is renamed.
        if self.watched.is_none() || self.watched != self.here() {
            self.watch();
        }
        let now = self.fingerprint()?;
        let before = self.seen.replace(now.clone()).unwrap_or_else(|| now.clone());
        let told = std::mem::take(&mut self.told);
        let names: BTreeSet<String> = before
            .keys()
            .chain(now.keys())
            .filter(|name| before.get(*name) != now.get(*name) && !told.contains(*name))
            .cloned()
            .collect();
        Ok(names.into_iter().collect())
    }

    fn fingerprint(&self) -> Result<Fingerprint> {
        let failed = |source| Error::path("list", &self.path, source);
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Fingerprint::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut found = Fingerprint::new();
        for entry in entries.take(MAX_FILES) {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !is_read(&name) {
                continue;
            }
            // One that is gone again has changed as well.
            let stamp = entry.metadata().map_or([0; 4], |meta| {
                [meta.ino().into(), meta.len().into(), meta.mtime().into(), meta.mtime_nsec().into()]
            });
            found.insert(name, stamp);
        }
        Ok(found)
    }
}

/// kubelet passes over names that start with a dot (`pkg/kubelet/config/file.go`), and so do we: temporary
/// and held files have such names.
fn is_read(name: &str) -> bool {
    !name.starts_with('.')
}
