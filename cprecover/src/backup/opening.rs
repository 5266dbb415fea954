//! Opening the store's folder, making it, and keeping other processes out.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Store;
use super::fs::Names as _;
use super::fs::linux::Linux;
use super::fs::place::Place;
use super::vault::{SYNC_EACH_UP_TO, Seen, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;
use crate::sys::Deadline;

/// How long a change waits for another process's at most; less than the undo of an effect has.
const LOCK_WAIT: Duration = Duration::from_secs(20);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Keeps other processes out while it lives.
pub(super) struct Lock {
    folder: Arc<OwnedFd>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread forks has the handle until it execs.
        Linux::unlock(&self.folder);
    }
}

impl Store {
    /// Opens the node's store for reading: no lock, nothing recovered, nothing written.
    ///
    /// Calls that write fail with [`crate::ErrorKind::Refused`].
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_read_only(node: &NodeOptions) -> Result<Self> {
        Self::open_read_only_at(node, node.store())
    }

    /// Opens the store in the folder `dir` (not below the node's root) for reading, as
    /// [`Store::open_read_only`] does.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_read_only_at(node: &NodeOptions, dir: impl Into<PathBuf>) -> Result<Self> {
        let store = Self { read_only: true, ..Self::unopened(node, dir.into()) };
        if let Some(vault) = store.look()? {
            vault.check_format()?;
        }
        Ok(store)
    }

    fn vault(&self, store: Arc<OwnedFd>) -> Result<Vault<'_, Linux>> {
        let root = Linux::top(&self.root).map_err(|source| Error::path("open", &self.root, source))?;
        Ok(Vault {
            fs: &self.fs,
            store: Place { fs: &self.fs, handle: store, path: self.path.clone() },
            root: Place { fs: &self.fs, handle: root, path: self.root.clone() },
            layout: self.layout.clone(),
            node_name: self.node_name.clone(),
            owner: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            now: self.clock.unix(),
            sync_each_up_to: SYNC_EACH_UP_TO,
            seen: Seen::default(),
        })
    }

    /// Opens the store for reading; `None` when it does not exist.
    pub(super) fn look(&self) -> Result<Option<Vault<'_, Linux>>> {
        match Linux::top(&self.path) {
            Ok(store) => self.vault(store).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::path("open store", &self.path, error)),
        }
    }

    pub(super) fn existing(&self) -> Result<Vault<'_, Linux>> {
        let none = || Error::new(ErrorKind::NotFound, format!("there is no store {}", self.path.display()));
        let vault = self.look()?.ok_or_else(none)?;
        vault.check_format()?;
        Ok(vault)
    }

    /// Refuses to write to a store that was opened for reading.
    pub(super) fn check_writable(&self) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        let path = self.path.display();
        Err(Error::new(ErrorKind::Refused, format!("store {path} was opened for reading only")))
    }

    /// Opens the store for writing, makes its folder where it is missing, and keeps others out.
    ///
    /// Waits for whoever changes it, up to [`LOCK_WAIT`] and within the deadline: a change takes moments, and
    /// what has to be put back must not stay away for one.
    pub(super) fn change(&self, deadline: &Deadline) -> Result<(Vault<'_, Linux>, Lock)> {
        self.check_writable()?;
        let vault = if let Some(vault) = self.look()? {
            vault
        } else {
            self.make()?;
            self.existing()?
        };
        // A handle of its own: the lock ends with the last copy of the handle that took it.
        let folder =
            Linux::top(&self.path).map_err(|source| Error::path("open store", &self.path, source))?;
        self.lock(&folder, deadline)?;
        Ok((vault, Lock { folder }))
    }

    fn lock(&self, folder: &OwnedFd, deadline: &Deadline) -> Result<()> {
        let path = self.path.display();
        // By the machine's clock: it is another process that is waited for.
        let end = Instant::now() + deadline.remaining().min(LOCK_WAIT);
        loop {
            match Linux::lock(folder) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                    return Err(Error::path("lock store", &self.path, error));
                }
                Err(_) if deadline.is_cancelled() => deadline.check(&format!("wait for store {path}"))?,
                Err(_) => {}
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("store {path} is in use by another process"),
                ));
            }
            std::thread::sleep(LOCK_POLL.min(left));
        }
    }

    /// Makes the store's folder, mode 0700, and the folders that it is in.
    pub(super) fn make(&self) -> Result<()> {
        let failed = |source| Error::path("make store", &self.path, source);
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            let path = self.path.display();
            return Err(Error::new(ErrorKind::Invalid, format!("{path} cannot be the folder of a store")));
        };
        std::fs::create_dir_all(parent).map_err(failed)?;
        let parent = Linux::top(parent).map_err(failed)?;
        match self.fs.make_folder(&parent, name) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        rustix::fs::fsync(&parent).map_err(|source| failed(source.into()))
    }
}
