//! Takes a sandbox out of service without haste.

use std::time::Duration;

use super::runtime::Runtime;
use crate::error::Result;
use crate::model::SandboxId;
use crate::sys::Deadline;

/// Stops the running containers of a sandbox, each with `grace`, then stops and removes the sandbox.
///
/// [`Runtime::stop_sandbox`] alone would have containerd SIGKILL them at once
/// (`internal/cri/server/sandbox_stop.go`), and an etcd that is killed under load may lose its data
/// (3.5.0 to 3.5.2, etcd issue 13766). Nobody but kubelet starts containers, and kubelet starts none in a
/// sandbox that is not its pod's newest.
///
/// # Errors
/// As [`Runtime::stop_sandbox`] and [`super::RuntimeView::list`]. What was stopped before stays stopped; the
/// call can be made again.
pub fn retire_sandbox(
    runtime: &dyn Runtime,
    id: &SandboxId,
    grace: Duration,
    deadline: &Deadline,
) -> Result<()> {
    let state = runtime.list(deadline)?;
    for container in state.containers_of(id).into_iter().filter(|container| container.is_running()) {
        runtime.stop_container(&container.id, grace, deadline)?;
    }
    runtime.stop_sandbox(id, deadline)?;
    runtime.remove_sandbox(id, deadline)
}
