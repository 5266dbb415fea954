//! What is in a data directory, before anything of it is read.

use std::fs::{Metadata, read_dir};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::CheckOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::verdict::{DataState, Finding, FindingKind, Space, WalFile};
use crate::etcd::wal;

/// etcd allocates a WAL file of 64 MB ahead (etcd `server/storage/wal/wal.go`, `SegmentSizeBytes`).
const WAL_SEGMENT_BYTES: u64 = 64_000_000;

/// Identity and version of a file, as far as `stat` tells them.
type Stamp = (PathBuf, Option<(u64, u64, u64, i64, i64)>);

/// The files of a member.
#[derive(Debug)]
pub(super) struct Files {
    data_dir: PathBuf,
    pub(super) mode: u32,
    pub(super) space: Option<Space>,
    pub(super) wal_dir: PathBuf,
    pub(super) snap_dir: PathBuf,
    pub(super) db: PathBuf,
    pub(super) has_db: bool,
    /// WAL files in order of their sequence.
    pub(super) wal: Vec<WalFile>,
    /// Names that end in `.snap`.
    pub(super) snapshots: Vec<String>,
    /// Indexes of `<index>.snap.db` files, databases that a leader sent.
    pub(super) snap_dbs: Vec<u64>,
    stamps: Vec<Stamp>,
}

/// Lists the files of the member below `data_dir`.
pub(super) fn list(data_dir: &Path, options: &CheckOptions, findings: &mut Vec<Finding>) -> Result<Files> {
    let metadata = std::fs::metadata(data_dir).map_err(|source| Error::path("stat", data_dir, source))?;
    if !metadata.is_dir() {
        return Err(Error::new(ErrorKind::Invalid, format!("{} is no directory", data_dir.display())));
    }
    let member = data_dir.join("member");
    let wal_dir = options.wal_dir.clone().unwrap_or_else(|| member.join("wal"));
    let snap_dir = member.join("snap");
    let db = snap_dir.join("db");
    let mut files = Files {
        data_dir: data_dir.to_owned(),
        mode: metadata.mode() & 0o7777,
        space: space_of(data_dir),
        has_db: exists(&db)?,
        wal_dir,
        snap_dir,
        db,
        wal: Vec::new(),
        snapshots: Vec::new(),
        snap_dbs: Vec::new(),
        stamps: Vec::new(),
    };
    files.list_wal(options.entries, findings)?;
    files.list_snap(options.entries, findings)?;
    let watched = files.wal_paths().into_iter().chain([files.db.clone(), files.wal_dir.clone()]);
    files.stamps = watched.map(|path| stamp(&path)).collect();
    Ok(files)
}

impl Files {
    /// Reports whether there is nothing of a member.
    pub(super) const fn is_empty(&self) -> bool {
        self.wal.is_empty() && self.snapshots.is_empty() && !self.has_db
    }

    /// Returns the WAL files' paths.
    pub(super) fn wal_paths(&self) -> Vec<PathBuf> {
        self.wal.iter().map(|file| self.wal_dir.join(&file.name)).collect()
    }

    /// Reports whether no file was replaced, written or resized since it was listed.
    pub(super) fn is_unchanged(&self) -> bool {
        self.stamps.iter().all(|before| stamp(&before.0) == *before)
    }

    /// Judges permissions and room.
    pub(super) fn judge_place(&self, findings: &mut Vec<Finding>) {
        let mut find = |kind, state, message| {
            let file = self.data_dir.clone();
            findings.push(Finding { kind, state, file, offset: None, record: None, message });
        };
        if self.mode & 0o077 != 0 {
            let message = format!("directory has mode {:04o}; etcd wants 0700", self.mode);
            find(FindingKind::Permissions, DataState::Intact, message);
        }
        let Some(space) = &self.space else { return };
        if space.read_only {
            find(FindingKind::ReadOnly, DataState::NoSpace, "file system is mounted read-only".to_owned());
        } else if space.free_inodes == Some(0) {
            find(FindingKind::NoSpace, DataState::NoSpace, "file system has no inode left".to_owned());
        } else if space.free_bytes < WAL_SEGMENT_BYTES {
            let message = format!(
                "{} bytes are free, and etcd allocates {WAL_SEGMENT_BYTES} for its next WAL file",
                space.free_bytes
            );
            find(FindingKind::NoSpace, DataState::NoSpace, message);
        }
    }

