//! What a process leaves that was killed while it saved a member ([`crate::sys::left_over`]).

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::left_over;

/// How the name of an unfinished snapshot begins and ends.
pub(super) const SNAPSHOT: (&str, &str) = (".snapshot-", ".tmp");
/// How the name of an unfinished copy begins.
pub(super) const COPY: &str = ".etcd-copy-";

/// Marks a file or folder, just made, as one that is worked on as long as it is open.
pub(super) fn keep(opened: &File, path: &Path) -> Result<()> {
    match flock(opened, FlockOperation::NonBlockingLockExclusive) {
        // Some network file systems know no locks; what is left there is for a person to remove.
        Ok(()) | Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => Ok(()),
        Err(source) => Err(Error::path("lock", path, source)),
    }
}

/// Removes snapshots and copies in `folder` that nobody will finish, and returns them; a database of 8 GB (etcd's
/// advice at most) is in each. What cannot be removed stays, and is logged.
///
/// # Errors
/// The kinds of a failed list.
pub fn remove_unfinished(folder: &Path) -> Result<Vec<PathBuf>> {
    left_over::sweep(folder, |entry| {
        let (begin, end) = SNAPSHOT;
        entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(COPY) || (name.starts_with(begin) && name.ends_with(end)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_works_on_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = |name: &str| dir.path().join(name);
        for name in [".snapshot-a.tmp", ".snapshot-b.tmp", ".snapshot-c", "1-snapshot.db", "other"] {
            std::fs::write(path(name), "bytes").expect("write");
        }
        for name in [".etcd-copy-a", ".etcd-copy-b", "1-member"] {
            std::fs::create_dir_all(path(name).join("member/snap")).expect("mkdir");
        }
        std::os::unix::fs::symlink(path("other"), path(".snapshot-link.tmp")).expect("link");
        let at_work = [".snapshot-b.tmp", ".etcd-copy-b"].map(|name| {
            let opened = File::open(path(name)).expect("open");
            keep(&opened, &path(name)).expect("lock");
            opened
        });
        let mut removed = remove_unfinished(dir.path()).expect("lists");
        removed.sort();
        assert_eq!(removed, [path(".etcd-copy-a"), path(".snapshot-a.tmp")]);
        assert!(removed.iter().all(|path| !path.exists()));
        for name in [".snapshot-b.tmp", ".etcd-copy-b", ".snapshot-c", "1-snapshot.db", "1-member", "other"] {
            assert!(path(name).exists(), "{name}");
        }
        drop(at_work);
        assert_eq!(remove_unfinished(dir.path()).expect("lists").len(), 2);
    }
}
