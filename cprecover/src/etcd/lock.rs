//! Who holds a member's database.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::model::Pid;
use crate::ports::lock_of_line;
use crate::sys::Deadline;

/// How many lines of `/proc/locks`, processes and descriptors are looked at.
const MAX_LOCKS: usize = 65_536;
const MAX_PROCESSES: usize = 65_536;
const MAX_DESCRIPTORS: usize = 65_536;
/// How many holders are named.
const MAX_HOLDERS: usize = 8;

/// Whether a process holds the lock on `member/snap/db`.
///
/// bbolt takes an exclusive `flock(2)` for as long as the database is open (bbolt `bolt_unix.go`), so the
/// lock is the authority on "nobody else has it": a second listener can be hidden by
/// `--socket-reuse-port`, the lock cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DataLock {
    /// Nobody holds it.
    Free,
    /// A process holds it.
    Held {
        /// Those that can be named; empty when the holder lives in a pid namespace that we cannot see.
        holders: Vec<LockHolder>,
    },
    /// There is no file to lock.
    NoFile,
    /// It could not be found out.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// A process that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LockHolder {
    /// The process.
    pub pid: Pid,
    /// Its short name, `/proc/PID/comm`, where it can be read.
    pub comm: Option<String>,
    /// The locked file.
    pub file: PathBuf,
}

impl DataLock {
    /// Reports whether a process is known to hold it.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. })
    }
}

impl std::fmt::Display for DataLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::NoFile => f.write_str("nothing to lock"),
            Self::Unknown { reason } => write!(f, "unknown ({reason})"),
            Self::Held { holders } if holders.is_empty() => {
                f.write_str("held by a process that cannot be seen from here")
            }
            Self::Held { holders } => {
                f.write_str("held by")?;
                for (place, holder) in holders.iter().enumerate() {
                    let comma = if place == 0 { "" } else { "," };
                    let comm = holder.comm.as_deref().unwrap_or("?");
                    write!(f, "{comma} pid {} ({comm})", holder.pid)?;
                }
                Ok(())
            }
        }
    }
}

/// Finds out whether a process uses the member.
///
/// The database is tried with a shared `flock` that is given back at once; the WAL files, which etcd locks
/// with open-file-description locks and gives up on when they are taken (etcd
/// `client/pkg/fileutil/lock_linux.go`), are only asked about (`F_OFD_GETLK`).
pub(super) fn probe(db: &Path, wal_files: &[PathBuf], proc_dir: &Path, deadline: &Deadline) -> DataLock {
    let mut answer = DataLock::NoFile;
    for (path, is_db) in std::iter::once((db, true)).chain(wal_files.iter().map(|path| (&**path, false))) {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => {
                return DataLock::Unknown { reason: Error::path("open", path, source).to_string() };
            }
        };
        let held = if is_db { try_flock(&file) } else { is_ofd_locked(&file) };
        match held {
            Ok(true) => {
                return DataLock::Held { holders: holders(path, &file, proc_dir, deadline) };
            }
            Ok(false) => answer = DataLock::Free,
            Err(source) => {
                return DataLock::Unknown { reason: Error::path("try lock of", path, source).to_string() };
            }
        }
    }
    answer
}

/// Reports whether someone else holds the exclusive flock.
fn try_flock(file: &File) -> std::io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            rustix::fs::flock(file, FlockOperation::Unlock)?;
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(source) => Err(source.into()),
    }
}

fn whole_file(kind: nix::libc::c_int) -> std::io::Result<nix::libc::flock> {
    let narrow = |number: nix::libc::c_int| {
        nix::libc::c_short::try_from(number)
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))
    };
    Ok(nix::libc::flock {
        l_type: narrow(kind)?,
        l_whence: narrow(nix::libc::SEEK_SET)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    })
}

fn is_ofd_locked(file: &File) -> std::io::Result<bool> {
    let mut lock = whole_file(nix::libc::F_RDLCK)?;
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock)).map_err(std::io::Error::from)?;
    Ok(i32::from(lock.l_type) != nix::libc::F_UNLCK)
}

/// A lock that keeps etcd from starting, for as long as it lives.
#[derive(Debug)]
pub(super) struct HeldLock {
    _files: Vec<File>,
}

/// Takes the database's lock and read locks on the WAL files, and holds them.
///
/// # Errors
/// [`ErrorKind::Busy`] when a process holds one.
pub(super) fn hold(
    db: &Path,
    wal_files: &[PathBuf],
    proc_dir: &Path,
    deadline: &Deadline,
) -> Result<HeldLock> {
    let mut files = Vec::new();
    for (path, is_db) in std::iter::once((db, true)).chain(wal_files.iter().map(|path| (&**path, false))) {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if is_db && error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::path("open", path, source)),
        };
        let taken = if is_db {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(std::io::Error::from)
        } else {
            let lock = whole_file(nix::libc::F_RDLCK).map_err(|source| Error::path("lock", path, source))?;
            fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).map(|_| ()).map_err(std::io::Error::from)
        };
        match taken {
            Ok(()) => files.push(file),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let held = DataLock::Held { holders: holders(path, &file, proc_dir, deadline) };
                return Err(Error::new(ErrorKind::Busy, format!("lock on {} is {held}", path.display())));
            }
            Err(source) => return Err(Error::path("lock", path, source)),
        }
    }
    Ok(HeldLock { _files: files })
}

