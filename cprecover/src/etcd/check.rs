//! The offline check of a data directory.

mod files;
mod judge;

use std::path::{Path, PathBuf};

use super::bolt::{self, Depth};
use super::ids::{ClusterId, MemberId};
use super::lock::{self, DataLock};
use super::verdict::{DataReport, DataState, DataVerdict, Finding, FindingKind};
use super::wal::{self, WalScan};
use super::{snap, verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::{MAX_MANIFEST_BYTES, StaticPod};
use crate::sys::{Deadline, read_bounded};
use files::Files;

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

impl Expected {
    /// Takes name and peer URLs from etcd's manifest. The ids are not in it: etcd derives them from the
    /// names of the founding members, or from the time of a join.
    #[must_use]
    pub fn of_manifest(etcd: &StaticPod) -> Self {
        let urls = etcd.flag("initial-advertise-peer-urls").unwrap_or_default();
        Self {
            name: etcd.flag("name").map(str::to_owned),
            peer_urls: urls.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect(),
            ..Self::default()
        }
    }
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

impl CheckOptions {
    /// Returns the node's data directory, in the caller's file system, and how to check it: `--data-dir`,
    /// `--wal-dir`, name and peer URLs as the manifest says, else the node's options.
    #[must_use]
    pub fn of_node(node: &NodeOptions, etcd: Option<&StaticPod>) -> (PathBuf, Self) {
        let data_dir = etcd.and_then(StaticPod::etcd_data_dir).unwrap_or_else(|| node.etcd_data_dir.clone());
        let wal_dir = etcd.and_then(|etcd| etcd.node_path(Path::new(etcd.flag("wal-dir")?)));
        let options = Self {
            expected: etcd.map(Expected::of_manifest).unwrap_or_default(),
            wal_dir: wal_dir.map(|folder| node.resolve(folder)),
            proc_dir: node.proc_dir.clone(),
            ..Self::default()
        };
        (node.resolve(data_dir), options)
    }

    /// Returns where the node's own data are and what is expected there, by its manifest where that can be read.
    ///
    /// Without one the directory is that of the node's options, and nothing is expected of what is in it.
    #[must_use]
    pub fn by_manifest(node: &NodeOptions) -> (PathBuf, Self) {
        let manifest = own_manifest(node);
        let manifest = manifest
            .inspect_err(|error| tracing::warn!(%error, "etcd's data are judged without its manifest"));
        Self::of_node(node, manifest.ok().as_ref())
    }
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

/// Reads the manifest of the node's etcd.
pub(super) fn own_manifest(node: &NodeOptions) -> Result<StaticPod> {
    let path = node.manifests().join(Component::Etcd.manifest_file());
    let bytes = read_bounded(&path, MAX_MANIFEST_BYTES)?;
    StaticPod::parse_as_kubelet(&bytes).map_err(|error| error.context(path.display()))
}

/// Judges the node's own data directory as [`check_with`] does ([`CheckOptions::by_manifest`]).
#[must_use]
pub fn check_node(node: &NodeOptions, deadline: &Deadline) -> DataVerdict {
    let (data_dir, options) = CheckOptions::by_manifest(node);
    check_with(&data_dir, &options, deadline)
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
    let mut check = Check {
        options,
        deadline,
        findings: Vec::new(),
        report: DataReport {
            data_dir: data_dir.to_owned(),
            mode: None,
            lock: DataLock::NoFile,
            member_id: None,
            cluster_id: None,
            wal: Observed::Absent,
            snapshots: Vec::new(),
            db: Observed::Absent,
            space: None,
        },
    };
    if let Err(error) = check.run(data_dir) {
        let message = error.to_string();
        check.remark(data_dir, FindingKind::Unreadable, DataState::Unreadable, message);
    }
    verdict::conclude(check.findings, check.report)
}

fn is_absent(path: &Path) -> bool {
    path.metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

struct Check<'a> {
    options: &'a CheckOptions,
    deadline: &'a Deadline,
    findings: Vec<Finding>,
    report: DataReport,
}

impl Check<'_> {
    fn remark(&mut self, file: &Path, kind: FindingKind, state: DataState, message: String) {
        self.findings.push(Finding {
            kind,
            state,
            file: file.to_owned(),
            offset: None,
            record: None,
            message,
        });
    }

    fn run(&mut self, data_dir: &Path) -> Result<()> {
        let files = match files::list(data_dir, self.options, &mut self.findings) {
            Ok(files) => files,
            // A file of it that vanishes while it is listed is no missing folder.
            Err(error) if error.kind() == ErrorKind::NotFound && is_absent(data_dir) => {
                let message = "data directory does not exist".to_owned();
                self.remark(data_dir, FindingKind::Unreadable, DataState::Missing, message);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.report.mode = Some(files.mode);
        self.report.space = files.space;
        files.judge_place(&mut self.findings);
        if files.is_empty() {
            // A list that was cut off, or an entry that is no file, proves no absence.
            if self
                .findings
                .iter()
                .any(|finding| matches!(finding.state, DataState::Unfinished | DataState::Unreadable))
            {
                return Ok(());
            }
            let message = "no WAL, no snapshot, no database: etcd would start as a new member".to_owned();
            self.remark(data_dir, FindingKind::WalMissing, DataState::Empty, message);
            return Ok(());
        }
        let wal_paths = files.wal_paths();
        self.report.lock = lock::probe(&files.db, &wal_paths, &self.options.proc_dir, self.deadline);
        if let DataLock::Unknown { reason } = &self.report.lock {
            let message = format!("lock: {reason}");
            self.remark(&files.db, FindingKind::Unreadable, DataState::Unreadable, message);
        }
        if self.report.lock.is_held() {
            self.read_in_use(&files);
            return Ok(());
        }
        let before = self.findings.len();
        let scan = self.read_at_rest(&files);
        self.judge(&files, scan.as_ref());
        self.check_unchanged(&files, &wal_paths, before);
        Ok(())
    }

    /// Reads what can be read while etcd runs: the WAL is only appended to, and each of the two meta
    /// pages is whole; what looks broken at the moving end is no finding.
    fn read_in_use(&mut self, files: &Files) {
        let message = format!("database is in use: lock {}", self.report.lock);
        self.remark(&files.db, FindingKind::Locked, DataState::Locked, message);
        if files.wal.is_empty() {
            let message =
                "its WAL is gone while it runs; its next start would found a new cluster".to_owned();
            self.remark(&files.wal_dir, FindingKind::WalMissing, DataState::Locked, message);
        }
        if let Ok(mut scan) = bolt::scan(&files.db, Depth::MetaPages, self.options.db_bytes, self.deadline) {
            if let Ok(Some(members)) = bolt::members_in_use(&files.db, self.deadline) {
                scan.report.members = members;
            }
            self.report.db = Observed::Present(scan.report);
        }
        let mut ignored = Vec::new();
        self.report.snapshots = self.read_snapshots(files, &mut ignored);
        if let Some((member, cluster)) = wal::owner(&files.wal_dir, &files.wal) {
            self.report.member_id = Some(member);
            self.report.cluster_id = Some(cluster);
        }
        // Hundreds of megabytes, of which nothing is needed: in the time that is left.
        if let Ok(scan) = wal::scan(&files.wal_dir, &files.wal, self.options.wal_bytes, self.deadline) {
            self.report.wal = Observed::Present(scan.report);
        }
    }

    /// Reads everything; returns what the WAL says, where there is one that can be read.
    fn read_at_rest(&mut self, files: &Files) -> Option<WalScan> {
        let mut found = Vec::new();
        self.report.snapshots = self.read_snapshots(files, &mut found);
        self.findings.append(&mut found);
        match bolt::scan(&files.db, Depth::Everything, self.options.db_bytes, self.deadline) {
            Ok(mut scan) => {
                self.findings.append(&mut scan.findings);
                self.report.db = Observed::Present(scan.report);
            }
            Err(error) => self.report.db = self.unreadable(&files.db, &error),
        }
        if files.wal.is_empty() {
            return None;
        }
        match wal::scan(&files.wal_dir, &files.wal, self.options.wal_bytes, self.deadline) {
            Ok(mut scan) => {
                self.findings.append(&mut scan.findings);
                self.report.member_id = scan.member_id;
                self.report.cluster_id = scan.cluster_id;
                self.report.wal = Observed::Present(scan.report.clone());
                Some(scan)
            }
            Err(error) => {
                self.report.wal = self.unreadable(&files.wal_dir, &error);
                None
            }
        }
    }

    /// Turns a failed read into an observation, and into a finding unless the file is proven absent.
    fn unreadable<T>(&mut self, path: &Path, error: &Error) -> Observed<T> {
        if error.kind() == ErrorKind::NotFound {
            return Observed::Absent;
        }
        self.remark(path, FindingKind::Unreadable, DataState::Unreadable, error.to_string());
        Observed::Unknown(error.to_string())
    }

    fn read_snapshots(&mut self, files: &Files, findings: &mut Vec<Finding>) -> Vec<super::SnapFile> {
        let mut snapshots = Vec::new();
        for name in &files.snapshots {
            if let Err(stop) = self.deadline.check("read snapshots") {
                let message = stop.to_string();
                self.remark(&files.snap_dir, FindingKind::Limit, DataState::Unfinished, message);
                break;
            }
            let path = files.snap_dir.join(name);
            match snap::read(&path, name, findings) {
                Ok(file) => snapshots.extend(file),
                Err(error) => {
                    let message = error.to_string();
                    self.remark(&path, FindingKind::Unreadable, DataState::Unreadable, message);
                }
            }
        }
        // Newest first, by name, as etcd takes them.
        snapshots.sort_by(|a, b| b.name.cmp(&a.name));
        snapshots
    }

    /// Makes sure that nothing was written while it was read; otherwise the findings mean nothing.
    fn check_unchanged(&mut self, files: &Files, wal_paths: &[PathBuf], before: usize) {
        let lock = lock::probe(&files.db, wal_paths, &self.options.proc_dir, self.deadline);
        if lock.is_held() {
            self.findings.truncate(before);
            let message = format!("database came into use while it was read: lock {lock}");
            self.remark(&files.db, FindingKind::Locked, DataState::Locked, message);
            self.report.lock = lock;
        } else if !files.is_unchanged() {
            self.findings.truncate(before);
            let message = "files changed while they were read".to_owned();
            self.remark(&files.db, FindingKind::Changed, DataState::Changed, message);
        }
    }
}

#[cfg(test)]
mod tests;
