//! Asks every component for its health.

use crate::diagnose::{HealthFact, HealthState, Subject};
use crate::model::Component;
use crate::node::NodeOptions;
use crate::probe::{Prober, target_of};
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
        let asked = target_of(*component, node, insecure).and_then(|target| {
            let scheme =
                if matches!(target.trust, crate::probe::Trust::PlainHttp) { "http" } else { "https" };
            let source = format!("{scheme}://{}{}", target.address, target.path);
            Ok((source, prober.outcome(*component, &target, deadline)?))
        });
        match asked {
            Ok((source, outcome)) => facts.push(HealthFact {
                subject: Some(Subject::Component(*component)),
                source,
                state: HealthState::Probed(outcome),
            }),
            Err(error) => unread.push((format!("health of {component}"), error.to_string())),
        }
    }
    (facts, unread)
}
