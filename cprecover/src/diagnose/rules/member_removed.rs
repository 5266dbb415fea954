//! Mode 19: this member was removed from the etcd cluster.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::MemberRemoved,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let evidence = facts.log_evidence(&[S::MemberRemoved]);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::Etcd)), "the log of etcd");
    }
    draft(FindingId::MemberRemoved, Severity::Critical, Confidence::Likely, "this member was removed from the etcd cluster and may not come back with its old data")
        .evidence(evidence)
        .remedy("Archive the data folder, then join again as a new member (as a learner first).")
}
