//! etcd listens and does not answer.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity, Targets};
use crate::diagnose::query::Health;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::EtcdHung,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    match facts.health_of(Component::Etcd) {
        Some((Health::Hung, evidence)) => {
            let mut targets = Targets::default();
            targets.components.push(Component::Etcd);
            draft(
                FindingId::EtcdHung,
                Severity::Critical,
                Confidence::Proven,
                "etcd accepts connections but does not answer: it is stopped, or waits for its disk",
            )
            .evidence([evidence].into_iter().chain(facts.failed_check("etcd")))
            .targets(targets)
            .remedy("Look at the process' state (stopped, uninterruptible) and at the disk. If the disk is well, restart etcd through its manifest, with time to write out.")
        }
        Some(_) => Answer::Excluded,
        // A container that does not run cannot hang.
        None if facts.not_running(Component::Etcd).is_some() => Answer::Excluded,
        None => Answer::Open("whether etcd answers on its own health endpoint"),
    }
}