    fn list_wal(&mut self, limit: usize, findings: &mut Vec<Finding>) -> Result<()> {
        for (name, path) in entries(&self.wal_dir, limit, findings)? {
            let Some((sequence, first_index)) = wal::parse_name(&name) else {
                if has_extension(&name, "broken") {
                    findings.push(leftover(&path));
                }
                continue;
            };
            let metadata = match std::fs::metadata(&path) {
                Ok(metadata) => metadata,
                // A running etcd purges its oldest files (etcd `client/pkg/fileutil/purge.go`).
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !exists(&path)? => continue,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    findings.push(not_regular(&path));
                    continue;
                }
                Err(source) => return Err(Error::path("stat", &path, source)),
            };
            if !metadata.is_file() {
                findings.push(not_regular(&path));
                continue;
            }
            let size_bytes = metadata.len();
            self.wal.push(WalFile { name, sequence, first_index, size_bytes, used_bytes: 0, records: 0 });
        }
        self.wal.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    fn list_snap(&mut self, limit: usize, findings: &mut Vec<Finding>) -> Result<()> {
        for (name, path) in entries(&self.snap_dir, limit, findings)? {
            let snap_db = name.strip_suffix(".snap.db").and_then(|hex| u64::from_str_radix(hex, 16).ok());
            if let Some(index) = snap_db {
                self.snap_dbs.push(index);
            } else if has_extension(&name, "snap") {
                self.snapshots.push(name);
            } else if has_extension(&name, "broken") || name.starts_with("tmp") || name.starts_with("db.tmp")
            {
                findings.push(leftover(&path));
            }
        }
        self.snapshots.sort();
        Ok(())
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

fn leftover(path: &Path) -> Finding {
    Finding {
        kind: FindingKind::Leftover,
        state: DataState::Intact,
        file: path.to_owned(),
        offset: None,
        record: None,
        message: "left by an earlier repair or an interrupted write; etcd does not read it".to_owned(),
    }
}

fn not_regular(path: &Path) -> Finding {
    Finding {
        kind: FindingKind::Permissions,
        state: DataState::Unreadable,
        file: path.to_owned(),
        offset: None,
        record: None,
        message: "not a regular file".to_owned(),
    }
}

/// Returns names and paths in a folder, none when it does not exist; a name that is not UTF-8 is no file
/// of etcd's.
fn entries(dir: &Path, limit: usize, findings: &mut Vec<Finding>) -> Result<Vec<(String, PathBuf)>> {
    let listing = match read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::path("list", dir, source)),
    };
    let mut found = Vec::new();
    for entry in listing {
        if found.len() >= limit {
            findings.push(Finding {
                kind: FindingKind::Limit,
                state: DataState::Unfinished,
                file: dir.to_owned(),
                offset: None,
                record: None,
                message: format!("folder has more than {limit} entries"),
            });
            break;
        }
        let entry = entry.map_err(|source| Error::path("list", dir, source))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

fn exists(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::path("stat", path, source)),
    }
}

fn stamp(path: &Path) -> Stamp {
    let of = |m: Metadata| (m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec());
    (path.to_owned(), std::fs::metadata(path).ok().map(of))
}

fn space_of(dir: &Path) -> Option<Space> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Space {
        total_bytes: bytes(stat.f_blocks),
        available_bytes: bytes(stat.f_bavail),
        free_bytes: bytes(stat.f_bfree),
        // btrfs counts no inodes.
        free_inodes: (stat.f_files != 0).then_some(stat.f_ffree),
        read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}
