//! Takes a sandbox out of service without haste.

use std::time::Duration;

use super::RuntimeState;
use super::runtime::Runtime;
use crate::error::{ErrorKind, Result};
use crate::model::SandboxId;
use crate::sys::Deadline;

/// What the runtime may need beyond the grace time to report a container's end.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// How many containers of one sandbox are stopped; a static pod has one or two.
const MAX_CONTAINERS: usize = 16;

/// Stops the running containers of a sandbox, each with `grace`, then stops and removes the sandbox.
///
/// [`Runtime::stop_sandbox`] alone would have containerd SIGKILL them at once
/// (`internal/cri/server/sandbox_stop.go`), and an etcd that is killed under load may lose its data
/// (3.5.0 to 3.5.2, etcd issue 13766). Nobody but kubelet starts containers, and kubelet starts none in a
/// sandbox that is not its pod's newest; so `state`, by which it was just judged stale, is enough. Returns
/// in words what was stopped.
///
/// # Errors
/// As [`Runtime::stop_sandbox`], and as [`Runtime::stop_container`] but for its
/// [`Timeout`](ErrorKind::Timeout). What was stopped before stays stopped; the call can be made again.
pub fn retire_sandbox(
    runtime: &dyn Runtime,
    state: &RuntimeState,
    id: &SandboxId,
    grace: Duration,
    deadline: &Deadline,
) -> Result<String> {
    let said = stop(runtime, state, id, grace, deadline)?;
    runtime.remove_sandbox(id, deadline)?;
    Ok(said)
}

/// Stops the containers with their grace time, then the sandbox; a container that does not end in its
/// time is left to the sandbox's stop, which kills it. Any other failure is no end of the grace time: nothing
/// is killed for it.
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
            Err(error) if error.kind() != ErrorKind::Timeout => return Err(error),
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
    use crate::error::Error;
    use crate::model::ContainerId;

    /// Records calls; a container whose id is "hangs" does not stop, and "refused" is not stopped.
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
        fn name(&self) -> &'static str {
            "fake"
        }
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
            match id.as_str() {
                "hangs" => Err(Error::new(ErrorKind::Timeout, "it hangs")),
                "refused" => Err(Error::new(ErrorKind::Peer, "the runtime refuses")),
                _ => Ok(()),
            }
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

    #[test]
    fn a_runtime_that_refuses_to_stop_a_container_is_not_told_to_kill_it() {
        let containers = vec![container("refused", "s", ContainerState::Running)];
        let state = RuntimeState { containers, ..RuntimeState::default() };
        let fake = Fake::default();
        let deadline = Deadline::after(Duration::from_mins(2));
        let id = SandboxId::new("s");
        let error =
            retire_sandbox(&fake, &state, &id, Duration::from_secs(7), &deadline).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Peer, "{error}");
        assert_eq!(fake.0.into_inner(), ["stop container refused with 7 s"], "no stop of the sandbox");
    }
}
