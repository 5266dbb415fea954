//! Leftover folders are moved aside, with an index, and back.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, fsync, mkdirat, renameat, renameat_with, statat, unlinkat,
};
use serde::{Deserialize, Serialize};

use super::known::KnownPods;
use super::survey::{Place, list, open_folder};
use super::{Obstacle, Standing};
use crate::cri::UnixNanos;
use crate::error::{Error, ErrorKind, Result};
use crate::model::PodUid;
use crate::node::NodeOptions;
use crate::sys::{Clock, Deadline, read_bounded};

/// Name of the folder of quarantines, below the store or below kubelet's folder.
const FOLDER: &str = "pods-quarantine";
const INDEX: &str = "index.json";
/// The index while it is written; a folder with nothing else was never used.
const NEW_INDEX: &str = ".index.json.new";
const SCHEMA: &str = "cprecover.dev/pods-quarantine/v1";
const MAX_INDEX_BYTES: usize = 16 << 20;
const MAX_QUARANTINES: usize = 10_000;

/// Folders that were moved aside together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantine {
    /// `cprecover.dev/pods-quarantine/v1`.
    pub schema: String,
    /// Where they are now, one folder per UID beside the index.
    pub folder: PathBuf,
    /// Where they were.
    pub origin: PathBuf,
    /// When it was made.
    pub made_at: UnixNanos,
    /// What was moved, in this order. Written before the first move: after a crash some may still be
    /// where they were.
    pub moved: Vec<Moved>,
}

/// One folder of a quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// The pod.
    pub uid: PodUid,
    /// The folder's inode, by which it is told from one that kubelet made since.
    pub inode: u64,
}

/// Moves the folders of these pods into a new quarantine on the same mount.
///
/// Every folder is judged again right before anything is moved; when one of them is not a leftover any
/// more, nothing is moved at all. A failure in the middle moves back what was moved.
///
/// # Errors
/// [`ErrorKind::Refused`], naming the mount, file or knower that forbids it, or when there is no place for a
/// quarantine; otherwise as [`survey`](super::survey()).
pub fn quarantine(
    node: &NodeOptions,
    known: &KnownPods,
    pods: &[PodUid],
    clock: &dyn Clock,
    deadline: &Deadline,
) -> Result<Quarantine> {
    let place = Place::open(node)?;
    let moved = leftovers(&place, known, pods, deadline)?;
    let made_at = UnixNanos(i64::try_from(clock.unix().as_nanos()).unwrap_or(i64::MAX));
    let (folder, path) = make_folder(&base_for(node, &place)?, made_at)?;
    let quarantine =
        Quarantine { schema: SCHEMA.to_owned(), folder: path, origin: place.path.clone(), made_at, moved };
    if let Err(error) = write_index(&folder, &quarantine) {
        // Nothing was moved; on a full disk even an empty folder is in the way.
        if let Err(second) = discard(&folder, &quarantine.folder) {
            tracing::warn!(folder = %quarantine.folder.display(), error = %second, "the empty quarantine stays");
        }
        return Err(error);
    }
    for (count, entry) in quarantine.moved.iter().enumerate() {
        let result = deadline
            .check("move pod folders")
            .and_then(|()| move_one(&place.folder, &folder, entry, &quarantine.origin));
        if let Err(error) = result {
            for back in quarantine.moved.iter().take(count).rev() {
                move_one(&folder, &place.folder, back, &quarantine.folder).map_err(|second| {
                    second.context(format!("{error}; undo from {}", quarantine.folder.display()))
                })?;
            }
            discard(&folder, &quarantine.folder)?;
            return Err(error);
        }
    }
    for end in [&place.folder, &folder] {
        fsync(end).map_err(|source| Error::path("sync", &quarantine.folder, source))?;
    }
    tracing::info!(folder = %quarantine.folder.display(), count = quarantine.moved.len(), "pod folders moved aside");
    Ok(quarantine)
}

/// Says whether [`quarantine`] would move the folders of these pods now; changes nothing.
///
/// # Errors
/// As [`quarantine`].
pub fn judge(node: &NodeOptions, known: &KnownPods, pods: &[PodUid], deadline: &Deadline) -> Result<()> {
    let place = Place::open(node)?;
    leftovers(&place, known, pods, deadline)?;
    base_for(node, &place).map(drop)
}

