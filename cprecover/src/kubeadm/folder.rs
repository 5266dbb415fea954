//! Staging folders: private, and gone also after a process that was killed in the middle.

use std::fs::{DirBuilder, DirEntry, File, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::sys::left_over;

/// What the names of staging folders begin with; nothing else is removed.
const PREFIXES: [&str; 2] = [".regenerate-", ".renew-"];

/// A staging folder, removed when dropped.
pub(super) struct Folder {
    dir: TempDir,
    /// Held as long as the folder is used; the kernel gives it back when this process dies.
    _lock: File,
}

impl Folder {
    /// Makes a folder below `parent` that only its owner can enter; removes what others left behind there.
    pub(super) fn new(parent: &Path, prefix: &str) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|source| Error::path("make", parent, source))?;
        // Between a folder's making and its lock nobody may take it for left over.
        let gate = locked(parent, FlockOperation::LockExclusive)?;
        // Keys of authorities lie in them. What cannot be removed is left for the next one, and hinders nobody.
        let is_ours = |entry: &DirEntry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
        };
        if let Err(error) = left_over::sweep(parent, is_ours) {
            tracing::warn!(%error, "staging folders may be left behind");
        }
        let dir = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(|source| Error::path("make a staging folder in", parent, source))?;
        let lock = locked(dir.path(), FlockOperation::NonBlockingLockExclusive)?;
        drop(gate);
        Ok(Self { dir, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn locked(path: &Path, operation: FlockOperation) -> Result<File> {
    let file = File::open(path).map_err(|source| Error::path("open", path, source))?;
    flock(&file, operation).map_err(|errno| Error::path("lock", path, errno))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().expect("temp dir");
        let parent = dir.path().join("store/staging");
        let used = Folder::new(&parent, ".renew-").expect("made");
        let mode = |path: &Path| std::fs::metadata(path).expect("stat").permissions().mode() & 0o777;
        for path in [used.path(), &parent, &dir.path().join("store")] {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        for name in [".renew-dead", ".regenerate-dead", "other"] {
            std::fs::create_dir_all(parent.join(name).join("pki")).expect("mkdir");
            std::fs::write(parent.join(name).join("pki/ca.key"), b"key").expect("write");
        }
        let next = Folder::new(&parent, ".regenerate-").expect("made");
        let left = |name: &str| parent.join(name).exists();
        assert!(!left(".renew-dead") && !left(".regenerate-dead") && left("other"));
        assert!(used.path().exists() && next.path().exists());
        drop((used, next));
        assert_eq!(std::fs::read_dir(&parent).expect("list").count(), 1);
    }
}
