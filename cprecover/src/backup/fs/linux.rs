//! The file system of this machine.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::fs::{
    self as sys, Advice, AtFlags, FileType, Gid, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::{Attributes, Content, Durable, Kind, Look, Names, Rename, Stat, Work, Xattrs};
use crate::backup::snapshot::NodePath;

/// Flags of every folder that is opened: reading its names is the most that is done with it.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
/// Extended attributes of one file, at most; the kernel's own limit for a list (`XATTR_LIST_MAX`).
const XATTR_LIST_MAX: usize = 64 * 1024;

/// The file system of this machine, reached through folder handles only.
#[derive(Debug, Default)]
pub(crate) struct Linux {
    /// How many files one call may have in hand at once; up to 1 without threads.
    pub(crate) workers: usize,
    /// Set when the kernel, or a seccomp filter, does not know openat2(2) (Linux 5.6).
    no_openat2: AtomicBool,
}

#[allow(clippy::unused_self, reason = "asked of a file system")]
impl Linux {
    /// Opens the folder that all further paths are beneath; its own path is the caller's and trusted.
    pub(crate) fn top(path: &Path) -> io::Result<Arc<OwnedFd>> {
        // No NOFOLLOW: `/` or a bind mount may be reached by a link that the operator made.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Arc::new(sys::open(path, flags, Mode::empty())?))
    }

    /// Takes the exclusive lock of an open file or folder, or fails with `WouldBlock`.
    pub(crate) fn lock(of: &OwnedFd) -> io::Result<()> {
        Ok(sys::flock(of, sys::FlockOperation::NonBlockingLockExclusive)?)
    }

    /// Gives the lock up, for every copy of the handle.
    pub(crate) fn unlock(of: &OwnedFd) {
        if let Err(error) = sys::flock(of, sys::FlockOperation::Unlock) {
            tracing::warn!(%error, "unlock");
        }
    }

