//! Effect: kube-controller-manager or kube-scheduler does not work.

use super::{Answer, Rule};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::FindingId;
use crate::model::Component;

pub(super) const RULE: Rule =
    Rule { id: FindingId::ControllersDown, is_effect: true, effects: &[], check };

fn check(facts: &Facts) -> Answer {
    let own = [Component::KubeControllerManager, Component::KubeScheduler];
    super::component_down(facts, FindingId::ControllersDown, &own, None)
}
