//! Mode 25b: etcd does not accept connections; an effect.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::Health;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::EtcdUnreachable,
    is_effect: true,
    effects: &[
        FindingId::CrashLoop,
        FindingId::ApiserverDown,
        FindingId::ControllersDown,
        FindingId::KubeletDisconnected,
    ],
    check,
};

fn check(facts: &Facts) -> Answer {
    let health = facts.health_of(Component::Etcd);
    let gone = match &health {
        Some((Health::Gone, evidence)) => Some(evidence.clone()),
        // It accepts connections now.
        Some(_) => return Answer::Excluded,
        None => None,
    };
    let logged = facts.log_evidence(&[S::EtcdDialRefused, S::EtcdTimeout]);
    if gone.is_none() && logged.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::KubeApiserver)), "the API server's log");
    }
    let confidence = if gone.is_some() { Confidence::Proven } else { Confidence::Likely };
    let mut targets = Targets::default();
    targets.components.push(Component::Etcd);
    draft(FindingId::EtcdUnreachable, Severity::Error, confidence, "etcd's clients get no answer from it")
        .evidence(gone.into_iter().chain(logged))
        .targets(targets)
        .remedy("Heal etcd; nothing is to be done here.")
}
