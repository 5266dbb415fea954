//! Mode 1: an old sandbox of the pod still runs, and kubelet does not remove it.
//!
//! kubelet removes no pod before all its sources, the API server among them, have answered once
//! (kubernetes `pkg/kubelet/kubelet.go`, `deletePod`; issues 112814 and 116880). If the manifest changed
//! meanwhile, the old container keeps the port and the new one cannot start.

use super::{Answer, Rule, draft};
use crate::cri::{Container, InPlace, RuntimeState, Sandbox};
use crate::diagnose::facts::{Facts, HolderClass, PortHolder};
use crate::diagnose::finding::{Confidence, Evidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::{is_ready, note, of_log, short};
use crate::logs::SignatureId as S;
use crate::model::{Component, Port};

pub(super) const RULE: Rule = Rule {
    id: FindingId::StaleSandbox,
    is_effect: false,
    effects: &[
        FindingId::PortHeld,
        FindingId::ApiserverPortHeld,
        FindingId::DbLocked,
        FindingId::StaleVolumes,
        FindingId::SameUidRestart,
        FindingId::ReservedName,
        FindingId::CrashLoop,
        FindingId::EtcdDown,
        FindingId::EtcdUnreachable,
        FindingId::ApiserverDown,
        FindingId::ControllersDown,
        FindingId::KubeletDisconnected,
    ],
    check,
};

/// A pod with its newest sandbox and an older one that still runs.
struct Pair<'a> {
    component: Component,
    newest: &'a Sandbox,
    stale: &'a Sandbox,
    running: Vec<&'a Container>,
}

fn check(facts: &Facts) -> Answer {
    let holders: Vec<&PortHolder> =
        facts.holders().iter().filter(|holder| holder.class == HolderClass::StaleSandbox).collect();
    let pairs = facts.runtime.present().map(|runtime| pairs(runtime, facts)).unwrap_or_default();
    if holders.is_empty() && pairs.is_empty() {
        return Answer::unless(facts.runtime.present().is_some(), "the runtime's sandboxes and containers");
    }
    let mut evidence: Vec<Evidence> = Vec::new();
    let mut targets = Targets::default();
    let mut is_proven = !holders.is_empty();
    for pair in &pairs {
        describe(pair, &mut evidence, &mut targets);
        let conflicts = facts.bind_conflicts(pair.component);
        is_proven |= !conflicts.is_empty() || facts.not_running(pair.component).is_some();
        targets.ports.extend(conflicts.iter().filter_map(|found| found.param("port")?.parse::<Port>().ok()));
        evidence.extend(conflicts.into_iter().map(of_log));
    }
    for holder in &holders {
        evidence.push(note(EvidenceKind::Port, format!("port {}", holder.port), holder.evidence.as_str()));
        targets.components.extend(holder.wanted_by);
        targets.ports.push(holder.port);
        targets.pids.extend(holder.pid);
        targets.containers.extend(holder.container.clone());
        targets.sandboxes.extend(holder.sandbox.clone());
    }
    evidence.extend(facts.log_evidence(&[S::SourcesNotReady]));
    super::tidy(&mut targets);
    let confidence = if is_proven { Confidence::Proven } else { Confidence::Likely };
    let names: Vec<&str> = targets.components.iter().map(|component| component.as_str()).collect();
    let names = names.join(", ");
    let summary = format!(
        "the manifest of {names} changed while kubelet could not reach the API server, so the old {names} \
         still runs and holds the ports, and the new one cannot start"
    );
    draft(FindingId::StaleSandbox, Severity::Critical, confidence, summary)
        .evidence(evidence)
        .targets(targets)
        .remedy("Stop and remove the old sandbox through the container runtime (crictl stopp, crictl rmp), then restart kubelet. Do not kill the process: kubelet would restart it.")
}

/// Returns the pods of which an older sandbox, made from another manifest, still has a running container.
fn pairs<'a>(runtime: &'a RuntimeState, facts: &Facts) -> Vec<Pair<'a>> {
    let mut found = Vec::new();
    for component in Component::ALL {
        let Some(newest) = runtime.component_sandboxes(component).into_iter().next() else { continue };
        let manifest = facts.manifests.iter().find(|fact| fact.component == component);
        let in_place = manifest.and_then(|fact| fact.pod.present()).and_then(InPlace::of);
        for stale in runtime.stale_sandboxes(&newest.namespace, &newest.pod_name) {
            let running: Vec<&Container> =
                runtime.containers_of(&stale.id).into_iter().filter(|container| container.is_running()).collect();
            // A stopped sandbox holds nothing; it only waits for its removal.
            let is_current =
                in_place.is_some_and(|in_place| runtime.is_taken_up_again(stale, newest, in_place));
            if is_ready(stale) && !running.is_empty() && !is_current {
                found.push(Pair { component, newest, stale, running });
            }
        }
    }
    found
}

fn describe(pair: &Pair<'_>, evidence: &mut Vec<Evidence>, targets: &mut Targets) {
    let hash = |sandbox: &Sandbox| short(sandbox.config_hash().unwrap_or(sandbox.uid.as_str())).to_owned();
    for container in &pair.running {
        let text = format!(
            "{} container {} runs in the old sandbox {} (config.hash {}); the newest sandbox {} has config.hash {}",
            container.name,
            short(container.id.as_str()),
            short(pair.stale.id.as_str()),
            hash(pair.stale),
            short(pair.newest.id.as_str()),
            hash(pair.newest),
        );
        evidence.push(note(EvidenceKind::Runtime, "CRI", text));
        targets.containers.push(container.id.clone());
    }
    targets.components.push(pair.component);
    targets.sandboxes.push(pair.stale.id.clone());
}
