//! The cgroup v2 hierarchy as folders: which one has an id, and who is in it.

use std::collections::VecDeque;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use crate::error::Result;
use crate::model::Pid;

/// `CGROUP2_SUPER_MAGIC`, include/uapi/linux/magic.h.
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// Folders that are looked at in search of an id.
const MAX_FOLDERS: usize = 100_000;
/// Bytes of `cgroup.procs` that are read.
const MAX_PROCS_BYTES: usize = 8 << 20;

/// Returns the first of `candidates` that is a cgroup v2 hierarchy.
pub(crate) fn mount(candidates: &[PathBuf]) -> Option<&Path> {
    candidates
        .iter()
        .find(|path| statfs(path.as_path()).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(CGROUP2_MAGIC)))
        .map(PathBuf::as_path)
}

/// Returns the folder with a cgroup id; `None` for the root, which narrows nothing, and for a cgroup
/// that is gone. The id is the folder's inode (`cgroup_id`, kernel `include/linux/cgroup.h`).
pub(super) fn folder_of(mount: &Path, id: u64) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata(mount).ok()?.ino() == id {
        return None;
    }
    let mut queue = VecDeque::from([mount.to_owned()]);
    for _ in 0..MAX_FOLDERS {
        let folder = queue.pop_front()?;
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.ino() == id {
                return Some(entry.path());
            }
            // Pods come first: theirs is the holder that this crate exists for.
            if entry.file_name().to_string_lossy().contains("pod") {
                queue.push_front(entry.path());
            } else {
                queue.push_back(entry.path());
            }
        }
    }
    None
}

/// Returns the processes in a cgroup, not those in cgroups below it.
pub(crate) fn processes(folder: &Path) -> Result<Vec<Pid>> {
    let bytes = crate::sys::read_bounded(&folder.join("cgroup.procs"), MAX_PROCS_BYTES)?;
    // A process outside the reader's pid namespace reads as 0 (cgroups(7)).
    Ok(String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(|line| line.parse().ok().and_then(Pid::new))
        .collect())
}
