//! Mode 25a: kube-apiserver's port is held by another process.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::ApiserverPortHeld,
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
    super::held_ports(facts, &[Component::KubeApiserver], |ports| {
        draft(
            FindingId::ApiserverPortHeld,
            Severity::Critical,
            Confidence::Likely,
            format!("the new kube-apiserver cannot listen on port {ports}, because another process does"),
        )
    })
}
