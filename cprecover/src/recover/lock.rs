//! One engine per node.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Who holds the lock, for the message of the one who does not get it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    pid: u32,
    since: String,
}

/// Held while an engine works on a node; freed by dropping it, or by the kernel when the process ends.
#[derive(Debug)]
pub struct NodeLock {
    file: File,
}

impl Drop for NodeLock {
    fn drop(&mut self) {
        // Closing is not enough: between fork and exec, a child that another thread starts has the file
        // open too, and flock(2) is the open file's, not the descriptor's.
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(%error, "the node's lock is freed when the last process that inherited it ends");
        }
    }
}

impl NodeLock {
    /// Takes the lock of the node whose store is `store`; makes the folder (0700) where it is missing.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] naming the owner and since when, and the kinds of a failed open.
    pub fn acquire(store: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(store)
            .map_err(|source| Error::path("create", store, source))?;
        let path = store.join("engine.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::path("open", &path, source))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(busy(&mut file, &path)),
            Err(source) => return Err(Error::path("lock", &path, source)),
        }
        let owner = Owner { pid: std::process::id(), since: jiff::Timestamp::now().to_string() };
        let text = serde_json::to_vec(&owner)
            .map_err(|source| Error::with_source(ErrorKind::Internal, "serialise lock owner", source))?;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&text))
            .map_err(|source| Error::path("write", &path, source))?;
        Ok(Self { file })
    }
}

fn busy(file: &mut File, path: &Path) -> Error {
    let mut text = String::new();
    // The owner may be writing its name right now; the lock itself is what counts.
    let read = file.take(4096).read_to_string(&mut text);
    let owner: Option<Owner> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    let who = match owner {
        Some(Owner { pid, since }) => format!("pid {pid} since {since}"),
        None => "another process".to_owned(),
    };
    Error::new(ErrorKind::Busy, format!("{}: this node is being worked on by {who}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_engine_is_told_who_works_and_the_lock_ends_with_its_owner() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = dir.path().join("store");
        let first = NodeLock::acquire(&store).expect("free");
        let error = NodeLock::acquire(&store).expect_err("held");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains(&format!("pid {} since 2", std::process::id())), "{error}");
        drop(first);
        NodeLock::acquire(&store).expect("free again");
    }

    #[test]
    fn a_child_between_fork_and_exec_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().expect("temp dir");
        let first = NodeLock::acquire(dir.path()).expect("free");
        let inherited = first.file.try_clone().expect("as fork does");
        drop(first);
        NodeLock::acquire(dir.path()).expect("free, though the file is open still");
        drop(inherited);
    }
}
