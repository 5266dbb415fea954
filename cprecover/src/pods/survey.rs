//! A look at every pod's folder; nothing is changed.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, StatxFlags, openat, statat, statx};

use super::known::KnownPods;
use super::mounts::{self, at_or_below, is_uid};
use super::{Obstacle, PodFolder, Standing, Survey};
use crate::cri::UnixNanos;
use crate::error::{Error, Result};
use crate::model::PodUid;
use crate::node::NodeOptions;
use crate::sys::Deadline;

/// kubelet's `maxPods` is 110 by default; nobody runs more than a few thousand.
const MAX_PODS: usize = 100_000;
/// Entries of one pod's folder that are looked at.
const MAX_ENTRIES: usize = 1_000_000;
/// Folders in folders that are looked at.
const MAX_DEPTH: usize = 64;
/// Parts of a pod's folder that hold data of its volumes (kubernetes `pkg/kubelet/config/defaults.go`).
const VOLUME_FOLDERS: [&str; 3] = ["volumes", "volume-subpaths", "volumeDevices"];

/// Looks at every folder below `<kubelet_dir>/pods`.
///
/// # Errors
/// [`NotFound`](crate::ErrorKind::NotFound) when there is no such folder,
/// [`Timeout`](crate::ErrorKind::Timeout), and the kinds of a failed read of the folder or of `mountinfo`. A pod's folder
/// that cannot be read is no error but [`Obstacle::Unreadable`].
pub fn survey(node: &NodeOptions, known: &KnownPods, deadline: &Deadline) -> Result<Survey> {
    let place = Place::open(node)?;
    let mut names =
        list(&place.folder, MAX_PODS).map_err(|source| Error::path("list", &place.path, source))?;
    names.sort();
    let mut pods = Vec::with_capacity(names.len());
    for name in names {
        deadline.check("look at pod folders")?;
        let standing = place.standing(&name, known, deadline)?;
        pods.push(PodFolder { uid: PodUid::new(name.to_string_lossy()), standing });
    }
    Ok(Survey { folder: place.path, pods })
}

/// kubelet's `pods` folder, opened, and the mounts of this moment.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) folder: OwnedFd,
    pub(super) device: u64,
    points: Vec<PathBuf>,
    /// What says on which mount a folder is; a test has one that an old kernel gives.
    mount_id: fn(&OwnedFd) -> Option<u64>,
}

impl Place {
    pub(super) fn open(node: &NodeOptions) -> Result<Self> {
        let path = node.resolve(node.kubelet_dir.join("pods"));
        // mountinfo has no links in it, so the path must have none.
        let path = path.canonicalize().map_err(|source| Error::path("resolve", &path, source))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|source| Error::path("open", &path, source))?;
        let stat = rustix::fs::fstat(&folder).map_err(|source| Error::path("stat", &path, source))?;
        let root = node.root.canonicalize().map_err(|source| Error::path("resolve", &node.root, source))?;
        let points = mounts::read(&node.proc_dir, &root)?;
        Ok(Self { path, folder, device: stat.st_dev, points, mount_id })
    }

    /// Reports whether pod folders can be renamed into a folder, whose path is free of links: rename(2) crosses no
    /// mount, not even one of the same file system.
    pub(super) fn can_move_to(&self, folder: &OwnedFd, path: &Path) -> std::io::Result<bool> {
        if rustix::fs::fstat(folder)?.st_dev != self.device {
            return Ok(false);
        }
        Ok(match ((self.mount_id)(&self.folder), (self.mount_id)(folder)) {
            (Some(here), Some(there)) => here == there,
            _ => mounts::above(&self.points, &self.path) == mounts::above(&self.points, path),
        })
    }

    /// As a kernel older than 5.8 has it, which tells no ids of mounts.
    #[cfg(test)]
    pub(super) fn without_mount_ids(self) -> Self {
        Self { mount_id: |_| None, ..self }
    }

    /// Judges one entry.
    pub(super) fn standing(&self, name: &OsStr, known: &KnownPods, deadline: &Deadline) -> Result<Standing> {
        let uid = PodUid::new(name.to_string_lossy());
        if known.runtime_knows(&uid) {
            return Ok(Standing::KnownToRuntime);
        }
        let blocked = |obstacle| Ok(Standing::Blocked { obstacle });
        let path = self.path.join(name);
        let stat = match statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return blocked(Obstacle::Unreadable { reason: errno.to_string() }),
        };
        if !is_uid(name) || FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return blocked(Obstacle::NotAPod);
        }
        if let Some(at) = at_or_below(&self.points, &path) {
            return blocked(Obstacle::Mount { at: at.clone() });
        }
        if stat.st_dev != self.device {
            return blocked(Obstacle::OtherFileSystem { path });
        }
        let mut walk = Walk { device: self.device, entries: 0, newest: changed(&stat), deadline };
        let top = match walk.pod(self.folder.as_fd(), name, &path) {
            Ok(top) => top,
            Err(Stop::Obstacle(obstacle)) => return blocked(obstacle),
            Err(Stop::Error(error)) => return Err(error),
        };
        match known.manifest_of(&uid, &top, walk.newest) {
            Some(manifest) => Ok(Standing::KnownToManifest { manifest: manifest.to_owned() }),
            None => Ok(Standing::Leftover),
        }
    }
}

