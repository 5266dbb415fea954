//! Mode 15: etcd's quota is reached.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::EtcdNoSpace,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let mut evidence = facts.log_evidence(&[S::NoSpaceAlarm]);
    let said = facts.health_message("NOSPACE");
    let confidence = if said.is_some() { Confidence::Proven } else { Confidence::Likely };
    evidence.splice(0..0, said);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::Etcd)), "the log of etcd");
    }
    draft(FindingId::EtcdNoSpace, Severity::Critical, confidence, "etcd's database reached its quota and takes no more writes")
        .evidence(evidence)
        .remedy("Compact to the current revision, defragment, then disarm the alarm; raise --quota-backend-bytes if the data are needed.")
}
