//! Restarts kubelet or the runtime and waits until it works.

use std::time::Duration;

use super::Performed;
use crate::cri;
use crate::error::{Error, ErrorKind, Result};
use crate::recover::host::Host;
use crate::sys::Deadline;
use crate::units::{self, Service, ServiceState};

/// How long a service may take to become active, and the runtime to answer.
const ACTIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Restarts kubelet.
pub(super) fn restart_kubelet(host: &Host<'_>, deadline: &Deadline) -> Result<Performed> {
    let service = units::kubelet(host.node, host.commands)?;
    restart(host, "kubelet", service.as_ref(), deadline)
}

/// Restarts the container runtime, and proves that it answers: active is not yet serving.
pub(super) fn restart_runtime(host: &Host<'_>, deadline: &Deadline) -> Result<Performed> {
    let service = units::runtime(host.node, host.commands)?;
    let done = restart(host, "the container runtime", service.as_ref(), deadline)?;
    let limit = deadline.at_most(ACTIVE_TIMEOUT);
    loop {
        let answer = cri::connect(host.node, host.commands, &limit).and_then(|runtime| runtime.info(&limit));
        match answer {
            Ok(info) => {
                let detail = format!("{}; it answers as {} {}", done.detail, info.name, info.version);
                return Ok(Performed::new(detail));
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                limit.check("wait for the container runtime to answer").map_err(|late| {
                    Error::new(late.kind(), format!("{}, but does not answer: {error}", done.detail))
                })?;
            }
        }
        host.clock.sleep(Duration::from_millis(100));
    }
}

/// Restarts a service; `role` names it for people, since the operator's own commands make poor names.
fn restart(host: &Host<'_>, role: &str, service: &dyn Service, deadline: &Deadline) -> Result<Performed> {
    let before = service.state(deadline)?;
    service.restart(deadline)?;
    wait_active(host, service, deadline)?;
    let before = format!("{before:?}").to_lowercase();
    Ok(Performed::new(format!("{role} restarted (it was {before})")))
}

/// Starts a service that this engine stopped itself.
pub(super) fn start(host: &Host<'_>, role: &str, service: &dyn Service, deadline: &Deadline) -> Result<()> {
    service.start(deadline).and_then(|()| wait_active(host, service, deadline)).map_err(|e| e.context(role))
}

/// A service that this engine stopped is started whatever became of the caller's time.
pub(super) fn own_deadline() -> Deadline {
    Deadline::after(ACTIVE_TIMEOUT)
}

fn wait_active(host: &Host<'_>, service: &dyn Service, deadline: &Deadline) -> Result<()> {
    let deadline = deadline.at_most(ACTIVE_TIMEOUT);
    loop {
        match service.state(&deadline)? {
            ServiceState::Active => return Ok(()),
            ServiceState::Failed => {
                let message = format!("{} failed right after its start", service.name());
                return Err(Error::new(ErrorKind::Peer, message));
            }
            _ => {}
        }
        deadline.check(&format!("wait for {}", service.name()))?;
        host.clock.sleep(Duration::from_millis(50));
    }
}
