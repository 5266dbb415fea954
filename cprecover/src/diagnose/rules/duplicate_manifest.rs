//! Mode 4: two files in the manifest folder describe the same pod.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{Facts, LintFact};
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::note;

pub(super) const RULE: Rule = Rule {
    id: FindingId::DuplicateManifest,
    is_effect: false,
    effects: &[
        FindingId::StaleSandbox,
        FindingId::PortHeld,
        FindingId::ApiserverPortHeld,
        FindingId::DbLocked,
        FindingId::SameUidRestart,
        FindingId::StaleVolumes,
        FindingId::CrashLoop,
        FindingId::EtcdDown,
        FindingId::EtcdUnreachable,
        FindingId::ApiserverDown,
        FindingId::ControllersDown,
        FindingId::KubeletDisconnected,
    ],
    check,
};

fn check(facts: &Facts) -> Answer {
    let (of_components, of_others): (Vec<&LintFact>, Vec<&LintFact>) = facts
        .lint
        .iter()
        .filter(|lint| lint.is_double())
        .partition(|lint| lint.is_double_of_component());
    if of_components.is_empty() && of_others.is_empty() {
        return Answer::unless(!facts.manifests.is_empty(), "the files in the manifest folder");
    }
    // A pod of a user that is there twice takes nothing from the control plane.
    let (severity, double) = if of_components.is_empty() {
        (Severity::Warning, of_others)
    } else {
        (Severity::Error, of_components)
    };
    let mut targets = Targets::default();
    targets.paths.extend(double.iter().map(|lint| lint.path.clone()));
    let seen = double
        .iter()
        .map(|lint| note(EvidenceKind::Manifest, lint.path.display().to_string(), lint.message.as_str()));
    draft(
        FindingId::DuplicateManifest,
        severity,
        Confidence::Proven,
        "kubelet runs every file of its manifest folder, and two of them describe the same pod",
    )
    .evidence(seen)
    .targets(targets)
    .remedy("Move the copies out of the manifest folder and wait more than 20 s; kubelet ignores only names that begin with a dot.")
}