    /// Opens as openat2(2) does, without it: every component by itself and no link followed.
    fn walk(at: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
        let mut current: Option<OwnedFd> = None;
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(Errno::XDEV.into()) };
            current = Some(sys::openat(current.as_ref().unwrap_or(at), name, FOLDER, Mode::empty())?);
        }
        match current {
            Some(folder) => Ok(folder),
            None => Ok(sys::openat(at, c".", FOLDER, Mode::empty())?),
        }
    }

    /// Reports whether there is anything at `path`, with links followed as if `root` were `/`.
    pub(crate) fn exists_in_root(&self, root: &OwnedFd, path: &Path) -> io::Result<bool> {
        let below = path.strip_prefix("/").unwrap_or(path);
        if below.as_os_str().is_empty() {
            return Ok(true);
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = sys::openat2(root, below, flags, Mode::empty(), ResolveFlags::IN_ROOT).map(|_| ());
        let found = match found {
            // Without openat2 a link is taken for what it points to, unseen.
            Err(Errno::NOSYS | Errno::PERM) => {
                sys::statat(root, below, AtFlags::SYMLINK_NOFOLLOW).map(|_| ())
            }
            other => other,
        };
        match found {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens files and folders by [`Linux::walk`] only; for tests of the fallback.
    #[cfg(test)]
    pub(crate) fn without_openat2() -> Self {
        Self { no_openat2: AtomicBool::new(true), ..Self::default() }
    }
}

impl Look for Linux {
    type Handle = Arc<OwnedFd>;

    fn folder(&self, at: &Self::Handle, path: &Path) -> io::Result<Self::Handle> {
        if path.components().count() > 1 && !self.no_openat2.load(Ordering::Relaxed) {
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match sys::openat2(at, path, FOLDER, Mode::empty(), beneath) {
                Ok(folder) => return Ok(Arc::new(folder)),
                // EPERM is what container runtimes' seccomp filters say for system calls they do not know.
                Err(Errno::NOSYS | Errno::PERM) => self.no_openat2.store(true, Ordering::Relaxed),
                // A rename raced with the look-up (openat2(2)); the walk does not mind.
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Arc::new(Self::walk(at, path)?))
    }

    fn open(&self, at: &Self::Handle, name: &OsStr) -> io::Result<Self::Handle> {
        // NONBLOCK: opening a fifo that was put in the file's place must not hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(Arc::new(sys::openat(at, name, flags, Mode::empty())?))
    }

    fn list(&self, at: &Self::Handle, limit: usize) -> io::Result<Vec<OsString>> {
        // A handle of its own, since listing moves the offset of the open folder.
        let folder = sys::openat(at, c".", FOLDER, Mode::empty())?;
        let mut names = Vec::new();
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut entries = RawDir::new(&folder, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() >= limit {
                return Err(io::Error::other(format!("more than {limit} names")));
            }
            names.push(OsString::from_vec(name));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn stat(&self, at: &Self::Handle, name: &OsStr) -> io::Result<Stat> {
        Ok(stat_of(&sys::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn read_link(&self, at: &Self::Handle, name: &OsStr) -> io::Result<NodePath> {
        let target = sys::readlinkat(at, name, Vec::new())?;
        Ok(NodePath::new(OsStr::from_bytes(target.as_bytes())))
    }
}

impl Content for Linux {
    fn describe(&self, of: &Self::Handle) -> io::Result<Stat> {
        Ok(stat_of(&sys::fstat(of)?))
    }

    fn xattrs(&self, of: &Self::Handle) -> io::Result<Xattrs> {
        let mut xattrs = Xattrs::new();
        match sys::flistxattr_query(of) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(xattrs),
            Ok(_) | Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
        let mut names = Vec::with_capacity(XATTR_LIST_MAX);
        sys::flistxattr(of, spare_capacity(&mut names))?;
        let mut value = Vec::with_capacity(XATTR_LIST_MAX);
        for name in names.split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            value.clear();
            match sys::fgetxattr(of, name, spare_capacity(&mut value)) {
                Ok(_) => {
                    let name = NodePath::new(OsStr::from_bytes(name.to_bytes()));
                    xattrs.insert(name, NodePath::new(OsStr::from_bytes(&value)));
                }
                // Removed since the list was made; the caller sees that by the change time.
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(xattrs)
    }

    fn read(&self, from: &Self::Handle, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(from, &mut *buffer) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn create(&self, at: &Self::Handle, name: &OsStr) -> io::Result<Self::Handle> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Arc::new(sys::openat(at, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    fn write(&self, to: &Self::Handle, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(to, bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn set_attributes(&self, of: &Self::Handle, attributes: &Attributes) -> io::Result<()> {
        let now = stat_of(&sys::fstat(of)?);
        let is_given = (now.uid, now.gid) != (attributes.uid, attributes.gid);
        if is_given {
            sys::fchown(of, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
        }
        // After chown, which drops capabilities, and before chmod, which an ACL would otherwise undo.
        for (name, value) in &attributes.xattrs {
            match sys::fsetxattr(of, name.as_bytes(), value.as_bytes(), XattrFlags::empty()) {
                // The index has them all the same; a target without support cannot.
                Err(Errno::NOTSUP) => tracing::warn!(name = %name, "file system takes no such attribute"),
                other => other?,
            }
        }
        // Both may have changed the mode.
        let is_stale = is_given || !attributes.xattrs.is_empty();
        let mode = if is_stale { stat_of(&sys::fstat(of)?).mode } else { now.mode };
        if mode != attributes.mode {
            sys::fchmod(of, Mode::from_raw_mode(attributes.mode))?;
        }
        Ok(sys::futimens(of, &timestamps(attributes.modified))?)
    }

    fn remove_xattr(&self, of: &Self::Handle, name: &NodePath) -> io::Result<()> {
        match sys::fremovexattr(of, name.as_bytes()) {
            // SELinux lets nobody remove its label (security/selinux/hooks.c, selinux_inode_removexattr).
            Err(Errno::NODATA | Errno::NOTSUP | Errno::ACCESS) => Ok(()),
            other => Ok(other?),
        }
    }
}

impl Names for Linux {
    fn make_folder(&self, at: &Self::Handle, name: &OsStr) -> io::Result<()> {
        Ok(sys::mkdirat(at, name, Mode::RWXU)?)
    }

    fn make_symlink(
        &self,
        at: &Self::Handle,
        name: &OsStr,
        target: &NodePath,
        attributes: &Attributes,
    ) -> io::Result<()> {
        sys::symlinkat(target.as_bytes(), at, name)?;
        let now = sys::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (now.st_uid, now.st_gid) != (attributes.uid, attributes.gid) {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            sys::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(sys::utimensat(at, name, &timestamps(attributes.modified), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn link(&self, at: &Self::Handle, name: &OsStr, to: &Self::Handle, new: &OsStr) -> io::Result<()> {
        Ok(sys::linkat(at, name, to, new, AtFlags::empty())?)
    }

    fn rename(
        &self,
        at: &Self::Handle,
        name: &OsStr,
        to: &Self::Handle,
        new: &OsStr,
        how: Rename,
    ) -> io::Result<()> {
        let flags = match how {
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Replace => RenameFlags::empty(),
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        let renamed = match how {
            // The kernel tells of the move of the first name first (fs/namei.c, vfs_rename): this way round the
            // file under `new` goes and another comes, and is not deleted by a watcher after it came.
            Rename::Exchange => sys::renameat_with(to, new, at, name, flags),
            _ => sys::renameat_with(at, name, to, new, flags),
        };
        match renamed {
            // A file system without NOREPLACE (NFS, FAT: rename(2)); the store's lock keeps our own away.
            Err(Errno::INVAL | Errno::NOSYS) if how == Rename::NoReplace => {
                match sys::statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => Ok(sys::renameat(at, name, to, new)?),
                    Ok(_) => Err(Errno::EXIST.into()),
                    Err(error) => Err(error.into()),
                }
            }
            // One without EXCHANGE: the old file, which a snapshot holds, is not kept beside the new.
            Err(Errno::INVAL | Errno::NOSYS) if how == Rename::Exchange => {
                Ok(sys::renameat(at, name, to, new)?)
            }
            other => Ok(other?),
        }
    }

    fn remove(&self, at: &Self::Handle, name: &OsStr, kind: Kind) -> io::Result<()> {
        let flags = if kind == Kind::Folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(sys::unlinkat(at, name, flags)?)
    }
}

impl Durable for Linux {
    fn start_writeback(&self, of: &Self::Handle) {
        // Linux starts asynchronous writeback of dirty pages for this advice (mm/fadvise.c), so that
        // the fsyncs that follow find their data on the way and mostly share one journal commit.
        let _ = sys::fadvise(of, 0, None, Advice::DontNeed);
    }

    fn sync(&self, of: &Self::Handle) -> io::Result<()> {
        Ok(sys::fsync(of)?)
    }

    fn each(&self, work: Work, count: usize, job: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let run = || {
            while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count) {
                job(number);
            }
        };
        let at_once = match work {
            Work::Compute => self.workers.min(count.div_ceil(SHARE)).min(cores()),
            // To start a thread takes about as long as one such wait on a fast disk.
            Work::Wait => self.workers.min(count.div_ceil(2)),
        };
        let more = at_once.min(count).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..more {
                // The share of a thread that cannot be started is done by the others.
                let _ = std::thread::Builder::new().spawn_scoped(scope, run);
            }
            run();
        });
    }

    fn sync_everything(&self, of: &Self::Handle) -> io::Result<bool> {
        // Before Linux 5.8 syncfs(2) does not report errors of writing back.
        if !syncfs_reports_errors() {
            return Ok(false);
        }
        sys::syncfs(of)?;
        Ok(true)
    }

    fn may_hide_a_write(&self, stat: &Stat) -> bool {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let nanos = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        let age = nanos(now.tv_sec, now.tv_nsec) - nanos(stat.changed.0, i64::from(stat.changed.1));
        age < i128::try_from(TICKS.as_nanos()).unwrap_or(i128::MAX)
    }

    fn let_time_pass(&self) {
        std::thread::sleep(TICKS);
    }
}

/// Returns on how many cores this thread may run.
fn cores() -> usize {
    let set = rustix::thread::sched_getaffinity(None);
    set.map_or(1, |set| usize::try_from(set.count()).unwrap_or(1))
}

/// So many small files take one thread about as long as it takes to start another.
const SHARE: usize = 8;

/// Two ticks at 100 Hz, the slowest that kernels are built with.
const TICKS: Duration = Duration::from_millis(20);

fn syncfs_reports_errors() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(5), Some(8))
}

fn timestamps(modified: (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: sys::UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.0, tv_nsec: modified.1.into() },
    }
}

// The fields' integer types differ between architectures.
#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, clippy::cast_possible_truncation)]
#[allow(clippy::cast_possible_wrap, clippy::useless_conversion)]
fn stat_of(stat: &sys::Stat) -> Stat {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    };
    Stat {
        kind,
        mode: u32::from(stat.st_mode) & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_folder_with_and_without_openat2() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir_all(dir.path().join("top/a/b")).expect("mkdir");
        std::fs::create_dir_all(dir.path().join("outside/b")).expect("mkdir");
        std::os::unix::fs::symlink("../outside", dir.path().join("top/link")).expect("symlink");
        std::os::unix::fs::symlink("a", dir.path().join("top/inner")).expect("symlink");
        let top = Linux::top(&dir.path().join("top")).expect("open");
        for fs in [Linux::default(), Linux::without_openat2()] {
            fs.folder(&top, Path::new("a/b")).expect("plain");
            for bad in ["link/b", "inner/b", "link", "../outside", "a/../../outside", "/etc"] {
                assert!(fs.folder(&top, Path::new(bad)).is_err(), "{bad}");
            }
            assert!(fs.open(&top, "link".as_ref()).is_err(), "a link is not opened as a file");
        }
    }
}
