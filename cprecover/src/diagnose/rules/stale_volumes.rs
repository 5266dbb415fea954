//! Mode 8: kubelet waits for volumes of a pod whose old instance it never removed.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::{component_of_pod, of_log};
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::StaleVolumes,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    // Pods of users wait for volumes for many reasons; the static ones use nothing but host paths.
    let stuck: Vec<_> = facts
        .logs(&[S::UnmountedVolumes])
        .filter_map(|found| {
            let by_pod = found.param("pod").and_then(component_of_pod);
            let is_etcd = found.param("volumes").is_some_and(|volumes| volumes.contains("etcd-data"));
            Some((found, by_pod.or(is_etcd.then_some(crate::model::Component::Etcd))?))
        })
        .collect();
    if stuck.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    let mut targets = Targets::default();
    targets.components.extend(stuck.iter().map(|(_, component)| *component));
    super::tidy(&mut targets);
    draft(
        FindingId::StaleVolumes,
        Severity::Critical,
        Confidence::Likely,
        "kubelet never removed the pod's old instance and so mounts no volumes for the new one; it does not recover by itself",
    )
    .evidence(stuck.iter().map(|(found, _)| of_log(found)))
    .targets(targets)
    .remedy("Remove the pod's old sandbox through the container runtime and restart kubelet. Do not delete /var/lib/kubelet/pods.")
}
