//! The offline check of a data directory.

use std::path::{Path, PathBuf};

use super::ids::{ClusterId, MemberId};
use super::verdict::DataVerdict;
use crate::sys::Deadline;

/// Whom the data directory should belong to; what is `None` or empty is not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expected {
    /// The member's id, as the other members or an earlier backup know it.
    pub member_id: Option<MemberId>,
    /// The cluster's id, likewise.
    pub cluster_id: Option<ClusterId>,
    /// `--name` of the manifest.
    pub name: Option<String>,
    /// `--initial-advertise-peer-urls` of the manifest.
    pub peer_urls: Vec<String>,
}

/// What to compare with, where the WAL is, and how much is read at most.
///
/// The limits bound the work on hostile or huge files; every byte is read at most once, through
/// buffers of at most 64 MiB, and nothing is mapped into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Whom the directory should belong to.
    pub expected: Expected,
    /// `--wal-dir`, where it is not `member/wal`.
    pub wal_dir: Option<PathBuf>,
    /// Where procfs is mounted, to name lock holders.
    pub proc_dir: PathBuf,
    /// How many bytes of WAL are read; 16 files of 64 MB by default (etcd keeps 5).
    pub wal_bytes: u64,
    /// How large a database is read; 16 GiB by default (etcd advises at most 8 GiB).
    pub db_bytes: u64,
    /// How many entries each folder may have; 4096 by default.
    pub entries: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            expected: Expected::default(),
            wal_dir: None,
            proc_dir: "/proc".into(),
            wal_bytes: 16 * 64_000_000,
            db_bytes: 16 << 30,
            entries: 4096,
        }
    }
}

/// Judges a data directory without starting etcd and without writing.
///
/// A held lock is respected: integrity is then not judged ([`super::DataState::Locked`]), since a running
/// etcd changes the files. The lock is tried for an instant with a shared `flock`, which bbolt retries
/// every 50 ms; it is not held during the read. Everything that goes wrong is part of the verdict.
#[must_use]
pub fn check(data_dir: &Path, deadline: &Deadline) -> DataVerdict {
    check_with(data_dir, &CheckOptions::default(), deadline)
}

/// As [`check`], with something to compare with and limits of the caller's own.
#[must_use]
pub fn check_with(data_dir: &Path, options: &CheckOptions, deadline: &Deadline) -> DataVerdict {
    let _ = (data_dir, options, deadline);
    todo!()
}
