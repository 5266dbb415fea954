//! Mode 2: a process of a former container runs on without its container.
//!
//! Its shim died, or the runtime lost its state (containerd issues 5708 and 5959). kubelet starts a new
//! container from the unchanged manifest, which finds the port taken.

use super::{Answer, Rule, draft};
use crate::cri::{Container, RuntimeState, Sandbox};
use crate::diagnose::facts::{Facts, HolderClass, PortHolder, ProcessCgroup};
use crate::diagnose::finding::{Confidence, Evidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::{note, of_log, short};
use crate::logs::SignatureId as S;
use crate::model::{Component, ContainerId, Port};

pub(super) const RULE: Rule = Rule {
    id: FindingId::OrphanProcess,
    is_effect: false,
    effects: super::PORT_TAKEN,
    check,
};

fn check(facts: &Facts) -> Answer {
    let orphans: Vec<&PortHolder> =
        facts.holders().iter().filter(|holder| holder.class == HolderClass::Orphan).collect();
    if orphans.is_empty() && facts.port_holders.present().is_none() {
        return from_lists(facts);
    }
    if orphans.is_empty() {
        return Answer::Excluded;
    }
    let mut targets = Targets::default();
    for holder in &orphans {
        targets.components.extend(holder.wanted_by);
        targets.ports.push(holder.port);
        targets.pids.extend(holder.pid);
        targets.containers.extend(holder.container.clone());
    }
    super::tidy(&mut targets);
    let seen =
        orphans.iter().map(|holder| note(EvidenceKind::Port, format!("port {}", holder.port), holder.evidence.as_str()));
    let conflicts = targets.components.iter().flat_map(|component| facts.bind_conflicts(*component)).map(of_log);
    let evidence: Vec<Evidence> = seen.chain(conflicts).collect();
    finish(Confidence::Proven, evidence, targets)
}

/// Concludes from the runtime's lists and the logs alone, where nobody looked at the ports.
fn from_lists(facts: &Facts) -> Answer {
    let Some(runtime) = facts.runtime.present() else {
        return Answer::Open("the runtime's containers, and who holds the port");
    };
    let mut evidence = Vec::new();
    let mut targets = Targets::default();
    let mut confidence = Confidence::Possible;
    for component in Component::ALL {
        let conflicts = facts.bind_conflicts(component);
        // Some container of the runtime has the port, in whichever sandbox: no orphan.
        if conflicts.is_empty() || !facts.running_containers(component).is_empty() {
            continue;
        }
        targets.components.push(component);
        targets.ports.extend(conflicts.iter().filter_map(|found| found.param("port")?.parse::<Port>().ok()));
        evidence.extend(conflicts.into_iter().map(of_log));
        evidence.push(note(
            EvidenceKind::Runtime,
            "CRI",
            format!("the port is held, but the runtime knows no running {component} container"),
        ));
        if let Some((recorded, id)) = lost_container(facts, runtime, component) {
            // A living process in the cgroup of a container that is gone needs no further sign.
            confidence = Confidence::Proven;
            evidence.push(note(
                EvidenceKind::Runtime,
                recorded.source.as_str(),
                format!(
                    "a process runs in the cgroup of container {} of this pod, which the runtime does not list as running",
                    short(id.as_str())
                ),
            ));
            targets.containers.push(id.clone());
        }
        let Some(newest) = runtime.component_sandboxes(component).into_iter().next() else { continue };
        if newest.attempt > 0 {
            // kubelet makes a second sandbox for one UID only when the first one died.
            confidence = confidence.max(Confidence::Likely);
            evidence.push(note(
                EvidenceKind::Runtime,
                "CRI",
                format!(
                    "sandbox {} is attempt {} for the same manifest: an earlier one died",
                    short(newest.id.as_str()),
                    newest.attempt
                ),
            ));
        }
    }
    if evidence.is_empty() {
        return Answer::unless(facts.has_logs_of_the_stopped(&Component::ALL), "who holds the port");
    }
    let shims = facts.log_evidence(&[S::ShimDisconnected]);
    if !shims.is_empty() {
        confidence = confidence.max(Confidence::Likely);
    }
    evidence.extend(shims);
    super::tidy(&mut targets);
    finish(confidence, evidence, targets)
}

/// Returns a recorded process of the component's pod whose container the runtime does not call running.
fn lost_container<'a>(
    facts: &'a Facts,
    runtime: &RuntimeState,
    component: Component,
) -> Option<(&'a ProcessCgroup, &'a ContainerId)> {
    facts.process_cgroups.iter().find_map(|recorded| {
        let id = recorded.pod.container.as_ref()?;
        let is_own = |sandbox: &Sandbox| sandbox.uid == recorded.pod.uid;
        let is_known = |container: &Container| container.id == *id && container.is_running();
        let sandboxes = runtime.component_sandboxes(component);
        // The pod's own sandbox process is no container of it.
        let is_sandbox = runtime.sandboxes.iter().any(|sandbox| sandbox.id.as_str() == id.as_str());
        let is_lost = sandboxes.iter().any(|sandbox| is_own(sandbox))
            && !is_sandbox
            && !runtime.containers.iter().any(is_known);
        is_lost.then_some((recorded, id))
    })
}

fn finish(confidence: Confidence, evidence: Vec<Evidence>, targets: Targets) -> Answer {
    let names: Vec<&str> = targets.components.iter().map(|component| component.as_str()).collect();
    let names = if names.is_empty() { "a static pod".to_owned() } else { names.join(", ") };
    let ports: Vec<String> = targets.ports.iter().map(ToString::to_string).collect();
    let summary = format!(
        "a former {names} process lost its container but still runs and holds port {}, so the new {names} cannot start",
        ports.join(", ")
    );
    draft(FindingId::OrphanProcess, Severity::Critical, confidence, summary)
        .evidence(evidence)
        .targets(targets)
        .remedy("Prove that the process belongs to no container and to this pod (cgroup, data folder), end it with SIGTERM and only then SIGKILL, and restart kubelet, which else waits up to 5 minutes.")
}