/// Why a walk ended early.
enum Stop {
    Obstacle(Obstacle),
    Error(Error),
}

struct Walk<'a> {
    device: u64,
    entries: usize,
    newest: UnixNanos,
    deadline: &'a Deadline,
}

impl Walk<'_> {
    /// Walks a pod's folder; returns the names of its containers.
    fn pod(&mut self, parent: impl AsFd, name: &OsStr, path: &Path) -> Result<BTreeSet<String>, Stop> {
        let folder = open_folder(parent, name).map_err(|source| unreadable(path, source))?;
        let mut containers = BTreeSet::new();
        for entry in list(&folder, MAX_ENTRIES).map_err(|source| unreadable(path, source))? {
            if entry == "containers"
                && let Ok(inner) = open_folder(&folder, &entry)
            {
                let names =
                    list(&inner, MAX_ENTRIES).map_err(|source| unreadable(&path.join(&entry), source))?;
                containers.extend(names.iter().map(|name| name.to_string_lossy().into_owned()));
            }
            let depth = VOLUME_FOLDERS.iter().any(|volumes| entry == *volumes).then_some(0);
            self.entry(&folder, &entry, &path.join(&entry), 1, depth)?;
        }
        Ok(containers)
    }

    /// Walks one entry. `in_volumes` counts the folders since `volumes`: 1 is a plugin, 2 a volume.
    fn entry(
        &mut self,
        parent: impl AsFd,
        name: &OsStr,
        path: &Path,
        depth: usize,
        in_volumes: Option<usize>,
    ) -> Result<(), Stop> {
        self.deadline.check("look at a pod folder").map_err(Stop::Error)?;
        self.entries += 1;
        if self.entries > MAX_ENTRIES || depth > MAX_DEPTH {
            return Err(unreadable(path, std::io::Error::other("too many entries")));
        }
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| unreadable(path, errno.into()))?;
        if stat.st_dev != self.device {
            return Err(Stop::Obstacle(Obstacle::OtherFileSystem { path: path.to_path_buf() }));
        }
        self.newest = self.newest.max(changed(&stat));
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        // An empty folder of a volume is what an unmounted volume leaves; anything else is content.
        if in_volumes.is_some_and(|level| level > 2 || !is_folder) {
            return Err(Stop::Obstacle(Obstacle::VolumeContent { path: path.to_path_buf() }));
        }
        if !is_folder {
            return Ok(());
        }
        let folder = open_folder(&parent, name).map_err(|source| unreadable(path, source))?;
        for entry in list(&folder, MAX_ENTRIES).map_err(|source| unreadable(path, source))? {
            self.entry(&folder, &entry, &path.join(&entry), depth + 1, in_volumes.map(|level| level + 1))?;
        }
        Ok(())
    }
}

// Taken by value: most callers have it so.
#[allow(clippy::needless_pass_by_value)]
fn unreadable(path: &Path, source: std::io::Error) -> Stop {
    Stop::Obstacle(Obstacle::Unreadable { reason: format!("{}: {source}", path.display()) })
}

/// When it was last changed in any way: `st_ctime` cannot be set back as `st_mtime` can.
fn changed(stat: &Stat) -> UnixNanos {
    let nanos = i64::try_from(stat.st_ctime_nsec).unwrap_or(0);
    UnixNanos(stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The id of the mount that a folder is on, where the kernel tells it.
fn mount_id(folder: &OwnedFd) -> Option<u64> {
    let found = statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

pub(super) fn open_folder(parent: impl AsFd, name: &OsStr) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// Lists the names in a folder.
pub(super) fn list(folder: impl AsFd, limit: usize) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if names.len() >= limit {
            return Err(std::io::Error::other(format!("more than {limit} entries")));
        }
        names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
    }
    Ok(names)
}
