//! Effect: kube-apiserver does not work.

use super::{Answer, Rule};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::FindingId;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::ApiserverDown,
    is_effect: true,
    effects: &[FindingId::CrashLoop, FindingId::ControllersDown, FindingId::KubeletDisconnected],
    check,
};

fn check(facts: &Facts) -> Answer {
    let component = Component::KubeApiserver;
    // What a log says of a refused connection is the past where more is known.
    let is_known =
        facts.health_of(component).is_some() || facts.runtime.present().is_some();
    let refused =
        if is_known { None } else { facts.log_evidence(&[S::ApiserverDialRefused]).into_iter().next() };
    super::component_down(facts, FindingId::ApiserverDown, &[component], refused)
}
