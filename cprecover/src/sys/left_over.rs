//! What a process leaves that was killed in its midst, told from what one still works on by a lock on it
//! (`flock(2)`), which ends with its process.

use std::fs::DirEntry;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Names of the folder that are looked at.
const MAX_NAMES: usize = 4096;

/// Removes those entries of `folder` that are `ours` and that nobody has locked, and returns them. What cannot
/// be removed stays, and is logged.
///
/// # Errors
/// The kinds of a failed list.
pub(crate) fn sweep(folder: &Path, ours: impl Fn(&DirEntry) -> bool) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|source| Error::path("list", folder, source))?;
    let mut removed = Vec::new();
    for entry in entries.take(MAX_NAMES) {
        let entry = entry.map_err(|source| Error::path("list", folder, source))?;
        if !ours(&entry) {
            continue;
        }
        match remove(&entry.path()) {
            Ok(true) => removed.push(entry.path()),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "what an earlier run left unfinished stays"),
        }
    }
    Ok(removed)
}

/// Removes one, unless it is worked on.
fn remove(path: &Path) -> Result<bool> {
    let failed = |op: &str, source: Errno| Error::path(op, path, source);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened: OwnedFd = open(path, flags, Mode::empty()).map_err(|source| failed("open", source))?;
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(false),
        Err(source) => return Err(failed("lock", source)),
    }
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.map_err(|source| Error::path("remove", path, source))?;
    tracing::info!(path = %path.display(), "removed what an earlier run left unfinished");
    Ok(true)
}
