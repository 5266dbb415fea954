//! Mode 7: a manifest cannot be parsed.

use std::path::Path;

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{Facts, LintFact};
use crate::diagnose::finding::{Confidence, Evidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::{note, of_log};
use crate::logs::{LogMatch, SignatureId as S};
use crate::model::Component;

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
    let (linted, strays): (Vec<&LintFact>, Vec<&LintFact>) = facts
        .lint
        .iter()
        .filter(|lint| matches!(lint.code.as_str(), "unparsable" | "empty"))
        .partition(|lint| is_of_component(&lint.path));
    // With manifests that parse now, a log line is the past.
    let (logged, stray_lines): (Vec<&LogMatch>, Vec<&LogMatch>) = facts
        .logs(&[S::ManifestUnparsable])
        .filter(|_| facts.manifests.is_empty())
        .take(8)
        .partition(|found| found.param("path").is_none_or(|path| is_of_component(Path::new(path))));
    if broken.is_empty() && linted.is_empty() && logged.is_empty() {
        return match (strays.is_empty(), stray_lines.is_empty()) {
            (true, true) => {
                let was_read = !facts.manifests.is_empty() || facts.has_log(LogOf::Kubelet);
                Answer::unless(was_read, "the files in the manifest folder")
            }
            _ => stray(&strays, &stray_lines),
        };
    }
    let mut targets = Targets::default();
    targets.components.extend(broken.iter().map(|(fact, _)| fact.component));
    targets.paths.extend(broken.iter().map(|(fact, _)| fact.path.clone()));
    targets.paths.extend(linted.iter().map(|lint| lint.path.clone()));
    targets.paths.extend(logged.iter().filter_map(|found| found.param("path")).map(Into::into));
    super::tidy(&mut targets);
    let confidence = if logged.is_empty() { Confidence::Proven } else { Confidence::Likely };
    let seen = broken
        .iter()
        .map(|(fact, why)| note(EvidenceKind::Manifest, fact.path.display().to_string(), *why))
        .chain(linted.iter().map(|lint| of_lint(lint)));
    draft(
        FindingId::ManifestInvalid,
        Severity::Critical,
        confidence,
        "kubelet cannot parse a file of its manifest folder, so it does not run that pod",
    )
    .evidence(seen.chain(logged.into_iter().map(of_log)))
    .targets(targets)
    .remedy("Restore the manifest from a backup by one rename; an editor that writes in place makes half files.")
}

/// Reports whether a file is where a component's manifest has to be.
fn is_of_component(path: &Path) -> bool {
    path.file_name().is_some_and(|name| Component::ALL.iter().any(|component| name == component.manifest_file()))
}

fn of_lint(lint: &LintFact) -> Evidence {
    note(EvidenceKind::Manifest, lint.path.display().to_string(), lint.message.as_str())
}

/// Names files that are no component's: kubelet passes over what it cannot parse and runs all others
/// (kubernetes `pkg/kubelet/config/file.go`, `extractFromDir`).
fn stray(strays: &[&LintFact], lines: &[&LogMatch]) -> Answer {
    let mut targets = Targets::default();
    targets.paths.extend(strays.iter().map(|lint| lint.path.clone()));
    targets.paths.extend(lines.iter().filter_map(|found| found.param("path")).map(Into::into));
    super::tidy(&mut targets);
    let confidence = if strays.is_empty() { Confidence::Likely } else { Confidence::Proven };
    let seen = strays.iter().map(|lint| of_lint(lint));
    draft(
        FindingId::ManifestInvalid,
        Severity::Warning,
        confidence,
        "kubelet cannot parse a file of its manifest folder that is no component's manifest",
    )
    .evidence(seen.chain(lines.iter().map(|found| of_log(found))))
    .targets(targets)
    .remedy("Move the file out of the manifest folder, or mend it; the control plane does not depend on it.")
}
