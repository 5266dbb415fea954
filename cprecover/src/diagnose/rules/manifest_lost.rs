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
    let (held, lost): (Vec<&ManifestFact>, Vec<&ManifestFact>) = facts
        .manifests
        .iter()
        .filter(|fact| fact.pod.is_absent())
        .filter(|fact| fact.component != Component::Etcd || facts.has_own_etcd())
        .partition(|fact| facts.held(fact.component).is_some());
    let logged = if facts.manifests.is_empty() { facts.log_evidence(&[S::ManifestDirMissing]) } else { Vec::new() };
    if lost.is_empty() && held.is_empty() && logged.is_empty() {
        return Answer::unless(!facts.manifests.is_empty(), "the files in the manifest folder");
    }
    let mut said: Vec<String> = Vec::new();
    let names: Vec<&str> = lost.iter().map(|fact| fact.component.as_str()).collect();
    match names.as_slice() {
        [] => {}
        [name] => said.push(format!("the manifest of {name} is missing, so kubelet has stopped this pod")),
        several => {
            let missing = super::verb(several, "is missing", "are missing");
            said.push(format!("the manifests of {missing}, so kubelet has stopped these pods"));
        }
    }
    let holds = held.iter().filter_map(|fact| facts.held(fact.component));
    said.extend(holds.map(|lint| lint.message.clone()));
    if said.is_empty() {
        said.push("kubelet's manifest folder is missing, so it has stopped all static pods".to_owned());
    }
    let is_seen = !lost.is_empty() || !held.is_empty();
    let confidence = if is_seen { Confidence::Proven } else { Confidence::Likely };
    let seen = lost
        .iter()
        .chain(&held)
        .map(|fact| note(EvidenceKind::Manifest, fact.path.display().to_string(), "no such file"));
    let mut targets = Targets::default();
    targets.components.extend(lost.iter().chain(&held).map(|fact| fact.component));
    targets.paths.extend(lost.iter().chain(&held).map(|fact| fact.path.clone()));
    draft(FindingId::ManifestLost, Severity::Critical, confidence, said.join("; "))
        .evidence(seen.chain(logged))
        .targets(targets)
        .remedy(remedy(facts, &lost, &held))
}

fn remedy(facts: &Facts, lost: &[&ManifestFact], held: &[&ManifestFact]) -> String {
    let release = |fact: &&ManifestFact| format!("`cprecover release {}`", fact.component.manifest_file());
    let released: Vec<String> = held.iter().map(release).collect();
    let has_backup = !lost.is_empty() && lost.iter().all(|fact| facts.backups.contains(&fact.component));
    let restore = if lost.is_empty() && !held.is_empty() {
        None
    } else if has_backup {
        Some("Restore what is missing from the verified backup.")
    } else {
        Some(
            "Restore them from a backup; without one let kubeadm make them in another folder with the old \
             configuration, compare, and only then install them.",
        )
    };
    let release = (!released.is_empty())
        .then(|| format!("When whoever holds it agrees: {}.", released.join(", ")));
    restore.map(str::to_owned).into_iter().chain(release).collect::<Vec<_>>().join(" ")
}
