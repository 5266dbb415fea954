//! A disk reports errors or became read-only.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::DiskFailing,
    is_effect: false,
    effects: &[FindingId::SlowDisk, FindingId::WalCorrupt, FindingId::DbCorrupt, FindingId::DbSnapMismatch, FindingId::LogBlocked, FindingId::EtcdHung, FindingId::RuntimeDown, FindingId::KubeletDown, FindingId::CrashLoop, FindingId::EtcdDown, FindingId::EtcdUnreachable, FindingId::ApiserverDown, FindingId::ControllersDown, FindingId::KubeletDisconnected],
    check,
};

fn check(facts: &Facts) -> Answer {
    let evidence = facts.log_evidence(&[S::IoError, S::ReadOnlyFilesystem]);
    if evidence.is_empty() {
        return Answer::unless(facts.has_logs(), "the log of kubelet");
    }
    draft(FindingId::DiskFailing, Severity::Error, Confidence::Likely, "a disk reports errors, stalls, or its file system became read-only")
        .evidence(evidence)
        .remedy("Read the kernel's log and repair or replace the disk first; copy the etcd data folder away while it can be read.")
}
