//! The kubelet: down, stuck, or waiting longer than a restart takes.

use cprecover_policy_sdk::contract::{
    Action, ActionKind, Component, HolderClass, ManifestState, Service, ServiceName, ServiceState,
};

use super::{Case, Step, name};

/// A restart has to save more than this to be worth it.
const WORTH_MS: u64 = 2_000;

pub(super) fn down(case: &Case<'_>) -> Step {
    let Some(kubelet) = case.service(ServiceName::Kubelet) else { return Step::go_on() };
    if !matches!(kubelet.state, ServiceState::Inactive | ServiceState::Failed) {
        return Step::go_on();
    }
    let reason = format!("kubelet does not run ({})", kubelet.detail);
    Step::then_stop(vec![case.act(Action::RestartKubelet, reason, Vec::new(), 0.95)])
}

pub(super) fn stuck(case: &Case<'_>) -> Step {
    let Some(removed) = case.last_done(ActionKind::RemoveSandbox) else { return Step::go_on() };
    let restarted = case.last_done(ActionKind::RestartKubelet);
    if restarted.is_some_and(|restarted| restarted >= removed) {
        return Step::go_on();
    }
    let reason = "a stale sandbox was removed and kubelet was not restarted since".into();
    Step::then_stop(vec![case.act(Action::RestartKubelet, reason, Vec::new(), 0.95)])
}

pub(super) fn back_off(case: &Case<'_>) -> Step {
    let Some(kubelet) = case.service(ServiceName::Kubelet) else { return Step::go_on() };
    let worst = case
        .seen
        .containers
        .iter()
        .filter_map(|container| Some((container.component?, container.back_off_ms?)))
        .filter(|(component, _)| unhindered(case, *component))
        .max_by_key(|(_, left)| *left);
    let Some((component, left)) = worst else { return Step::go_on() };
    if left <= kubelet.restart_ms.saturating_add(WORTH_MS) {
        return Step::go_on();
    }
    Step::then_stop(vec![case.act(Action::RestartKubelet, reason(component, left, kubelet), Vec::new(), 0.9)])
}

fn reason(component: Component, left_ms: u64, kubelet: &Service) -> String {
    format!(
        "kubelet waits another {left_ms} ms before it starts {} and nothing is in its way any more; a restart takes {} ms",
        name(component),
        kubelet.restart_ms
    )
}

/// What made the container crash is gone, as far as it can be seen; else it would only crash again.
fn unhindered(case: &Case<'_>, component: Component) -> bool {
    let port_taken = case.seen.holders.iter().any(|holder| {
        // A holder that this same answer ends first is in the way until that is done.
        holder.wanted_by == Some(component) && holder.class != HolderClass::Current
    });
    let manifest_wrong = case
        .own_manifests()
        .any(|(manifest, of)| of == component && manifest.state != ManifestState::Present);
    !port_taken && !manifest_wrong
}
