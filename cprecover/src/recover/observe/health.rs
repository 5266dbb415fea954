//! Asks every component for its health.

use crate::diagnose::{HealthFact, HealthState, Subject};
use crate::error::Result;
use crate::model::Component;
use crate::node::NodeOptions;
use crate::probe::{Prober, Target, Trust, target_of, target_of_pod};
use crate::recover::observation::ExpectedPod;
use crate::sys::Deadline;

/// Asks the components whose manifests are in place; what cannot be asked is returned as text.
pub(super) fn ask(
    node: &NodeOptions,
    components: &[Component],
    prober: &Prober<'_>,
    deadline: &Deadline,
) -> (Vec<HealthFact>, Vec<(String, String)>) {
    let mut facts = Vec::new();
    let mut unread = Vec::new();
    for component in components {
        // Controller manager and scheduler sign their own certificates; kubelet does not verify them either.
        let insecure = matches!(component, Component::KubeControllerManager | Component::KubeScheduler);
        let asked = target_of(*component, node, insecure)
            .and_then(|target| fact(*component, &target, prober, deadline));
        match asked {
            Ok(fact) => facts.push(fact),
            Err(error) => unread.push((format!("health of {component}"), error.to_string())),
        }
    }
    (facts, unread)
}

/// Asks an etcd whose manifest is gone by what a backup says of it: its process may still serve and vote. It is
/// no part of the node's health, which its missing manifest decides.
pub(super) fn of_unmanaged_etcd(
    node: &NodeOptions,
    pods: &[ExpectedPod],
    managed: &[Component],
    prober: &Prober<'_>,
    deadline: &Deadline,
) -> Option<HealthFact> {
    if managed.contains(&Component::Etcd) {
        return None;
    }
    let pod = pods.iter().find(|pod| pod.component == Component::Etcd)?.pod.as_ref()?;
    let target = target_of_pod(Component::Etcd, node, pod).ok()?;
    fact(Component::Etcd, &target, prober, deadline).ok()
}

fn fact(
    component: Component,
    target: &Target,
    prober: &Prober<'_>,
    deadline: &Deadline,
) -> Result<HealthFact> {
    let scheme = if matches!(target.trust, Trust::PlainHttp) { "http" } else { "https" };
    let source = format!("{scheme}://{}{}", target.address, target.path);
    let state = HealthState::Probed(prober.outcome(component, target, deadline)?);
    Ok(HealthFact { subject: Some(Subject::Component(component)), source, state })
}
