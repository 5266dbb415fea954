//! Mode 20: members of different clusters talk to each other.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::ClusterIdMismatch,
    is_effect: false,
    effects: &[FindingId::QuorumLost, FindingId::CrashLoop, FindingId::EtcdDown, FindingId::EtcdUnreachable, FindingId::ApiserverDown, FindingId::ControllersDown, FindingId::KubeletDisconnected],
    check,
};

fn check(facts: &Facts) -> Answer {
    let evidence = facts.log_evidence(&[S::ClusterIdMismatch, S::MemberCountUnequal]);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::Etcd)), "the log of etcd");
    }
    draft(FindingId::ClusterIdMismatch, Severity::Critical, Confidence::Likely, "this member and its peers belong to different etcd clusters: a data folder is new or foreign, or --initial-cluster is wrong")
        .evidence(evidence)
        .remedy("Stop the member whose data folder is new or foreign, keep a copy, and join it again; make --initial-cluster name the members that the cluster has.")
}
