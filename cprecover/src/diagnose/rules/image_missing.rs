//! An image that a static pod needs is missing.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::{component_of_pod, of_log};
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::ImageMissing,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let mut targets = Targets::default();
    let mut evidence = Vec::new();
    for found in facts.logs(&[S::ImageMissing]) {
        let component = found.param("pod").and_then(component_of_pod);
        // Without the pause image no pod starts at all (kubernetes issues 81756 and 106037).
        let is_pause = found.text.contains("get sandbox image");
        let is_stuck = component.is_some_and(|component| facts.running_containers(component).is_empty());
        if is_pause || is_stuck {
            targets.components.extend(component);
            evidence.push(of_log(found));
        }
    }
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    super::tidy(&mut targets);
    draft(
        FindingId::ImageMissing,
        Severity::Critical,
        Confidence::Likely,
        "an image that the static pods need is not on the node and cannot be pulled",
    )
    .evidence(evidence)
    .targets(targets)
    .remedy("Pull or import the image (`crictl pull`, `ctr -n k8s.io images import`), and pin the pause image.")
}
