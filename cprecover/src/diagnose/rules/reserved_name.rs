//! Mode 10: the runtime keeps a container name reserved.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::of_log;
use crate::logs::SignatureId as S;
use crate::model::{Component, ContainerId};

pub(super) const RULE: Rule = Rule {
    id: FindingId::ReservedName,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let mut targets = Targets::default();
    let mut evidence = Vec::new();
    for found in facts.logs(&[S::ReservedName]) {
        // `<container>_<pod>_<namespace>_<uid>_<attempt>`, or `<pod>_<namespace>_…` of a sandbox.
        let name = found.param("name").unwrap_or(&found.text);
        let component = Component::ALL.into_iter().find(|component| name.contains(component.as_str()));
        let is_stuck = component.is_some_and(|component| facts.running_containers(component).is_empty());
        if is_stuck && name.contains("kube-system") {
            targets.components.extend(component);
            targets.containers.extend(found.param("holder").map(ContainerId::new));
            evidence.push(of_log(found));
        }
    }
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    super::tidy(&mut targets);
    draft(
        FindingId::ReservedName,
        Severity::Critical,
        Confidence::Likely,
        "the container runtime keeps the name of a static pod's container reserved for one that it did not finish removing",
    )
    .evidence(evidence)
    .targets(targets)
    .remedy("Remove the container that holds the name through the runtime; if that hangs, restart the runtime.")
}
