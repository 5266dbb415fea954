//! The lock on an etcd data directory.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::evidence::DataDirLock;
use super::procdir::ProcDir;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Observed, Pid};

/// etcd's database below its data directory (etcd `server/storage/datadir`).
pub const DATABASE: &str = "member/snap/db";

/// Returns device and inode of `member/snap/db` below a data directory (a path for us).
#[must_use]
pub fn database_file(data_dir: &Path) -> Observed<(u64, u64)> {
    let path = data_dir.join(DATABASE);
    Observed::from_result(
        std::fs::metadata(&path)
            .map(|meta| (meta.dev(), meta.ino()))
            .map_err(|source| Error::path("look at", &path, source)),
    )
}

/// Reports whether nobody holds the lock on a database file (a path for us); `true` when there is no
/// such file. A shared lock is taken and given back at once, so that a starting etcd, which retries
/// (bbolt `bolt_unix.go`), is not disturbed.
///
/// # Errors
/// The kinds of a failed open or flock(2).
pub fn lock_is_free(database: &Path) -> Result<bool> {
    // Never waits for a writer, should the path be a FIFO.
    let flags = i32::try_from(OFlags::NONBLOCK.bits())
        .map_err(|_| Error::new(ErrorKind::Internal, "O_NONBLOCK does not fit an int"))?;
    let file = match File::options().read(true).custom_flags(flags).open(database) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(source) => return Err(Error::path("open", database, source)),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(source) => Err(Error::path("lock", database, source)),
    }
}

/// Looks for an etcd database among the descriptors of a process, and for the lock on it.
///
/// The link of a descriptor is a path in a mount namespace that need not be ours; only its end and
/// the file behind it are used.
pub(super) fn of_process(proc: &ProcDir, pid: Pid) -> Observed<DataDirLock> {
    let mut found = None;
    let listed = proc.descriptors(pid, |fd, link| {
        let text = link.to_string_lossy();
        let deleted = text.strip_suffix(" (deleted)");
        let path = Path::new(deleted.unwrap_or(&text));
        // A folder that was renamed before it was removed leaves no more of the path than this.
        if path.ends_with(DATABASE) || (deleted.is_some() && path.ends_with("snap/db")) {
            found = Some((fd.to_owned(), path.to_owned(), deleted.is_some()));
        }
        found.is_none()
    });
    if let Err(errno) = listed {
        return Observed::Unknown(proc.process_error(pid, "fd", errno).to_string());
    }
    let Some((fd, db, deleted)) = found else { return Observed::Absent };
    let read =
        proc.descriptor_file(pid, &fd).and_then(|file| Ok((file, proc.read(&format!("{pid}/fdinfo/{fd}"))?)));
    match read {
        Ok((file, info)) => {
            let held = holds_lock(&String::from_utf8_lossy(&info));
            let last_copy = deleted.then(|| format!("/proc/{pid}/fd/{fd}").into());
            Observed::Present(DataDirLock { db, file, held, last_copy })
        }
        Err(errno) => Observed::Unknown(proc.process_error(pid, &format!("fd/{fd}"), errno).to_string()),
    }
}

/// Reads `lock:` lines of `/proc/PID/fdinfo/FD` (proc(5)): an exclusive lock of any of the three kinds.
fn holds_lock(fdinfo: &str) -> bool {
    fdinfo.lines().filter_map(|line| line.strip_prefix("lock:")).any(|lock| {
        let mut fields = lock.split_ascii_whitespace().skip(1);
        matches!(fields.next(), Some("FLOCK" | "OFDLCK" | "POSIX")) && fields.any(|field| field == "WRITE")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_line_is_recognised() {
        let info = "pos:\t0\nflags:\t0100002\nlock:\t1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF\n";
        assert!(holds_lock(info));
        assert!(!holds_lock("lock:\t1: FLOCK  ADVISORY  READ 359 00:13:11691 0 EOF\n"));
        assert!(!holds_lock("pos:\t0\n"));
    }

    #[test]
    fn a_held_lock_is_seen_and_a_missing_database_is_free() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert!(lock_is_free(&dir.path().join(DATABASE)).expect("no file"));
        assert!(database_file(dir.path()).is_absent());
        std::fs::create_dir_all(dir.path().join("member/snap")).expect("mkdir");
        let path = dir.path().join(DATABASE);
        let file = File::create(&path).expect("create");
        assert!(lock_is_free(&path).expect("free"));
        flock(&file, FlockOperation::LockExclusive).expect("lock");
        assert!(!lock_is_free(&path).expect("held"));
        let proc = ProcDir::open(Path::new("/proc")).expect("procfs");
        let own = Pid::new(i32::try_from(std::process::id()).expect("small")).expect("positive");
        let seen = of_process(&proc, own);
        let lock = seen.present().expect("seen");
        assert!(lock.held);
        assert_eq!(Some(&lock.file), database_file(dir.path()).present());
        assert_eq!(lock.last_copy, None);
        std::fs::rename(dir.path().join("member"), dir.path().join("member.old")).expect("mv");
        std::fs::remove_dir_all(dir.path().join("member.old")).expect("rm");
        let seen = of_process(&proc, own);
        let last = seen.present().and_then(|lock| lock.last_copy.clone()).expect("deleted");
        assert_eq!(std::fs::metadata(last).expect("its bytes are there still").ino(), lock.file.1);
    }
}
