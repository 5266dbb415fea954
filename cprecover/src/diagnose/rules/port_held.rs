//! Effect: a port of etcd, the controller manager or the scheduler is held by another process.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::PortHeld,
    is_effect: true,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let own = [Component::Etcd, Component::KubeControllerManager, Component::KubeScheduler];
    super::held_ports(facts, &own, |ports| {
        draft(
            FindingId::PortHeld,
            Severity::Critical,
            Confidence::Likely,
            format!("a new container cannot listen on port {ports}, because another process does"),
        )
    })
}
