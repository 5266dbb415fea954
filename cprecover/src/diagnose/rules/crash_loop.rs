//! Effect: a component restarts again and again.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::{component_of_pod, of_log};
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::CrashLoop,
    is_effect: true,
    effects: &[
        FindingId::EtcdDown,
        FindingId::EtcdUnreachable,
        FindingId::ApiserverDown,
        FindingId::ControllersDown,
        FindingId::KubeletDisconnected,
    ],
    check,
};

fn check(facts: &Facts) -> Answer {
    let mut targets = Targets::default();
    let mut evidence = Vec::new();
    for found in facts.logs(&[S::CrashLoopBackOff]) {
        // The container's name is enough where the line does not carry the pod's.
        let name = found.param("pod").or_else(|| found.param("container"));
        let component = name.and_then(component_of_pod).or_else(|| {
            crate::model::Component::ALL.into_iter().find(|component| found.text.contains(component.as_str()))
        });
        let Some(component) = component else { continue };
        // One that runs now has left its loop.
        let runs_now = facts.newest_container(component).is_some_and(|(container, _)| container.is_running());
        if !runs_now {
            targets.components.push(component);
            evidence.push(of_log(found));
        }
    }
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    super::tidy(&mut targets);
    let names: Vec<&str> = targets.components.iter().map(|component| component.as_str()).collect();
    let summary = format!("{} again and again, and kubelet waits longer each time", super::verb(&names, "restarts", "restart"));
    draft(FindingId::CrashLoop, Severity::Error, Confidence::Likely, summary)
        .evidence(evidence)
        .targets(targets)
        .remedy("Heal what makes it end; afterwards a restart of kubelet ends the wait of up to 5 minutes.")
}
