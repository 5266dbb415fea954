//! Mode 6: a manifest is missing.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{Facts, ManifestFact};
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::note;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::ManifestLost,
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
    let lost: Vec<&ManifestFact> = facts
        .manifests
        .iter()
        .filter(|fact| fact.pod.is_absent())
        .filter(|fact| fact.component != Component::Etcd || facts.has_own_etcd())
        .collect();
    let logged = if facts.manifests.is_empty() { facts.log_evidence(&[S::ManifestDirMissing]) } else { Vec::new() };
    if lost.is_empty() && logged.is_empty() {
        return Answer::unless(!facts.manifests.is_empty(), "the files in the manifest folder");
    }
    let names: Vec<&str> = lost.iter().map(|fact| fact.component.as_str()).collect();
    let (confidence, summary) = if lost.is_empty() {
        (Confidence::Likely, "kubelet's manifest folder is missing, so it has stopped all static pods".to_owned())
    } else {
        (Confidence::Proven, format!("the manifests of {} are missing, so kubelet has stopped these pods", names.join(", ")))
    };
    let seen = lost
        .iter()
        .map(|fact| note(EvidenceKind::Manifest, fact.path.display().to_string(), "no such file"));
    let has_backup = !lost.is_empty() && lost.iter().all(|fact| facts.backups.contains(&fact.component));
    let remedy = if has_backup {
        "Restore them from the verified backup."
    } else {
        "Restore them from a backup; without one let kubeadm make them in another folder with the old \
         configuration, compare, and only then install them."
    };
    let mut targets = Targets::default();
    targets.components.extend(lost.iter().map(|fact| fact.component));
    targets.paths.extend(lost.iter().map(|fact| fact.path.clone()));
    draft(FindingId::ManifestLost, Severity::Critical, confidence, summary)
        .evidence(seen.chain(logged))
        .targets(targets)
        .remedy(remedy)
}
