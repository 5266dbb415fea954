//! Reads processes below one procfs, relative to its open folder: fast, and the same procfs throughout.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use procfs::FromRead as _;
use procfs::process::{Stat, Status};
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Pid, ProcessId};

/// Files below `/proc/PID` that are read whole are shorter than this; `cmdline` may be cut at it.
const FILE_LIMIT: u64 = 1 << 20;
/// More processes than any `pid_max` allows (`PID_MAX_LIMIT`, 4 Mi) are not listed.
const PID_LIMIT: usize = 1 << 22;
/// Size of the buffer for getdents(2).
const DIR_BUFFER: usize = 4 * 1024;
/// Processes that are handed on together while they are listed.
const PIDS_AT_ONCE: usize = 64;

/// A mounted procfs.
#[derive(Debug)]
pub(crate) struct ProcDir {
    path: PathBuf,
    fd: OwnedFd,
}

impl ProcDir {
    /// Opens the procfs at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd =
            openat(CWD, path, flags, Mode::empty()).map_err(|source| Error::path("open", path, source))?;
        Ok(Self { path: path.to_owned(), fd })
    }

    /// Reports whether its pids are those of the caller's pid namespace: `self` names the reader's pid
    /// in the namespace of the procfs (proc(5)).
    pub(crate) fn is_own_namespace(&self) -> bool {
        self.link("self").is_ok_and(|link| link == std::process::id().to_string())
    }

    /// Returns the text behind a symbolic link below procfs.
    pub(crate) fn link(&self, path: &str) -> Result<String, Errno> {
        rustix::fs::readlinkat(&self.fd, path, Vec::new()).map(|link| link.to_string_lossy().into_owned())
    }

    /// Reads a file below procfs, whole.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let fd = openat(&self.fd, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::new();
        std::fs::File::from(fd)
            .take(FILE_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(bytes)
    }

    /// Reads a short file below procfs with one read(2), without its final line feed.
    fn read_short<'a>(&self, path: &str, buffer: &'a mut [u8; 64]) -> Result<&'a [u8], Errno> {
        let fd = openat(&self.fd, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let count = rustix::io::read(&fd, &mut buffer[..])?;
        let text = buffer.get(..count).unwrap_or_default();
        Ok(text.strip_suffix(b"\n").unwrap_or(text))
    }

    /// Reports whether the file name of the program that a process runs is one of `names`.
    pub(crate) fn program_is_one_of(&self, pid: Pid, names: &[String]) -> bool {
        let mut buffer = [0; 512];
        readlinkat_raw(&self.fd, format!("{pid}/exe"), &mut buffer[..]).is_ok_and(|count| {
            // One that fills the buffer was cut and fits no name.
            let path = buffer.get(..count).unwrap_or_default();
            let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            names.iter().any(|likely| likely.as_bytes() == name)
        })
    }

    /// Reports whether the command name of a process is one of `names`.
    pub(crate) fn comm_is_one_of(&self, pid: Pid, names: &[String]) -> bool {
        let mut buffer = [0; 64];
        self.read_short(&format!("{pid}/comm"), &mut buffer)
            .is_ok_and(|comm| names.iter().any(|name| cut_comm(name) == comm))
    }

    /// Returns the command name of a process.
    pub(crate) fn comm(&self, pid: Pid) -> Result<String, Errno> {
        let mut buffer = [0; 64];
        self.read_short(&format!("{pid}/comm"), &mut buffer)
            .map(|comm| String::from_utf8_lossy(comm).into_owned())
    }

    /// Returns `/proc/PID/stat`, read.
    pub(crate) fn stat(&self, pid: Pid) -> Result<Stat> {
        let bytes = self.read_of(pid, "stat")?;
        Stat::from_read(&bytes[..]).map_err(|source| malformed(pid, "stat", source))
    }

    /// Returns `/proc/PID/status`, read.
    pub(crate) fn status(&self, pid: Pid) -> Result<Status> {
        let bytes = self.read_of(pid, "status")?;
        Status::from_read(&bytes[..]).map_err(|source| malformed(pid, "status", source))
    }

    /// Returns pid and start time of a process.
    pub(crate) fn process_id(&self, pid: Pid) -> Result<ProcessId> {
        Ok(ProcessId { pid, start_ticks: self.stat(pid)?.starttime })
    }

    /// Reads a file of a process; the error names it, and is `NotFound` when the process is gone.
    pub(crate) fn read_of(&self, pid: Pid, file: &str) -> Result<Vec<u8>> {
        self.read(&format!("{pid}/{file}")).map_err(|errno| self.process_error(pid, file, errno))
    }

    /// Makes the error of a failed look at a process.
    pub(crate) fn process_error(&self, pid: Pid, file: &str, errno: Errno) -> Error {
        // A read of a process that ended meanwhile gives ESRCH; one by path gives ENOENT.
        let errno = if errno == Errno::SRCH { Errno::NOENT } else { errno };
        Error::path("read", self.path.join(pid.to_string()).join(file), errno)
    }

    /// Returns all processes, in the order of their pids.
    pub(crate) fn pids(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::with_capacity(1024);
        self.pids_in_parts(|part| {
            pids.extend_from_slice(part);
            pids.len() < PID_LIMIT
        })?;
        Ok(pids)
    }

    /// Calls `each` with all processes, some at a time and in the order of their pids, until it returns
    /// `false`; reports whether it never did.
    pub(crate) fn pids_in_parts(&self, mut each: impl FnMut(&[Pid]) -> bool) -> Result<bool> {
        let mut part = Vec::with_capacity(PIDS_AT_ONCE);
        let mut going_on = true;
        self.entries(".", |name| {
            part.extend(parse_pid(name));
            if part.len() == PIDS_AT_ONCE {
                going_on = each(&part);
                part.clear();
            }
            going_on
        })
        .map_err(|errno| Error::path("list", &self.path, errno))?;
        Ok(going_on && each(&part))
    }

    /// Returns the threads of a process, its first one left out.
    pub(crate) fn other_threads(&self, pid: Pid) -> Result<Vec<Pid>, Errno> {
        let mut threads = Vec::new();
        self.entries(&format!("{pid}/task"), |name| {
            threads.extend(parse_pid(name).filter(|thread| *thread != pid));
            threads.len() < PID_LIMIT
        })?;
        Ok(threads)
    }

    /// Returns the children of a process; empty where the kernel does not list them
    /// (`CONFIG_PROC_CHILDREN`).
    pub(crate) fn children(&self, pid: Pid) -> Vec<Pid> {
        let mut threads = self.other_threads(pid).unwrap_or_default();
        threads.push(pid);
        threads
            .iter()
            .filter_map(|thread| self.read(&format!("{pid}/task/{thread}/children")).ok())
            .flat_map(|text| text.split(|byte| *byte == b' ').filter_map(parse_pid).collect::<Vec<_>>())
            .collect()
    }

    /// Calls `each` with the inode of each socket among the descriptors of a process or thread
    /// (`7` or `7/task/9`) until it returns `false`.
    pub(crate) fn sockets(&self, task: &str, mut each: impl FnMut(&[u8], u64) -> bool) -> Result<(), Errno> {
        let folder = self.open_folder(&format!("{task}/fd"))?;
        let mut target = [0_u8; 64];
        list(&folder, |name| match readlinkat_raw(&folder, name, &mut target[..]) {
            Ok(count) => {
                let link = target.get(..count).unwrap_or_default();
                socket_inode(link).is_none_or(|inode| each(name.to_bytes(), inode))
            }
            // Closed meanwhile.
            Err(_) => true,
        })
    }

    /// Calls `each` with number and link of each descriptor of a process until it returns `false`.
    pub(crate) fn descriptors(
        &self,
        pid: Pid,
        mut each: impl FnMut(&str, &Path) -> bool,
    ) -> Result<(), Errno> {
        let folder = self.open_folder(&format!("{pid}/fd"))?;
        list(&folder, |name| {
            let link = rustix::fs::readlinkat(&folder, name, Vec::new());
            match (name.to_str(), link) {
                (Ok(name), Ok(link)) => each(name, Path::new(&*link.to_string_lossy())),
                _ => true,
            }
        })
    }

    /// Returns how many descriptors a task has open (Linux 6.2 and later), 0 where that is not told.
    pub(crate) fn descriptor_count(&self, task: &str) -> i64 {
        rustix::fs::statat(&self.fd, format!("{task}/fd"), rustix::fs::AtFlags::empty())
            .map_or(0, |stat| stat.st_size)
    }

    /// Returns device and inode behind a descriptor of a process.
    pub(crate) fn descriptor_file(&self, pid: Pid, fd: &str) -> Result<(u64, u64), Errno> {
        let stat = rustix::fs::statat(&self.fd, format!("{pid}/fd/{fd}"), rustix::fs::AtFlags::empty())?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Returns who owns the folder of a process: its effective user, root when it is not dumpable.
    pub(crate) fn owner(&self, pid: Pid) -> Result<u32, Errno> {
        rustix::fs::statat(&self.fd, pid.to_string(), rustix::fs::AtFlags::empty()).map(|stat| stat.st_uid)
    }

    fn open_folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        openat(&self.fd, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    fn entries(&self, path: &str, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), Errno> {
        list(&self.open_folder(path)?, |name| each(name.to_bytes()))
    }
}

/// Calls `each` with every name in an open folder until it returns `false`.
fn list(folder: &OwnedFd, mut each: impl FnMut(&std::ffi::CStr) -> bool) -> Result<(), Errno> {
    let mut buffer = Vec::with_capacity(DIR_BUFFER);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().first() != Some(&b'.') && !each(name) {
            break;
        }
    }
    Ok(())
}

