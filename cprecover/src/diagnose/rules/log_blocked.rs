//! A component's log writer is blocked.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::LogBlocked,
    is_effect: false,
    effects: &[FindingId::ApiserverDown, FindingId::ControllersDown],
    check,
};

fn check(facts: &Facts) -> Answer {
    let said = facts.failed_check("log");
    let logged = facts.log_evidence(&[S::LoggingBlocked]);
    if said.is_none() && logged.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::KubeApiserver)) || !facts.health.is_empty(), "the API server's health answer");
    }
    // It is blocked for two minutes before it is reported; it slows a server down and rarely stops it.
    let confidence = if said.is_some() { Confidence::Proven } else { Confidence::Likely };
    draft(
        FindingId::LogBlocked,
        Severity::Warning,
        confidence,
        "a log writer is blocked: a full log pipe, a stalled disk or a stuck container shim; it is not etcd",
    )
    .evidence(said.into_iter().chain(logged))
    .remedy("Look at the disk of /var/log and at the container's shim; free space or restart the container.")
}