fn leftovers(place: &Place, known: &KnownPods, pods: &[PodUid], deadline: &Deadline) -> Result<Vec<Moved>> {
    let mut moved = Vec::with_capacity(pods.len());
    for uid in pods {
        deadline.check("judge pod folders")?;
        let standing = place.standing(OsStr::new(uid.as_str()), known, deadline)?;
        if standing != Standing::Leftover {
            return Err(refused(uid, &standing.to_string()));
        }
        moved.push(Moved { uid: uid.clone(), inode: inode_of(&place.folder, uid)? });
    }
    Ok(moved)
}

/// Moves the folders of a quarantine back to where they were and removes the quarantine.
///
/// It can be called again after a crash: what is back already is left alone.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] when there is a folder of the same pod again; nothing is moved then.
/// [`ErrorKind::Changed`] when a folder is in neither place.
pub fn undo(quarantine: &Quarantine, deadline: &Deadline) -> Result<()> {
    let folder = open(&quarantine.folder)?;
    let origin = open(&quarantine.origin)?;
    let mut waiting = Vec::new();
    for entry in &quarantine.moved {
        let (here, there) = (find(&folder, &entry.uid)?, find(&origin, &entry.uid)?);
        match (here == Some(entry.inode), there) {
            (true, None) => waiting.push(entry),
            (false, Some(inode)) if inode == entry.inode => {}
            (true, Some(_)) => {
                let path = quarantine.origin.join(entry.uid.as_str());
                let message = format!("{} is there again; nothing was moved back", path.display());
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
            (false, _) => {
                let message =
                    format!("the folder of pod {} is not in {}", entry.uid, quarantine.folder.display());
                return Err(Error::new(ErrorKind::Changed, message));
            }
        }
    }
    for entry in waiting.into_iter().rev() {
        deadline.check("move pod folders back")?;
        move_one(&folder, &origin, entry, &quarantine.folder)?;
    }
    fsync(&origin).map_err(|source| Error::path("sync", &quarantine.origin, source))?;
    discard(&folder, &quarantine.folder)
}

/// Lists the quarantines of a node, oldest first.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for an index that cannot be read beside pod folders that were moved, and the
/// kinds of a failed read.
pub fn quarantines(node: &NodeOptions) -> Result<Vec<Quarantine>> {
    let mut found = Vec::new();
    for folder in folders(node)? {
        found.extend(read_quarantine(&folder)?);
    }
    found.sort_by_key(|quarantine: &Quarantine| quarantine.made_at);
    Ok(found)
}

/// Returns the quarantine in this folder, whatever became of the others.
///
/// # Errors
/// [`ErrorKind::NotFound`] when it is none, [`ErrorKind::Corrupt`] when its index cannot be read; when no
/// readable quarantine is in the folder, the first error of the others.
pub fn quarantine_in(node: &NodeOptions, folder: &Path) -> Result<Quarantine> {
    let mut first = None;
    for path in folders(node)? {
        match read_quarantine(&path) {
            Ok(Some(quarantine)) if quarantine.folder == folder => return Ok(quarantine),
            Ok(_) => {}
            Err(error) => first = first.or(Some(error)),
        }
    }
    let none = || Error::new(ErrorKind::NotFound, format!("{} is no quarantine", folder.display()));
    Err(first.unwrap_or_else(none))
}

/// Returns the folders of all quarantines.
fn folders(node: &NodeOptions) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for base in bases(node) {
        let path = base.join(FOLDER);
        let folder = match open(&path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let names = list(&folder, MAX_QUARANTINES).map_err(|source| Error::path("list", &path, source))?;
        found.extend(names.into_iter().map(|name| path.join(name)));
    }
    Ok(found)
}

/// Reads the index of a quarantine; `None` when it was made and nothing was moved yet.
fn read_quarantine(path: &Path) -> Result<Option<Quarantine>> {
    let index = path.join(INDEX);
    let bytes = match read_bounded(&index, MAX_INDEX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let source = match serde_json::from_slice(&bytes) {
        Ok(quarantine) => return Ok(Some(quarantine)),
        Err(source) => source,
    };
    // Versions before this one wrote the index in place, and on disk before the first move.
    let names = list(open(path)?, MAX_QUARANTINES).map_err(|source| Error::path("list", path, source))?;
    if names.iter().all(|name| name == INDEX || name == NEW_INDEX) {
        tracing::warn!(index = %index.display(), error = %source, "a quarantine that was never used");
        return Ok(None);
    }
    Err(Error::with_source(ErrorKind::Corrupt, format!("read {}", index.display()), source))
}

/// The store if it is on the same mount, else kubelet's own folder. Never `pods` itself: kubelet takes every
/// name in there for a pod.
fn bases(node: &NodeOptions) -> [PathBuf; 2] {
    [node.store(), node.resolve(&node.kubelet_dir)]
}

/// Returns the first base, without links, that pod folders can be renamed to.
pub(super) fn base_for(node: &NodeOptions, place: &Place) -> Result<PathBuf> {
    for base in bases(node) {
        let Ok(base) = base.canonicalize() else { continue };
        // The folder of quarantines may be there already, and something be mounted on it.
        let parent = base.join(FOLDER);
        let (folder, path) = match open(&parent) {
            Ok(folder) => (folder, &parent),
            Err(error) if error.kind() == ErrorKind::NotFound => (open(&base)?, &base),
            Err(error) => return Err(error),
        };
        if place.can_move_to(&folder, path).map_err(|source| Error::path("stat", path, source))? {
            return Ok(base);
        }
    }
    let [store, kubelet] = bases(node);
    let (store, kubelet, pods) = (store.display(), kubelet.display(), place.path.display());
    let message = format!("neither {store} nor {kubelet} is on the mount of {pods}; nothing was moved");
    Err(Error::new(ErrorKind::Refused, message))
}

fn make_folder(base: &Path, made_at: UnixNanos) -> Result<(OwnedFd, PathBuf)> {
    let parent = base.join(FOLDER);
    let path = parent.join(made_at.0.to_string());
    for folder in [&parent, &path] {
        match mkdirat(CWD, folder, Mode::RWXU) {
            Err(rustix::io::Errno::EXIST) if folder == &parent => {}
            other => other.map_err(|source| Error::path("create", folder, source))?,
        }
    }
    for folder in [base, &parent] {
        fsync(open(folder)?).map_err(|source| Error::path("sync", folder, source))?;
    }
    Ok((open(&path)?, path))
}

fn write_index(folder: &OwnedFd, quarantine: &Quarantine) -> Result<()> {
    let path = quarantine.folder.join(NEW_INDEX);
    let bytes = serde_json::to_vec_pretty(quarantine)
        .map_err(|source| Error::with_source(ErrorKind::Internal, "serialise a quarantine", source))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    // The folder is new and ours alone. The name comes last, so that an index is whole or not there.
    let file = rustix::fs::openat(folder, NEW_INDEX, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|source| Error::path("create", &path, source))?;
    let mut file = File::from(file);
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .map_err(|source| Error::path("write", &path, source))?;
    renameat(folder, NEW_INDEX, folder, INDEX).map_err(|source| Error::path("rename", &path, source))?;
    fsync(folder).map_err(|source| Error::path("sync", &quarantine.folder, source))
}

fn move_one(from: &OwnedFd, to: &OwnedFd, entry: &Moved, where_from: &Path) -> Result<()> {
    let name = entry.uid.as_str();
    // It must still be the folder that was judged.
    if find(from, &entry.uid)? != Some(entry.inode) {
        let path = where_from.join(name);
        return Err(Error::new(ErrorKind::Changed, format!("{} was replaced", path.display())));
    }
    match renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Something was mounted on it since the judgement.
        Err(rustix::io::Errno::BUSY) => {
            let at = where_from.join(name);
            Err(refused(&entry.uid, &Obstacle::Mount { at }.to_string()))
        }
        Err(source) => Err(Error::path("move", where_from.join(name), source)),
    }
}

/// Removes an empty quarantine: its index and itself, never a folder of a pod.
fn discard(folder: &OwnedFd, path: &Path) -> Result<()> {
    for name in [INDEX, NEW_INDEX] {
        match unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(source) => return Err(Error::path("remove", path.join(name), source)),
        }
    }
    rustix::fs::rmdir(path).map_err(|source| Error::path("remove", path, source))
}

fn inode_of(folder: &OwnedFd, uid: &PodUid) -> Result<u64> {
    find(folder, uid)?
        .ok_or_else(|| Error::new(ErrorKind::Changed, format!("the folder of pod {uid} is gone")))
}

fn find(folder: &OwnedFd, uid: &PodUid) -> Result<Option<u64>> {
    match statat(folder.as_fd(), uid.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat.st_ino)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(source) => Err(Error::path("stat", uid.as_str(), source)),
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    open_folder(CWD, path.as_os_str()).map_err(|source| Error::path("open", path, source))
}

fn refused(uid: &PodUid, why: &str) -> Error {
    Error::new(ErrorKind::Refused, format!("the folder of pod {uid} stays: {why}"))
}
