//! A disk reports errors or became read-only.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{DataVerdict, Facts};
use crate::diagnose::finding::{Confidence, Evidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::note;
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::DiskFailing,
    is_effect: false,
    effects: &[FindingId::SlowDisk, FindingId::WalCorrupt, FindingId::DbCorrupt, FindingId::DbSnapMismatch, FindingId::LogBlocked, FindingId::EtcdHung, FindingId::RuntimeDown, FindingId::KubeletDown, FindingId::CrashLoop, FindingId::EtcdDown, FindingId::EtcdUnreachable, FindingId::ApiserverDown, FindingId::ControllersDown, FindingId::KubeletDisconnected],
    check,
};

fn check(facts: &Facts) -> Answer {
    let mut targets = Targets::default();
    targets.paths.extend(facts.host.disks.iter().filter(|disk| disk.read_only).map(|disk| disk.path.clone()));
    let mounted = targets
        .paths
        .iter()
        .map(|path| note(EvidenceKind::Host, path.display().to_string(), "its file system is mounted read-only"));
    // etcd's own file system, which need not be one of those.
    let etcd = match facts.etcd_data.present() {
        Some(DataVerdict::ReadOnly(why)) => Some(note(EvidenceKind::Data, "etcd data folder", why.as_str())),
        _ => None,
    };
    let seen: Vec<Evidence> = mounted.chain(etcd).collect();
    let logged = facts.log_evidence(&[S::IoError, S::ReadOnlyFilesystem]);
    if seen.is_empty() && logged.is_empty() {
        let was_looked_at = facts.has_log(LogOf::Kernel) && !facts.host.disks.is_empty();
        return Answer::unless(was_looked_at, "the kernel's log, and how the node's file systems are mounted");
    }
    let confidence = if seen.is_empty() { Confidence::Likely } else { Confidence::Proven };
    draft(FindingId::DiskFailing, Severity::Error, confidence, "a disk reports errors, stalls, or its file system became read-only")
        .evidence(seen.into_iter().chain(logged))
        .targets(targets)
        .remedy("Read the kernel's log and repair or replace the disk first; copy the etcd data folder away while it can be read.")
}
