//! Mode 16: a file system is full.

use std::path::{Path, PathBuf};

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{DataVerdict, Facts};
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::{note, of_log};
use crate::facts::DiskFact;
use crate::logs::{LogMatch, SignatureId as S};
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::DiskFull,
    is_effect: false,
    effects: &[
        FindingId::LogBlocked,
        FindingId::SlowDisk,
        FindingId::WalCorrupt,
        FindingId::DbCorrupt,
        FindingId::EtcdHung,
        FindingId::StaticPodRejected,
        FindingId::ImageMissing,
        FindingId::RuntimeDown,
        FindingId::KubeletDown,
        FindingId::ManifestInvalid,
        FindingId::CrashLoop,
        FindingId::EtcdDown,
        FindingId::EtcdUnreachable,
        FindingId::ApiserverDown,
        FindingId::ControllersDown,
        FindingId::KubeletDisconnected,
    ],
    check,
};

/// Less than this, of space or of inodes, is as good as nothing; etcd allocates its log in pieces of 64 MB.
const FULL_BYTES: u64 = 64 << 20;
const FULL_INODES: u64 = 16;

fn is_full(disk: &DiskFact) -> bool {
    disk.available_bytes < FULL_BYTES.min(disk.total_bytes / 100 + 1)
        || (disk.total_inodes > 0 && disk.available_inodes < FULL_INODES.min(disk.total_inodes / 100 + 1))
}

/// etcd's data folder by kubeadm (kubernetes `cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go`).
const ETCD_DATA_DIR: &str = "/var/lib/etcd";

/// Returns where a log line says that there was no room; etcd names no path when it allocates its next log
/// file (etcd `server/storage/wal/wal.go`).
fn place(facts: &Facts, found: &LogMatch) -> Option<PathBuf> {
    let path = found.param("path").map(Path::new).filter(|path| path.is_absolute());
    path.map(Path::to_owned).or_else(|| {
        let data_dir = facts.host.data_dir.present().map_or(Path::new(ETCD_DATA_DIR), |fact| fact.path.as_path());
        LogOf::Pod(Component::Etcd).is_named(&found.source).then(|| data_dir.to_owned())
    })
}

fn check(facts: &Facts) -> Answer {
    let disks = &facts.host.disks;
    // Space on a read-only file system is of no use, and that it has none, as on any image, is no fault.
    let full: Vec<&DiskFact> = disks.iter().filter(|disk| !disk.read_only && is_full(disk)).collect();
    // etcd's own file system, which need not be one of those.
    let etcd = match facts.etcd_data.present() {
        Some(DataVerdict::NoSpace(why)) => Some(note(EvidenceKind::Data, "etcd data folder", why.as_str())),
        _ => None,
    };
    let is_seen = !full.is_empty() || etcd.is_some();
    // With space free now where it was missing, a log line is of the past.
    let is_refuted = |found: &LogMatch| {
        place(facts, found).is_some_and(|place| disks.iter().any(|disk| place.starts_with(&disk.path)))
    };
    let logged: Vec<_> = facts
        .logs(&[S::DiskFull])
        .filter(|found| is_seen || !is_refuted(found))
        .take(8)
        .map(of_log)
        .collect();
    if !is_seen && logged.is_empty() {
        return Answer::unless(!disks.is_empty(), "free space and inodes of the node's file systems");
    }
    let confidence = if is_seen { Confidence::Proven } else { Confidence::Likely };
    let seen = full.iter().map(|disk| {
        let text = format!(
            "{} of {} MiB and {} of {} inodes available",
            disk.available_bytes >> 20,
            disk.total_bytes >> 20,
            disk.available_inodes,
            disk.total_inodes
        );
        note(EvidenceKind::Host, disk.path.display().to_string(), text)
    });
    let mut targets = Targets::default();
    targets.paths.extend(full.iter().map(|disk| disk.path.clone()));
    draft(FindingId::DiskFull, Severity::Critical, confidence, "a file system of the node is full")
        .evidence(seen.chain(etcd).chain(logged))
        .targets(targets)
        .remedy("Free space (old logs, unused images); never delete files below the etcd data folder. Then restart what failed.")
}