fn parse_pid(text: &[u8]) -> Option<Pid> {
    std::str::from_utf8(text).ok()?.parse().ok().and_then(Pid::new)
}

/// Reads `socket:[N]` (proc(5)).
fn socket_inode(link: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Cuts a program name as the kernel does (`TASK_COMM_LEN`, 16 bytes with the final zero).
fn cut_comm(name: &str) -> &[u8] {
    name.as_bytes().get(..15).unwrap_or(name.as_bytes())
}

fn malformed(pid: Pid, file: &str, source: procfs::ProcError) -> Error {
    Error::with_source(ErrorKind::Invalid, format!("read {file} of pid {pid}"), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_names_are_read_as_the_kernel_writes_them() {
        assert_eq!(socket_inode(b"socket:[4242]"), Some(4242));
        assert_eq!(socket_inode(b"pipe:[4242]"), None);
        assert_eq!(socket_inode(b"socket:[]"), None);
        assert_eq!(cut_comm("kube-controller-manager"), b"kube-controller");
        assert_eq!(cut_comm("etcd"), b"etcd");
    }

    #[test]
    fn our_own_process_is_readable() {
        let proc = ProcDir::open(Path::new("/proc")).expect("procfs");
        let own = Pid::new(i32::try_from(std::process::id()).expect("small")).expect("positive");
        assert!(proc.is_own_namespace());
        assert!(proc.pids().expect("lists").contains(&own));
        assert!(proc.stat(own).expect("stat").starttime > 0);
        let gone = proc.stat(Pid::new(i32::MAX).expect("positive")).expect_err("no such process");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}
