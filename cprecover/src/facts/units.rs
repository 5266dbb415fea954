//! kubelet and the container runtime as their service manager sees them.

use super::{UnitFact, UnitRole};
use crate::model::Observed;
use crate::node::NodeOptions;
use crate::sys::{Commands, Deadline};
use crate::units::{self, ServiceState};

/// Asks for both services; one that cannot be asked is unknown, not stopped.
pub(super) fn read(node: &NodeOptions, commands: &dyn Commands, deadline: &Deadline) -> Vec<UnitFact> {
    let services = [
        (UnitRole::Kubelet, units::kubelet(node, commands)),
        (UnitRole::Runtime, units::runtime(node, commands)),
    ];
    services
        .into_iter()
        .map(|(role, service)| match service {
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
