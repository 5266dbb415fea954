//! Effect: etcd does not work.

use super::{Answer, Rule};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::FindingId;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::EtcdDown,
    is_effect: true,
    effects: &[
        FindingId::EtcdUnreachable,
        FindingId::CrashLoop,
        FindingId::ApiserverDown,
        FindingId::ControllersDown,
        FindingId::KubeletDisconnected,
    ],
    check,
};

fn check(facts: &Facts) -> Answer {
    super::component_down(facts, FindingId::EtcdDown, &[Component::Etcd], facts.failed_check("etcd"))
}
