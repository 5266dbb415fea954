//! Mode 18: etcd has no quorum.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::QuorumLost,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let said = facts.health_message("RAFT NO LEADER").into_iter().chain(facts.failed_check("linearizable_read"));
    let said: Vec<_> = said.collect();
    let logged = facts.log_evidence(&[S::NoLeader]);
    if said.is_empty() && logged.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::Etcd)) || facts.health_of(Component::Etcd).is_some(), "the health of etcd");
    }
    let named = facts
        .manifests
        .iter()
        .find(|fact| fact.component == Component::Etcd)
        .and_then(|fact| fact.pod.present())
        .and_then(|pod| pod.flag("initial-cluster"))
        .map(|members| members.split(',').count());
    // kubeadm names one there, whatever the cluster's size.
    let may_be_alone = named == Some(1) && facts.etcd_voters.present().is_none();
    let (confidence, summary) = match (facts.etcd_voters.present(), said.is_empty()) {
        // A cluster of one has lost its quorum only while it starts or cannot write.
        (Some(1), _) => (Confidence::Possible, "etcd, a cluster of one, has no leader: it starts, or cannot write"),
        (_, false) if may_be_alone => (Confidence::Likely, "etcd has no leader: too few of its members, of which it is not known how many there are, are up and connected, or the only one starts"),
        (_, false) => (Confidence::Proven, "etcd has no quorum: too few of its members are up and connected"),
        (_, true) => (Confidence::Likely, "etcd had no leader: too few of its members were up and connected"),
    };
    let mut targets = Targets::default();
    targets.components.push(Component::Etcd);
    draft(FindingId::QuorumLost, Severity::Critical, confidence, summary)
        .evidence(said.into_iter().chain(logged))
        .targets(targets)
        .remedy("Bring the other members back, or the network between them. Only when they are lost for good: restore from this member with --force-new-cluster, after a copy of its data.")
}
