//! Restarts kubelet or the runtime and waits until it is active.

use std::time::Duration;

use super::Performed;
use crate::error::{Error, ErrorKind, Result};
use crate::node::ServiceControl;
use crate::recover::host::Host;
use crate::sys::Deadline;
use crate::units::{self, ServiceState};

/// How long a service may take to become active.
const ACTIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Restarts a service; `role` names it for people, since the operator's own commands make poor names.
pub(super) fn restart(
    host: &Host<'_>,
    role: &str,
    control: &ServiceControl,
    deadline: &Deadline,
) -> Result<Performed> {
    let service = units::service(host.node, control, host.commands)?;
    let before = service.state(deadline)?;
    service.restart(deadline)?;
    let deadline = deadline.at_most(ACTIVE_TIMEOUT);
    loop {
        let state = service.state(&deadline)?;
        if state == ServiceState::Active {
            let before = format!("{before:?}").to_lowercase();
            return Ok(Performed::new(format!("{role} restarted (it was {before})")));
        }
        if state == ServiceState::Failed {
            return Err(Error::new(
                ErrorKind::Peer,
                format!("{} failed right after its restart", service.name()),
            ));
        }
        deadline.check(&format!("wait for {}", service.name()))?;
        host.clock.sleep(Duration::from_millis(50));
    }
}
