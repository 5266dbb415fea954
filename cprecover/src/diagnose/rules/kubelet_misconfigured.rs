//! Mode 24: kubelet refuses its configuration or its host.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::facts::UnitRole;
use crate::logs::SignatureId as S;
use crate::units::ServiceState;

pub(super) const RULE: Rule = Rule {
    id: FindingId::KubeletMisconfigured,
    is_effect: false,
    effects: &[FindingId::KubeletDown, FindingId::CrashLoop, FindingId::EtcdDown, FindingId::EtcdUnreachable, FindingId::ApiserverDown, FindingId::ControllersDown, FindingId::KubeletDisconnected],
    check,
};

fn check(facts: &Facts) -> Answer {
    let evidence = facts.log_evidence(&[S::CgroupDriverMismatch, S::SwapOn, S::KubeletConfigUnreadable]);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    let unit = facts.host.units.iter().find(|unit| unit.role == UnitRole::Kubelet);
    // It ends at once with such a configuration; between two starts systemd calls it activating.
    if unit.is_some_and(|unit| unit.state.present() == Some(&ServiceState::Active)) {
        return draft(FindingId::KubeletMisconfigured, Severity::Info, Confidence::Possible, "kubelet did not run with its configuration on this host; it runs now")
            .evidence(evidence)
            .remedy("Nothing, while kubelet runs.");
    }
    draft(FindingId::KubeletMisconfigured, Severity::Critical, Confidence::Likely, "kubelet does not run with its configuration on this host")
        .evidence(evidence)
        .remedy("Repair what the message names (cgroup driver, swap, /var/lib/kubelet/config.yaml) and restart kubelet.")
}
