//! kubelet cannot watch its manifest folder.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::InotifyExhausted,
    is_effect: false,
    effects: &[],
    check,
};

fn check(facts: &Facts) -> Answer {
    let evidence = facts.log_evidence(&[S::InotifyExhausted]);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubelet), "the log of kubelet");
    }
    draft(FindingId::InotifyExhausted, Severity::Warning, Confidence::Likely, "no inotify instance or watch is left; kubelet sees changed manifests only every 20 s")
        .evidence(evidence)
        .remedy("Raise fs.inotify.max_user_instances and fs.inotify.max_user_watches.")
}
