//! Volumes of removed pods are left on disk.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule =
    Rule { id: FindingId::OrphanedVolumes, is_effect: true, effects: &[], check };

fn check(facts: &Facts) -> Answer {
    let evidence = facts.log_evidence(&[S::OrphanedPodVolumes]);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    draft(FindingId::OrphanedVolumes, Severity::Info, Confidence::Likely, "folders of removed pods are left on disk")
        .evidence(evidence)
        .remedy("They do no harm. Remove them only where nothing is mounted below and the runtime does not know the pod; never recursively.")
}
