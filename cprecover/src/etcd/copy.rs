//! Copies a member's files while nobody uses them.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{lock, unfinished, wal};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// How many files and folders a member may have.
const MAX_FILES: usize = 10_000;
/// How deep they may lie; etcd's lie in `member/wal` and `member/snap`.
const MAX_DEPTH: usize = 4;
/// What is left free beside the copy: etcd's next WAL file, should it be on the same file system.
const SPARE_BYTES: u64 = 64_000_000;
/// The list of digests, in the form that `sha256sum -c` reads.
const SUMS: &str = "SHA256SUMS";

/// One file of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopiedFile {
    /// Its path below the copy.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of the original as it was read.
    pub sha256: Digest,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopyReceipt {
    /// The folder that now holds `member/` and `SHA256SUMS`.
    pub path: PathBuf,
    /// Every file, by path.
    pub files: Vec<CopiedFile>,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Whether the blocks are shared with the original (FICLONE) and take no room of their own.
    pub reflinked: bool,
}

/// Copies `data_dir/member` as a whole to the new folder `to`, while holding the database's lock.
///
/// The database alone would lack the entries that are only in the WAL, so the copy is of everything; a WAL
/// in a folder of its own (`--wal-dir`) is not below `member` and has to be copied by itself. `to` appears by
/// a rename after everything is on disk, or not at all. Owner and mode are kept.
///
/// # Errors
/// [`crate::ErrorKind::Busy`] when a process holds the lock (with its pid),
/// [`crate::ErrorKind::AlreadyExists`] when `to` exists, [`crate::ErrorKind::NoSpace`] when the target has
/// no room, [`crate::ErrorKind::NotFound`] when there is no member, [`crate::ErrorKind::Limit`] for more
/// than 10,000 files, [`crate::ErrorKind::Unsupported`] for a symbolic link or special file, and the kinds
/// of failed reads and writes.
pub fn copy_member(data_dir: &Path, to: &Path, deadline: &Deadline) -> Result<CopyReceipt> {
    let member = data_dir.join("member");
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if to.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::AlreadyExists, format!("{} exists", to.display())));
    }
    if folder.starts_with(&member) {
        let message = format!("{} lies inside the member itself", to.display());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let (before, locked) = lock_member(&member, deadline)?;
    // Only now nobody can write, so that this list is what will be copied.
    let entries = list(&member)?;
    if names_of_wal(&before) != names_of_wal(&entries) {
        return Err(Error::new(ErrorKind::Changed, format!("{} changed", member.display())));
    }
    let bytes = entries.iter().map(|entry| entry.size_bytes).sum::<u64>();
    let staging = tempfile::Builder::new()
        .prefix(unfinished::COPY)
        .tempdir_in(folder)
        .map_err(|source| Error::path("create a temporary folder in", folder, source))?;
    let at_work = File::open(staging.path()).map_err(|source| Error::path("open", staging.path(), source))?;
    unfinished::keep(&at_work, staging.path())?;
    let mut copy = Copy { member: &member, to: staging.path(), bytes, clones: None, deadline };
    let files = copy.everything(&entries)?;
    let reflinked = copy.clones == Some(true);
    write_sums(staging.path(), &files)?;
    sync(staging.path())?;
    rename_new(staging.path(), to)?;
    // The folder has its final name; there is nothing left to remove.
    let _ = staging.keep();
    sync(folder)?;
    drop((at_work, locked));
    tracing::info!(from = %member.display(), to = %to.display(), bytes, reflinked, "etcd member copied");
    Ok(CopyReceipt { path: to.to_owned(), files, bytes, reflinked })
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Path below `member`, empty for `member` itself.
    path: PathBuf,
    is_dir: bool,
    size_bytes: u64,
    mode: u32,
    owner: (u32, u32),
}

fn names_of_wal(entries: &[Entry]) -> Vec<&Path> {
    entries.iter().map(|entry| entry.path.as_path()).filter(|path| path.starts_with("wal")).collect()
}

fn lock_member(member: &Path, deadline: &Deadline) -> Result<(Vec<Entry>, lock::HeldLock)> {
    let entries = list(member)?;
    let is_wal = |path: &Path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| wal::parse_name(name).is_some())
    };
    let wal_files: Vec<PathBuf> =
        entries.iter().filter(|entry| is_wal(&entry.path)).map(|entry| member.join(&entry.path)).collect();
    let locked = lock::hold(&member.join("snap/db"), &wal_files, Path::new("/proc"), deadline)?;
    Ok((entries, locked))
}

