//! The wall clock is wrong, or members' clocks differ.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::note;
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::ClockWrong,
    is_effect: false,
    effects: &[
        FindingId::CertificateInvalid,
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

fn check(facts: &Facts) -> Answer {
    let clock = facts.host.clock.present();
    let behind = clock.filter(|clock| clock.now_unix < clock.not_before_unix).map(|clock| {
        let text = format!(
            "the clock is {} s before {}",
            clock.not_before_unix.saturating_sub(clock.now_unix),
            clock.witness
        );
        note(EvidenceKind::Host, "clock", text)
    });
    let early = facts.log_evidence(&[S::CertificateNotYetValid]);
    let drift = facts.log_evidence(&[S::ClockDrift]);
    if behind.is_none() && early.is_empty() && drift.is_empty() {
        return Answer::unless(clock.is_some() || facts.has_log(LogOf::Kubelet), "the node's clock");
    }
    let (severity, confidence) = if behind.is_some() {
        (Severity::Critical, Confidence::Proven)
    } else if early.is_empty() {
        // etcd works with clocks that differ; leases and certificates suffer first.
        (Severity::Warning, Confidence::Likely)
    } else {
        (Severity::Error, Confidence::Likely)
    };
    draft(FindingId::ClockWrong, severity, confidence, "the node's clock is wrong")
        .evidence(behind.into_iter().chain(early).chain(drift))
        .remedy("Set the clock right and repair time synchronisation (NTP) before anything else; do not renew certificates until then.")
}
