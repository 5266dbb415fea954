//! Who holds a port that a static pod needs.

use cprecover_policy_sdk::contract::{
    Action, Component, HolderClass, PortHolder, Sandbox, SandboxRole, TerminateHolder,
};

use super::{Case, Step, escalate, name};

fn wanted<'a>(
    case: &Case<'a>,
    classes: &'static [HolderClass],
) -> impl Iterator<Item = (&'a PortHolder, Component)> {
    case.seen
        .holders
        .iter()
        .filter(|holder| classes.contains(&holder.class))
        .filter_map(|holder| holder.wanted_by.map(|component| (holder, component)))
}

pub(super) fn unproven(case: &Case<'_>) -> Step {
    const CLASSES: &[HolderClass] = &[HolderClass::Unproven, HolderClass::SystemdUnit, HolderClass::Foreign];
    let decisions = wanted(case, CLASSES)
        .map(|(holder, component)| {
            let (what, hint) = match (holder.class, &holder.unit) {
                (HolderClass::SystemdUnit, Some(unit)) => {
                    (format!("unit {unit}"), format!("stop it if it should not run: systemctl stop {unit}"))
                }
                (HolderClass::Foreign, _) => (
                    format!("foreign program {}", holder.executable),
                    "end it, or move it to another port".into(),
                ),
                _ => (
                    format!("{}, of which it is not proven whose it is", holder.executable),
                    "see `cprecover port who` for the evidence; start the container runtime if it is down"
                        .into(),
                ),
            };
            escalate(
                format!("port {} of {} is held by pid {} ({what})", holder.port, name(component), holder.pid),
                vec![hint],
                holder.evidence.clone(),
            )
        })
        .collect();
    Step::then_stop(decisions)
}

pub(super) fn stale_sandbox(case: &Case<'_>) -> Step {
    let mut removed: Vec<&str> = Vec::new();
    let mut decisions = Vec::new();
    for (holder, component) in wanted(case, &[HolderClass::StaleSandbox]) {
        let Some(id) = holder.sandbox_id.as_deref() else {
            decisions.push(escalate(
                format!(
                    "port {} of {} is held by a container of an old sandbox whose id is not known",
                    holder.port,
                    name(component)
                ),
                vec!["find it with `crictl pods` and remove it with `crictl rmp`".into()],
                holder.evidence.clone(),
            ));
            continue;
        };
        if removed.contains(&id) {
            continue;
        }
        removed.push(id);
        let reason = format!(
            "pid {} of {}'s older sandbox {id} holds port {}; kubelet removes it only when the API answers",
            holder.pid,
            name(component),
            holder.port
        );
        decisions.push(case.act(Action::RemoveSandbox(id.into()), reason, holder.evidence.clone(), 0.97));
    }
    for (sandbox, component) in without_running_successor(case) {
        if removed.contains(&sandbox.id.as_str()) {
            continue;
        }
        removed.push(&sandbox.id);
        let reason = format!(
            "{}'s older sandbox {} is left over and the newer one does not come up (as with `unmounted volumes`)",
            name(component),
            sandbox.id
        );
        decisions.push(case.act(Action::RemoveSandbox(sandbox.id.clone()), reason, Vec::new(), 0.9));
    }
    if !removed.is_empty() {
        let reason = "kubelet's pod worker forgets the removed sandbox only by a restart".into();
        decisions.push(case.act(Action::RestartKubelet, reason, Vec::new(), 0.95));
    }
    Step::then_stop(decisions)
}

/// Stale sandboxes of pods none of whose containers runs in a newer sandbox.
fn without_running_successor<'a>(case: &Case<'a>) -> impl Iterator<Item = (&'a Sandbox, Component)> {
    let containers = &case.seen.containers;
    case.seen
        .sandboxes
        .iter()
        .filter(|sandbox| sandbox.role == SandboxRole::Stale)
        .filter_map(|sandbox| sandbox.component.map(|component| (sandbox, component)))
        .filter(move |(sandbox, component)| {
            !containers.iter().any(|container| {
                container.component == Some(*component)
                    && container.sandbox_id != sandbox.id
                    && container.state == cprecover_policy_sdk::contract::ContainerState::Running
            })
        })
}

pub(super) fn orphan(case: &Case<'_>) -> Step {
    let mut ended: Vec<u32> = Vec::new();
    let mut decisions = Vec::new();
    for (holder, component) in wanted(case, &[HolderClass::Orphan]) {
        // One process often holds all of a component's ports; ending it once is enough.
        if ended.contains(&holder.pid) {
            continue;
        }
        ended.push(holder.pid);
        let target = TerminateHolder { port: holder.port, pid: holder.pid, start_ticks: holder.start_ticks };
        let reason = format!(
            "pid {} ({}) is an orphan of a pod that the runtime no longer knows and keeps port {} from {}",
            holder.pid,
            holder.executable,
            holder.port,
            name(component)
        );
        decisions.push(case.act(Action::TerminateHolder(target), reason, holder.evidence.clone(), 0.98));
    }
    // Manifests can be restored beside this: they are files, and kubelet waits for the port anyway.
    Step::then_go_on(decisions)
}