/// Lists the member, folders before what is in them, the database first of all files.
fn list(member: &Path) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let at = member.join(&folder);
        found.push(entry(&at, folder.clone())?);
        let listing = std::fs::read_dir(&at).map_err(|source| Error::path("list", &at, source))?;
        for item in listing {
            let item = item.map_err(|source| Error::path("list", &at, source))?;
            let entry = entry(&item.path(), folder.join(item.file_name()))?;
            if found.len() + folders.len() >= MAX_FILES || depth >= MAX_DEPTH {
                let message = format!("{} has too many files or folders", member.display());
                return Err(Error::new(ErrorKind::Limit, message));
            }
            if entry.is_dir {
                folders.push((entry.path, depth + 1));
            } else {
                found.push(entry);
            }
        }
    }
    // Its size makes the database the best to try a reflink on.
    found.sort_by(|a, b| (!a.is_dir, b.size_bytes, &a.path).cmp(&(!b.is_dir, a.size_bytes, &b.path)));
    found.sort_by_key(|entry| if entry.is_dir { entry.path.components().count() } else { usize::MAX });
    Ok(found)
}

fn entry(at: &Path, path: PathBuf) -> Result<Entry> {
    let metadata = std::fs::symlink_metadata(at).map_err(|source| Error::path("stat", at, source))?;
    if !metadata.is_dir() && !metadata.is_file() {
        let message = format!("{} is neither a file nor a folder", at.display());
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(Entry {
        path,
        is_dir: metadata.is_dir(),
        size_bytes: if metadata.is_file() { metadata.len() } else { 0 },
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
    })
}

struct Copy<'a> {
    member: &'a Path,
    to: &'a Path,
    bytes: u64,
    /// Whether the target shares blocks with the original; not known before the first file.
    clones: Option<bool>,
    deadline: &'a Deadline,
}

impl Copy<'_> {
    fn everything(&mut self, entries: &[Entry]) -> Result<Vec<CopiedFile>> {
        let target = self.to.join("member");
        let mut files = Vec::new();
        for entry in entries {
            let at = target.join(&entry.path);
            if entry.is_dir {
                std::fs::create_dir(&at).map_err(|source| Error::path("create", &at, source))?;
                std::fs::set_permissions(&at, Permissions::from_mode(0o700))
                    .map_err(|source| Error::path("chmod", &at, source))?;
            } else {
                files.push(self.file(entry, &at)?);
            }
        }
        for entry in entries.iter().rev().filter(|entry| entry.is_dir) {
            let at = target.join(&entry.path);
            let folder = File::open(&at).map_err(|source| Error::path("open", &at, source))?;
            keep_owner_and_mode(&folder, &at, entry)?;
            folder.sync_all().map_err(|source| Error::path("sync", &at, source))?;
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn file(&mut self, entry: &Entry, at: &Path) -> Result<CopiedFile> {
        let from = self.member.join(&entry.path);
        let source = File::open(&from).map_err(|source| Error::path("open", &from, source))?;
        let target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(at)
            .map_err(|source| Error::path("create", at, source))?;
        if self.clones != Some(false) {
            let cloned = rustix::fs::ioctl_ficlone(&target, &source).is_ok();
            if !cloned || self.clones.is_none() {
                self.check_room(cloned)?;
            }
            self.clones = Some(cloned);
        }
        let cloned = self.clones == Some(true);
        let (size_bytes, sha256) = self.read_through(source, (!cloned).then_some(&target), &from)?;
        if size_bytes != entry.size_bytes {
            let message = format!("{} changed its size while it was copied", from.display());
            return Err(Error::new(ErrorKind::Changed, message));
        }
        keep_owner_and_mode(&target, at, entry)?;
        target.sync_all().map_err(|source| Error::path("sync", at, source))?;
        Ok(CopiedFile { path: Path::new("member").join(&entry.path), size_bytes, sha256 })
    }

    fn check_room(&self, cloned: bool) -> Result<()> {
        let stat = rustix::fs::statvfs(self.to).map_err(|source| Error::path("statvfs", self.to, source))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let needed = if cloned { 0 } else { self.bytes }.saturating_add(SPARE_BYTES);
        if free >= needed {
            return Ok(());
        }
        let message =
            format!("{} has {free} bytes free, the copy needs {needed} with reserve", self.to.display());
        Err(Error::new(ErrorKind::NoSpace, message))
    }

    /// Reads the original for its digest, and writes it on the way unless its blocks are shared already.
    fn read_through(
        &self,
        mut source: File,
        mut target: Option<&File>,
        from: &Path,
    ) -> Result<(u64, Digest)> {
        let mut hash = sha2::Sha256::new();
        let mut chunk = vec![0_u8; 1 << 20];
        let mut size = 0_u64;
        loop {
            self.deadline.check("copy etcd member")?;
            let count = source.read(&mut chunk).map_err(|source| Error::path("read", from, source))?;
            if count == 0 {
                return Ok((size, Digest::from_bytes(hash.finalize().into())));
            }
            let bytes = chunk.get(..count).unwrap_or_default();
            hash.update(bytes);
            if let Some(target) = &mut target {
                let written = target.write_all(bytes);
                written.map_err(|source| Error::path("write copy of", from, source))?;
            }
            size += u64::try_from(count).unwrap_or(u64::MAX);
        }
    }
}

fn keep_owner_and_mode(file: &File, at: &Path, entry: &Entry) -> Result<()> {
    let metadata = file.metadata().map_err(|source| Error::path("stat", at, source))?;
    // Only root may give files away; a copy that is ours alone restores as well.
    if (metadata.uid(), metadata.gid()) != entry.owner {
        let (uid, gid) = entry.owner;
        std::os::unix::fs::fchown(file, Some(uid), Some(gid))
            .map_err(|source| Error::path("chown", at, source))?;
    }
    file.set_permissions(Permissions::from_mode(entry.mode))
        .map_err(|source| Error::path("chmod", at, source))
}

fn write_sums(to: &Path, files: &[CopiedFile]) -> Result<()> {
    let path = to.join(SUMS);
    let mut text = String::new();
    for file in files {
        text.extend([&file.sha256.to_string(), "  ", &file.path.to_string_lossy(), "\n"]);
    }
    let mut sums = File::create_new(&path).map_err(|source| Error::path("create", &path, source))?;
    sums.write_all(text.as_bytes())
        .and_then(|()| sums.sync_all())
        .map_err(|source| Error::path("write", &path, source))
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| Error::path("sync", folder, source))
}

