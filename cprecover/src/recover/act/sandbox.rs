//! Removes a stale sandbox through the runtime; processes are not signalled by us.

use std::time::Duration;

use super::Performed;
use crate::cri::{self, Runtime, RuntimeState};
use crate::error::{Error, ErrorKind, Result};
use crate::model::SandboxId;
use crate::recover::host::Host;
use crate::sys::Deadline;

/// What the runtime may need beyond the grace time to report a container's end.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// How many containers of one sandbox are stopped; a static pod has one or two.
const MAX_CONTAINERS: usize = 16;

pub(super) fn remove(host: &Host<'_>, id: &SandboxId, deadline: &Deadline) -> Result<Performed> {
    let runtime = cri::connect(host.node, host.commands, deadline)?;
    let state = runtime.list(deadline)?;
    let Some(sandbox) = state.sandbox(id) else {
        return Ok(Performed::new(format!("sandbox {id} is gone already")));
    };
    let stale = state.stale_sandboxes(&sandbox.namespace, &sandbox.pod_name);
    if !stale.iter().any(|stale| stale.id == *id) {
        return Err(Error::new(
            ErrorKind::Changed,
            format!(
                "sandbox {id} of {} is not older than a sandbox from another manifest any more",
                sandbox.pod_name
            ),
        ));
    }
    let stopped = stop(runtime.as_ref(), &state, id, host.node.grace(), deadline)?;
    runtime.remove_sandbox(id, deadline)?;
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

/// Stops the containers with their grace time, then the sandbox.
///
/// containerd kills what still runs in a sandbox that it stops with SIGKILL at once
/// (`internal/cri/server/sandbox_stop.go`), which etcd 3.5.0 to 3.5.2 answered with damaged data. A container
/// that does not end in its time is left to that.
fn stop(
    runtime: &dyn Runtime,
    state: &RuntimeState,
    id: &SandboxId,
    grace: Duration,
    deadline: &Deadline,
) -> Result<String> {
    let mut said = Vec::new();
    let running = state.containers_of(id).into_iter().filter(|container| container.is_running());
    for container in running.take(MAX_CONTAINERS) {
        let limit = deadline.at_most(grace.saturating_add(STOP_MARGIN));
        match runtime.stop_container(&container.id, grace, &limit) {
            Ok(()) => said.push(format!("container {} stopped within {} s", container.id, grace.as_secs())),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => said.push(format!("container {} did not stop ({error})", container.id)),
        }
    }
    runtime.stop_sandbox(id, deadline)?;
    Ok(if said.is_empty() { "nothing ran in it".to_owned() } else { said.join(", ") })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::cri::{Container, ContainerDetail, ContainerState, RuntimeInfo, RuntimeView};
    use crate::model::ContainerId;

    /// Records calls; a container whose id is "hangs" does not stop.
    #[derive(Default)]
    struct Fake(RefCell<Vec<String>>);

    impl Fake {
        fn call(&self, text: String) {
            self.0.borrow_mut().push(text);
        }
    }

    fn unasked<T>() -> Result<T> {
        Err(Error::new(ErrorKind::Unsupported, "not asked in this test"))
    }

    impl RuntimeView for Fake {
        fn info(&self, _: &Deadline) -> Result<RuntimeInfo> {
            unasked()
        }
        fn list(&self, _: &Deadline) -> Result<RuntimeState> {
            unasked()
        }
        fn container_detail(&self, _: &ContainerId, _: &Deadline) -> Result<ContainerDetail> {
            unasked()
        }
    }

    impl Runtime for Fake {
        fn stop_sandbox(&self, id: &SandboxId, _: &Deadline) -> Result<()> {
            self.call(format!("stop sandbox {id}"));
            Ok(())
        }
        fn remove_sandbox(&self, _: &SandboxId, _: &Deadline) -> Result<()> {
            unasked()
        }
        fn stop_container(&self, id: &ContainerId, grace: Duration, deadline: &Deadline) -> Result<()> {
            assert!(
                deadline.remaining() <= grace + STOP_MARGIN,
                "one container must not use up all the time"
            );
            self.call(format!("stop container {id} with {} s", grace.as_secs()));
            if id.as_str() == "hangs" {
                return Err(Error::new(ErrorKind::Timeout, "it hangs"));
            }
            Ok(())
        }
        fn remove_container(&self, _: &ContainerId, _: &Deadline) -> Result<()> {
            unasked()
        }
    }

    fn container(id: &str, sandbox: &str, state: ContainerState) -> Container {
        let mut container = Container::blank(id, sandbox);
        container.state = state;
        container
    }

    #[test]
    fn containers_get_their_grace_before_the_sandbox_is_stopped() {
        let state = RuntimeState {
            containers: vec![
                container("etcd", "s", ContainerState::Running),
                container("hangs", "s", ContainerState::Running),
                container("old", "s", ContainerState::Exited),
                container("other", "t", ContainerState::Running),
            ],
            ..RuntimeState::default()
        };
        let fake = Fake::default();
        let deadline = Deadline::after(Duration::from_mins(2));
        let said =
            stop(&fake, &state, &SandboxId::new("s"), Duration::from_secs(7), &deadline).expect("stops");
        let mut calls = fake.0.into_inner();
        assert_eq!(calls.pop().as_deref(), Some("stop sandbox s"), "last of all");
        calls.sort();
        assert_eq!(calls, ["stop container etcd with 7 s", "stop container hangs with 7 s"]);
        assert!(said.contains("container hangs did not stop"), "{said}");
    }
}
