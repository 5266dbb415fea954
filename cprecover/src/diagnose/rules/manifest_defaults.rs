//! Mode 6, second half: a manifest was made anew without the cluster's own settings.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::ManifestDefaults,
    is_effect: false,
    effects: &[FindingId::CrashLoop, FindingId::ControllersDown, FindingId::ApiserverDown],
    check,
};

fn check(facts: &Facts) -> Answer {
    let evidence = facts.log_evidence(&[S::KubeadmDefaults]);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Kubeadm), "what kubeadm printed");
    }
    draft(
        FindingId::ManifestDefaults,
        Severity::Error,
        Confidence::Likely,
        "manifests were lost and made anew by kubeadm without the cluster's configuration: networks, node name, \
         quota and own flags are kubeadm's defaults now",
    )
    .evidence(evidence)
    .remedy("Compare the manifests with a backup and restore what differs; to make them anew give kubeadm the cluster's configuration and its version.")
}
