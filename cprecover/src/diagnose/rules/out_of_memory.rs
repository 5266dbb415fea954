//! The kernel killed a process of the control plane for lack of memory.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::of_log;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::OutOfMemory,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let names = |text: &str| {
        text.contains("kubelet")
            || text.contains("containerd")
            || Component::ALL.into_iter().any(|component| {
                // The kernel keeps 15 characters of a name.
                let name = component.as_str();
                text.contains(name.get(..15).unwrap_or(name))
            })
    };
    let killed: Vec<_> =
        facts.logs(&[S::OomKill]).filter(|found| names(found.param("process").unwrap_or(&found.text))).collect();
    if killed.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kernel), "the kernel's log");
    }
    draft(
        FindingId::OutOfMemory,
        Severity::Error,
        Confidence::Likely,
        "the kernel killed a process of the control plane for lack of memory",
    )
    .evidence(killed.into_iter().map(of_log))
    .remedy("Take load from the node or give it memory; set memory limits on what grew, not on etcd.")
}
