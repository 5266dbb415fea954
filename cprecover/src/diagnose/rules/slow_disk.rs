//! Mode 17: the disk is too slow for etcd, or stalls.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::note;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::SlowDisk,
    is_effect: false,
    effects: &[
        FindingId::LogBlocked,
        FindingId::EtcdHung,
        FindingId::QuorumLost,
        FindingId::CrashLoop,
        FindingId::EtcdDown,
        FindingId::EtcdUnreachable,
        FindingId::ApiserverDown,
        FindingId::ControllersDown,
        FindingId::KubeletDisconnected,
    ],
    check,
};

/// All tasks of the node waited for the disk for so much of the last minute.
const STALLED_PERCENT: f64 = 40.0;

fn check(facts: &Facts) -> Answer {
    let pressure = facts.host.pressure.present();
    let stalled = pressure.filter(|pressure| pressure.io_full_percent >= STALLED_PERCENT).map(|pressure| {
        let text = format!("all tasks waited for the disk {:.0} % of the last minute", pressure.io_full_percent);
        note(EvidenceKind::Host, "/proc/pressure/io", text)
    });
    let slow = facts.log_evidence(&[S::SlowFdatasync, S::HeartbeatLate]);
    if stalled.is_none() && slow.is_empty() {
        return Answer::unless(pressure.is_some() || facts.has_log(LogOf::Pod(Component::Etcd)), "the log of etcd, and the disk's pressure");
    }
    let also = facts.failed_check("log").into_iter().chain(facts.log_evidence(&[S::ApplyTookTooLong]));
    let confidence = if stalled.is_some() { Confidence::Proven } else { Confidence::Likely };
    // etcd warns from one slow write on; only with a failing etcd or API server it is an outage.
    let etcd_fails = !facts.is_etcd_serving()
        && (facts.failed_check("etcd").is_some()
            || facts.not_running(Component::Etcd).is_some()
            || facts.logs(&[S::EtcdTimeout, S::NoLeader, S::LeaseFailure]).next().is_some());
    let hurts = !facts.is_serving() && (facts.failed_check("log").is_some() || etcd_fails);
    let severity = if hurts { Severity::Error } else { Severity::Warning };
    draft(FindingId::SlowDisk, severity, confidence, "the disk is too slow for etcd, or stalls")
        .evidence(stalled.into_iter().chain(slow).chain(also).collect::<Vec<_>>())
        .remedy("Stop the load (backups, image pulls, load tests) and look at the disk. Do not kill etcd while it writes.")
}
