//! Removes a stale sandbox through the runtime; processes are not signalled by us.

use std::time::Duration;

use super::Performed;
use crate::cri::{self, InPlace, RuntimeState, Sandbox};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, SandboxId};
use crate::recover::host::Host;
use crate::recover::observe::port::known_pods;
use crate::sys::Deadline;
use crate::terminate::{EndOptions, EtcdVersion};

pub(super) fn remove(host: &Host<'_>, id: &SandboxId, deadline: &Deadline) -> Result<Performed> {
    let runtime = cri::connect(host.node, host.commands, deadline)?;
    let mut state = runtime.list(deadline)?;
    let Some(sandbox) = state.sandbox(id).cloned() else {
        return Ok(Performed::new(format!("sandbox {id} is gone already")));
    };
    state.learn_arguments(runtime.as_ref(), deadline);
    require_left_over(host, &state, &sandbox, deadline)?;
    let stopped = cri::retire_sandbox(runtime.as_ref(), &state, id, grace(host, &state, id), deadline)?;
    if runtime.list(deadline)?.sandbox(id).is_some() {
        return Err(Error::new(
            ErrorKind::Peer,
            format!("the runtime still lists sandbox {id} after removing it"),
        ));
    }
    Ok(Performed::new(format!(
        "sandbox {id} of {} (config.hash {}) removed; {stopped}",
        sandbox.pod_name,
        sandbox.config_hash().unwrap_or("none")
    )))
}

/// Judges again, by the lists and the manifest of this moment.
fn require_left_over(
    host: &Host<'_>,
    state: &RuntimeState,
    sandbox: &Sandbox,
    deadline: &Deadline,
) -> Result<()> {
    let whose = Component::ALL.into_iter().find_map(|component| {
        let all = state.component_sandboxes(component);
        all.iter().any(|known| known.id == sandbox.id).then(|| (component, all.first().copied()))
    });
    let pods = known_pods(host, deadline);
    let left_over = whose.and_then(|(component, newest)| {
        let pod = pods.iter().find(|pod| pod.component == component).and_then(|pod| pod.pod.as_ref());
        let found = state.left_over(newest?, pod.and_then(InPlace::of));
        found.into_iter().find(|found| found.id == sandbox.id)
    });
    if left_over.is_some() {
        return Ok(());
    }
    let what = format!(
        "sandbox {} of {} is not proven (any more) to be replaced by one from the manifest in place",
        sandbox.id, sandbox.pod_name
    );
    Err(Error::new(ErrorKind::Changed, what))
}

/// The node's grace time, longer for an etcd that SIGKILL may damage by the image that it runs; so for one whose
/// release cannot be told.
fn grace(host: &Host<'_>, state: &RuntimeState, id: &SandboxId) -> Duration {
    let is_risky = state
        .containers_of(id)
        .into_iter()
        .filter(|container| container.is_running() && container.name == Component::Etcd.as_str())
        .any(|etcd| EtcdVersion::of_image(&etcd.image).is_none_or(EtcdVersion::corrupts_on_kill));
    if is_risky { host.node.grace().max(EndOptions::RISKY_GRACE) } else { host.node.grace() }
}