fn rename_new(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .map_err(|source| Error::path("name", to, source))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn deadline() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    fn member() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir_all(dir.path().join("member/snap")).expect("mkdir");
        std::fs::create_dir_all(dir.path().join("member/wal")).expect("mkdir");
        std::fs::write(dir.path().join("member/snap/db"), vec![7; 3_000_000]).expect("write");
        let wal = "member/wal/0000000000000000-0000000000000000.wal";
        std::fs::write(dir.path().join(wal), b"log").expect("write");
        std::fs::set_permissions(dir.path().join("member/snap/db"), Permissions::from_mode(0o640))
            .expect("chmod");
        dir
    }

    #[test]
    fn everything_is_copied_with_digests_that_sha256sum_accepts() {
        let dir = member();
        let to = dir.path().join("copy");
        let receipt = copy_member(dir.path(), &to, &deadline()).expect("copies");
        assert_eq!((receipt.files.len(), receipt.bytes), (2, 3_000_003));
        let copied = std::fs::read(to.join("member/snap/db")).expect("read");
        assert!(copied == vec![7; 3_000_000]);
        let mode = std::fs::metadata(to.join("member/snap/db")).expect("stat").mode() & 0o7777;
        assert_eq!(mode, 0o640);
        let status = std::process::Command::new("sha256sum")
            .args(["-c", "--quiet", SUMS])
            .current_dir(&to)
            .status()
            .expect("sha256sum");
        assert!(status.success());
        let error = copy_member(dir.path(), &to, &deadline()).expect_err("exists");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let dir = member();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("member/snap/link")).expect("link");
        let to = dir.path().join("copy");
        let error = copy_member(dir.path(), &to, &deadline()).expect_err("symlink");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        std::fs::remove_file(dir.path().join("member/snap/link")).expect("remove");
        let late = copy_member(dir.path(), &to, &Deadline::after(Duration::ZERO)).expect_err("late");
        assert_eq!(late.kind(), ErrorKind::Timeout);
        let left: Vec<_> = std::fs::read_dir(dir.path()).expect("list").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let none = copy_member(&dir.path().join("none"), &to, &deadline()).expect_err("no member");
        assert_eq!(none.kind(), ErrorKind::NotFound);
        let inside = dir.path().join("member/copy");
        assert_eq!(
            copy_member(dir.path(), &inside, &deadline()).expect_err("inside").kind(),
            ErrorKind::Invalid
        );
    }
}
