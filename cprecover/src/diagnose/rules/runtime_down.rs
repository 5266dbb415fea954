//! Mode 23: the container runtime does not serve CRI.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::note;
use crate::facts::UnitRole;
use crate::logs::SignatureId as S;
use crate::model::Observed;
use crate::units::ServiceState;

pub(super) const RULE: Rule = Rule {
    id: FindingId::RuntimeDown,
    is_effect: false,
    effects: &[
        FindingId::KubeletDown,
        FindingId::ImageMissing,
        FindingId::ReservedName,
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
    let unit = facts.host.units.iter().find(|unit| unit.role == UnitRole::Runtime);
    let stopped = unit.and_then(|unit| match &unit.state {
        Observed::Present(ServiceState::Active) | Observed::Unknown(_) => None,
        Observed::Present(state) => Some(format!("{} is {}", unit.name, super::service_state(*state))),
        Observed::Absent => Some(format!("{} does not exist", unit.name)),
    });
    // A runtime that lists its containers now has recovered from whatever a log says, and a unit that does not
    // run is another runtime's.
    if facts.runtime.present().is_some() {
        return Answer::Excluded;
    }
    let mut evidence: Vec<_> =
        stopped.iter().map(|text| note(EvidenceKind::Host, "service manager", text.as_str())).collect();
    evidence.extend(facts.log_evidence(&[S::CriServiceUnknown, S::RuntimeSocketMissing]));
    if evidence.is_empty() {
        return Answer::unless(unit.is_some() || facts.has_log(LogOf::Kubelet), "the state of the container runtime");
    }
    let confidence = if stopped.is_some() { Confidence::Proven } else { Confidence::Likely };
    let summary = if facts.logs(&[S::CriServiceUnknown]).next().is_some() && stopped.is_none() {
        "the container runtime runs, but does not serve CRI v1, so kubelet cannot start containers"
    } else {
        "the container runtime does not run, so kubelet cannot start containers"
    };
    draft(FindingId::RuntimeDown, Severity::Critical, confidence, summary).evidence(evidence).remedy(
        "Start the container runtime; where it runs without CRI, take cri out of disabled_plugins in \
         /etc/containerd/config.toml and restart it.",
    )
}
