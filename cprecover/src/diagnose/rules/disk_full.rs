//! Mode 16: a file system is full.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{DataVerdict, Facts};
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::note;
use crate::facts::DiskFact;
use crate::logs::SignatureId as S;

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

fn check(facts: &Facts) -> Answer {
    let disks = &facts.host.disks;
    let full: Vec<&DiskFact> = disks.iter().filter(|disk| is_full(disk)).collect();
    let logged = facts.log_evidence(&[S::DiskFull]);
    // etcd's own file system, which need not be one of those.
    let etcd = match facts.etcd_data.present() {
        Some(DataVerdict::NoSpace(why)) => Some(note(EvidenceKind::Data, "etcd data folder", why.as_str())),
        _ => None,
    };
    if full.is_empty() && etcd.is_none() && (logged.is_empty() || !disks.is_empty()) {
        // With space free now, a log line of the past is no finding.
        return Answer::unless(!disks.is_empty(), "free space and inodes of the node's file systems");
    }
    let confidence = if full.is_empty() && etcd.is_none() { Confidence::Likely } else { Confidence::Proven };
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
