//! The few file-system effects that the backup protocols are written against.
//!
//! The same protocol code runs on Linux ([`linux::Linux`]) and, in tests, on a simulated file system
//! that forgets what was not synced, and on one that fails at a chosen call.

pub(crate) mod linux;
pub(crate) mod place;
#[cfg(test)]
pub(crate) mod simulated;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::snapshot::{NodePath, octal};

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<NodePath, NodePath>;

/// What a name in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Symlink,
    Other,
}

/// What the kernel says about a file; times are (seconds, nanoseconds) since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Stat {
    /// Reports whether the file is the same one, untouched, as at the time of `self`.
    pub(crate) fn is_untouched(&self, now: &Self) -> bool {
        self == now
    }
}

/// What a restore sets besides the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attributes {
    #[serde(with = "octal")]
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: (i64, u32),
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) xattrs: Xattrs,
}

/// What jobs that may run at once spend their time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// The processor: more at once than there are cores gain nothing.
    Compute,
    /// The disk.
    Wait,
}

/// How a rename treats what stands under the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rename {
    /// Nothing may stand there.
    NoReplace,
    /// What stands there loses its name.
    Replace,
    /// The two swap names; both must exist. Whoever watches sees the second name go, then come.
    Exchange,
}

/// Finds things; never follows a symbolic link.
pub(crate) trait Look {
    /// An open file or folder.
    type Handle: Clone + Send + Sync;

    /// Opens the folder at the relative path `path`, strictly beneath `at`.
    fn folder(&self, at: &Self::Handle, path: &Path) -> io::Result<Self::Handle>;

    /// Opens a file for reading; its kind has to be checked by [`Content::describe`].
    fn open(&self, at: &Self::Handle, name: &OsStr) -> io::Result<Self::Handle>;

    /// Lists at most `limit` names, without `.` and `..`; more are an error.
    fn list(&self, at: &Self::Handle, limit: usize) -> io::Result<Vec<OsString>>;

    /// Describes what stands under a name.
    fn stat(&self, at: &Self::Handle, name: &OsStr) -> io::Result<Stat>;

    /// Reads a symbolic link.
    fn read_link(&self, at: &Self::Handle, name: &OsStr) -> io::Result<NodePath>;
}

/// Reads and writes open files.
pub(crate) trait Content: Look {
    /// Describes an open file or folder.
    fn describe(&self, of: &Self::Handle) -> io::Result<Stat>;

    /// Reads the extended attributes; a file system without any has none.
    fn xattrs(&self, of: &Self::Handle) -> io::Result<Xattrs>;

    /// Reads the next bytes; 0 at the end.
    fn read(&self, from: &Self::Handle, buffer: &mut [u8]) -> io::Result<usize>;

    /// Makes a file of mode 0600 that must not exist.
    fn create(&self, at: &Self::Handle, name: &OsStr) -> io::Result<Self::Handle>;

    /// Appends all of `bytes`.
    fn write(&self, to: &Self::Handle, bytes: &[u8]) -> io::Result<()>;

    /// Sets owner, extended attributes, mode and modification time.
    fn set_attributes(&self, of: &Self::Handle, attributes: &Attributes) -> io::Result<()>;

    /// Removes an extended attribute; one that is gone, or that the kernel lets nobody remove, is no error.
    fn remove_xattr(&self, of: &Self::Handle, name: &NodePath) -> io::Result<()>;
}

/// Changes names.
pub(crate) trait Names: Look {
    /// Makes a folder of mode 0700.
    fn make_folder(&self, at: &Self::Handle, name: &OsStr) -> io::Result<()>;

    /// Makes a symbolic link with owner and time.
    fn make_symlink(
        &self,
        at: &Self::Handle,
        name: &OsStr,
        target: &NodePath,
        attributes: &Attributes,
    ) -> io::Result<()>;

    /// Gives a file a second name.
    fn link(&self, at: &Self::Handle, name: &OsStr, to: &Self::Handle, new: &OsStr) -> io::Result<()>;

    /// Changes a name.
    fn rename(
        &self,
        at: &Self::Handle,
        name: &OsStr,
        to: &Self::Handle,
        new: &OsStr,
        how: Rename,
    ) -> io::Result<()>;

    /// Removes a file's or link's name, or an empty folder.
    fn remove(&self, at: &Self::Handle, name: &OsStr, kind: Kind) -> io::Result<()>;
}

/// Puts things on stable storage.
pub(crate) trait Durable: Look {
    /// Starts to write a file out, without waiting and without any promise.
    fn start_writeback(&self, of: &Self::Handle);

    /// Waits until a file's content and attributes, or a folder's names, are on stable storage.
    fn sync(&self, of: &Self::Handle) -> io::Result<()>;

    /// Calls `job` with every number below `count`, in any order, several at once where that is allowed.
    fn each(&self, work: Work, count: usize, job: &(dyn Fn(usize) + Sync));

    /// Waits until everything on the file system of `of` is; false when errors would go unseen.
    fn sync_everything(&self, of: &Self::Handle) -> io::Result<bool>;

    /// Reports whether a write right now might leave the file's times as they are: the kernel stamps
    /// files with a clock that ticks every 1 to 10 ms (`current_time`, fs/inode.c).
    fn may_hide_a_write(&self, stat: &Stat) -> bool;

    /// Waits until a write gets a later time than one before the call.
    fn let_time_pass(&self);
}

/// All of the effects.
pub(crate) trait FileSystem: Content + Names + Durable + Sync {}

impl<T: Content + Names + Durable + Sync> FileSystem for T {}

/// Doing something with many things at once.
pub(crate) trait Parallel: FileSystem {
    /// Calls `job` with each of `items`, several at once where that is allowed; results in their order.
    ///
    /// After a failure no further job is begun; the failure comes with the number of its item.
    fn each_of<T: Sync, R: Send + Sync, E: Send + Sync>(
        &self,
        work: Work,
        items: &[T],
        job: impl Fn(&T) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>, (usize, E)> {
        let slots: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
        let failure = OnceLock::new();
        self.each(work, items.len(), &|number| {
            let (Some(item), Some(slot), None) = (items.get(number), slots.get(number), failure.get()) else {
                return;
            };
            // Each slot is set once, and of several failures the first counts.
            let _ = match job(item) {
                Ok(result) => slot.set(result).is_ok(),
                Err(error) => failure.set((number, error)).is_ok(),
            };
        });
        match failure.into_inner() {
            Some(failure) => Err(failure),
            None => Ok(slots.into_iter().filter_map(OnceLock::into_inner).collect()),
        }
    }
}

impl<T: FileSystem> Parallel for T {}
