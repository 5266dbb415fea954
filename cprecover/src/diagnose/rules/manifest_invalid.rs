//! Mode 7: a manifest cannot be parsed.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::note;
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::ManifestInvalid,
    is_effect: false,
    effects: &[
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
    let broken: Vec<_> = facts
        .manifests
        .iter()
        .filter_map(|fact| Some((fact, fact.parse_error.as_deref()?)))
        .collect();
    let linted: Vec<_> =
        facts.lint.iter().filter(|lint| matches!(lint.code.as_str(), "unparsable" | "empty")).collect();
    // With manifests that parse now, a log line is the past.
    let logged =
        if facts.manifests.is_empty() { facts.log_evidence(&[S::ManifestUnparsable]) } else { Vec::new() };
    if broken.is_empty() && linted.is_empty() && logged.is_empty() {
        return Answer::unless(!facts.manifests.is_empty() || facts.has_logs(), "the files in the manifest folder");
    }
    let mut targets = Targets::default();
    targets.components.extend(broken.iter().map(|(fact, _)| fact.component));
    targets.paths.extend(broken.iter().map(|(fact, _)| fact.path.clone()));
    targets.paths.extend(linted.iter().map(|lint| lint.path.clone()));
    targets.paths.extend(facts.logs(&[S::ManifestUnparsable]).filter_map(|found| found.param("path")).map(Into::into));
    targets.paths.sort();
    targets.paths.dedup();
    let confidence = if logged.is_empty() { Confidence::Proven } else { Confidence::Likely };
    let seen = broken
        .iter()
        .map(|(fact, why)| note(EvidenceKind::Manifest, fact.path.display().to_string(), *why))
        .chain(linted.iter().map(|lint| {
            note(EvidenceKind::Manifest, lint.path.display().to_string(), lint.message.as_str())
        }));
    draft(
        FindingId::ManifestInvalid,
        Severity::Critical,
        confidence,
        "kubelet cannot parse a file of its manifest folder, so it does not run that pod",
    )
    .evidence(seen.chain(logged))
    .targets(targets)
    .remedy("Restore the manifest from a backup by one rename; an editor that writes in place makes half files.")
}
