//! kubelet does not run.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity};
use crate::diagnose::query::note;
use crate::facts::UnitRole;
use crate::model::Observed;
use crate::units::ServiceState;

pub(super) const RULE: Rule = Rule {
    id: FindingId::KubeletDown,
    is_effect: false,
    effects: &[
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
    let Some(unit) = facts.host.units.iter().find(|unit| unit.role == UnitRole::Kubelet) else {
        return Answer::Open("the state of kubelet");
    };
    let text = match &unit.state {
        Observed::Present(ServiceState::Active) => return Answer::Excluded,
        Observed::Present(state) => format!("{} is {}", unit.name, super::service_state(*state)),
        Observed::Absent => format!("{} does not exist", unit.name),
        Observed::Unknown(_) => return Answer::Open("the state of kubelet"),
    };
    draft(
        FindingId::KubeletDown,
        Severity::Error,
        Confidence::Proven,
        "kubelet does not run, so no static pod is started or restarted",
    )
    .evidence([note(EvidenceKind::Host, "service manager", text)])
    .remedy("Read its log for the reason, then start kubelet.")
}