/// Names the holders: from `/proc/locks`, else whoever has the file open with a lock on it.
fn holders(path: &Path, file: &File, proc_dir: &Path, deadline: &Deadline) -> Vec<LockHolder> {
    let Ok(metadata) = file.metadata() else { return Vec::new() };
    let mut pids = from_proc_locks(&proc_dir.join("locks"), metadata.dev(), metadata.ino());
    if pids.is_empty() {
        // btrfs and overlayfs show another device there than stat does.
        pids = from_descriptors(proc_dir, metadata.dev(), metadata.ino(), deadline);
    }
    pids.into_iter()
        .map(|pid| LockHolder {
            pid,
            comm: std::fs::read_to_string(proc_dir.join(pid.to_string()).join("comm"))
                .ok()
                .map(|comm| comm.trim_end().to_owned()),
            file: path.to_owned(),
        })
        .collect()
}

/// Reads the pids of exclusive locks on one file from `/proc/locks`.
fn from_proc_locks(path: &Path, device: u64, inode: u64) -> Vec<Pid> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    let mut pids = Vec::new();
    for line in BufReader::new(file).lines().take(MAX_LOCKS).map_while(std::result::Result::ok) {
        let found = lock_of_line(&line).filter(|(_, dev, ino)| (*dev, *ino) == (device, inode));
        if let Some((pid, ..)) = found
            && !pids.contains(&pid)
            && pids.len() < MAX_HOLDERS
        {
            pids.push(pid);
        }
    }
    pids
}

/// Looks for processes that have the file open and a `lock:` line for it in their fdinfo.
fn from_descriptors(proc_dir: &Path, device: u64, inode: u64, deadline: &Deadline) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir(proc_dir) else { return Vec::new() };
    let mut left = MAX_DESCRIPTORS;
    let mut pids = Vec::new();
    for process in processes.take(MAX_PROCESSES).flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::new)
        else {
            continue;
        };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.take(left).flatten() {
            left -= 1;
            // Following the link gives the file itself, whatever its path is in another mount namespace.
            let same = std::fs::metadata(descriptor.path())
                .is_ok_and(|found| (found.dev(), found.ino()) == (device, inode));
            if same && has_lock(&process.path().join("fdinfo").join(descriptor.file_name())) {
                pids.push(pid);
                break;
            }
        }
        if left == 0 || pids.len() >= MAX_HOLDERS || deadline.check("look for lock holders").is_err() {
            break;
        }
    }
    pids
}

fn has_lock(fdinfo: &Path) -> bool {
    crate::sys::read_bounded(fdinfo, 1 << 20)
        .is_ok_and(|bytes| bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"lock:")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn deadline() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[test]
    fn a_lock_is_seen_and_its_holder_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let db = dir.path().join("db");
        let proc_dir = Path::new("/proc");
        assert_eq!(probe(&db, &[], proc_dir, &deadline()), DataLock::NoFile);
        std::fs::write(&db, b"x").expect("write");
        assert_eq!(probe(&db, &[], proc_dir, &deadline()), DataLock::Free);
        let held = hold(&db, &[], proc_dir, &deadline()).expect("free");
        let DataLock::Held { holders } = probe(&db, &[], proc_dir, &deadline()) else { panic!("held") };
        let own = i32::try_from(std::process::id()).ok().and_then(Pid::new);
        assert_eq!(holders.first().map(|holder| holder.pid), own);
        let error = hold(&db, &[], proc_dir, &deadline()).expect_err("held");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(held);
        assert_eq!(probe(&db, &[], proc_dir, &deadline()), DataLock::Free);
    }

    #[test]
    fn the_descriptor_search_finds_the_same_holder() {
        let dir = tempfile::tempdir().expect("temp dir");
        let db = dir.path().join("db");
        std::fs::write(&db, b"x").expect("write");
        let _held = hold(&db, &[], Path::new("/proc"), &deadline()).expect("free");
        let metadata = std::fs::metadata(&db).expect("stat");
        let pids = from_descriptors(Path::new("/proc"), metadata.dev(), metadata.ino(), &deadline());
        assert_eq!(pids.first().map(|pid| pid.get()), i32::try_from(std::process::id()).ok());
    }

    #[test]
    fn a_locked_wal_file_is_seen_without_a_database() {
        let dir = tempfile::tempdir().expect("temp dir");
        let wal = dir.path().join("0.wal");
        let file = File::create(&wal).expect("create");
        let lock = whole_file(nix::libc::F_WRLCK).expect("fits");
        fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).expect("lock");
        let seen = probe(&dir.path().join("db"), std::slice::from_ref(&wal), Path::new("/proc"), &deadline());
        assert!(seen.is_held(), "{seen}");
        let refused = hold(&dir.path().join("db"), &[wal], Path::new("/proc"), &deadline());
        assert_eq!(refused.expect_err("held").kind(), ErrorKind::Busy);
    }
}
