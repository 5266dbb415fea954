//! Mode 24: kubelet refuses its configuration or its host.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;

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
    draft(FindingId::KubeletMisconfigured, Severity::Critical, Confidence::Likely, "kubelet does not run with its configuration on this host")
        .evidence(evidence)
        .remedy("Repair what the message names (cgroup driver, swap, /var/lib/kubelet/config.yaml) and restart kubelet.")
}
