//! kubelet and the container runtime as their service manager sees them.

use super::{UnitFact, UnitRole};
use crate::model::Observed;
use crate::node::NodeOptions;
use crate::sys::{Commands, Deadline};
use crate::units::{ServiceState, service};

/// Asks for both services; one that cannot be asked is unknown, not stopped.
pub(super) fn read(node: &NodeOptions, commands: &dyn Commands, deadline: &Deadline) -> Vec<UnitFact> {
    [(UnitRole::Kubelet, &node.kubelet), (UnitRole::Runtime, &node.runtime)]
        .into_iter()
        .map(|(role, control)| match service(node, control, commands) {
            Ok(service) => {
                let state = match service.state(deadline) {
                    Ok(ServiceState::Missing) => Observed::Absent,
                    Ok(state) => Observed::Present(state),
                    Err(error) => Observed::Unknown(error.to_string()),
                };
                UnitFact { role, name: service.name().to_owned(), state }
            }
            Err(error) => UnitFact {
                role,
                name: format!("{role:?}").to_lowercase(),
                state: Observed::Unknown(error.to_string()),
            },
        })
        .collect()
}
