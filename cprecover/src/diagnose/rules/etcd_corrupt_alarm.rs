//! Mode 21: this member's data differ from its peers'.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::EtcdCorruptAlarm,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let said: Vec<_> =
        facts.failed_check("data_corruption").into_iter().chain(facts.health_message("ALARM CORRUPT")).collect();
    let logged = facts.log_evidence(&[S::CorruptAlarm]);
    if said.is_empty() && logged.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::Etcd)), "the log of etcd");
    }
    let confidence = if said.is_empty() { Confidence::Likely } else { Confidence::Proven };
    draft(
        FindingId::EtcdCorruptAlarm,
        Severity::Critical,
        confidence,
        "etcd found that its members' data differ (CORRUPT alarm)",
    )
    .evidence(said.into_iter().chain(logged))
    .remedy("Find the member in the minority (`etcdctl endpoint hashkv`), keep a copy of its data, remove it and add it anew; then disarm the alarm.")
}
