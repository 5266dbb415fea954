//! kubelet rejected or evicted a static pod for good.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::{component_of_pod, of_log};
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::StaticPodRejected,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let rejected: Vec<_> = facts
        .logs(&[S::StaticPodRejected])
        .filter_map(|found| Some((found, component_of_pod(found.param("pod")?)?)))
        .filter(|(_, component)| facts.running_containers(*component).is_empty())
        .collect();
    if rejected.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    let mut targets = Targets::default();
    targets.components.extend(rejected.iter().map(|(_, component)| *component));
    super::tidy(&mut targets);
    draft(
        FindingId::StaticPodRejected,
        Severity::Critical,
        Confidence::Likely,
        "kubelet rejected or evicted a static pod, and does not try again by itself",
    )
    .evidence(rejected.iter().map(|(found, _)| of_log(found)))
    .targets(targets)
    .remedy("End the pressure that the line names (disk, memory, processes), then restart kubelet.")
}
