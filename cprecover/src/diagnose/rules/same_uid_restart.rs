//! Mode 9: a static pod waits for its predecessor with the same UID.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::{component_of_pod, of_log};
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::SameUidRestart,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let waiting: Vec<_> = facts
        .logs(&[S::SameUidRestart])
        .filter_map(|found| Some((found, component_of_pod(found.param("pod")?)?)))
        // A pod that runs has waited long enough.
        .filter(|(_, component)| facts.running_containers(*component).is_empty())
        .collect();
    if waiting.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    let mut targets = Targets::default();
    targets.components.extend(waiting.iter().map(|(_, component)| *component));
    super::tidy(&mut targets);
    draft(
        FindingId::SameUidRestart,
        Severity::Error,
        Confidence::Likely,
        "a static pod waits for its predecessor of the same UID to end",
    )
    .evidence(waiting.iter().map(|(found, _)| of_log(found)))
    .targets(targets)
    .remedy("Wait for the predecessor's end, at most its grace period; then restart kubelet. Next time wait more than 20 s between moving a manifest out and in.")
}
