//! Effect: kubelet cannot reach the API server (lease, node not found, CSINode).

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule =
    Rule { id: FindingId::KubeletDisconnected, is_effect: true, effects: &[], check };

fn check(facts: &Facts) -> Answer {
    let evidence = facts.log_evidence(&[S::LeaseFailure, S::NodeNotFound, S::CsiNodeFatal]);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    draft(
        FindingId::KubeletDisconnected,
        Severity::Error,
        Confidence::Likely,
        "kubelet cannot reach the API server",
    )
    .evidence(evidence)
    .remedy("Heal the API server; nothing is to be done here.")
}
