//! The runtime as the rest of the crate sees it.

use std::time::Duration;

use super::model::{ContainerDetail, RuntimeInfo, RuntimeState};
use crate::error::Result;
use crate::model::{ContainerId, SandboxId};
use crate::node::NodeOptions;
use crate::sys::{Commands, Deadline};

/// Reads from a container runtime; changes nothing.
///
/// Every call ends at its deadline with [`Timeout`](crate::ErrorKind::Timeout), whatever the runtime
/// does, and with [`Cancelled`](crate::ErrorKind::Cancelled) soon after a cancel.
pub trait RuntimeView {
    /// Asks for name, version and conditions.
    ///
    /// # Errors
    /// [`Peer`](crate::ErrorKind::Peer) when the runtime refuses, as with `unknown service
    /// runtime.v1.RuntimeService` when its CRI part is off; [`PermissionDenied`](crate::ErrorKind::PermissionDenied),
    /// [`Timeout`](crate::ErrorKind::Timeout).
    fn info(&self, deadline: &Deadline) -> Result<RuntimeInfo>;

    /// Lists all sandboxes and all containers in any state.
    ///
    /// # Errors
    /// As [`info`](Self::info); never [`NotFound`](crate::ErrorKind::NotFound).
    fn list(&self, deadline: &Deadline) -> Result<RuntimeState>;

    /// Asks for one container.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) when the runtime says that it has no such container;
    /// otherwise as [`info`](Self::info).
    fn container_detail(&self, id: &ContainerId, deadline: &Deadline) -> Result<ContainerDetail>;
}

/// Changes what a container runtime runs. All calls are idempotent: what is gone already is success.
pub trait Runtime: RuntimeView {
    /// Stops the containers of a sandbox and the sandbox itself.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout), naming the sandbox, when a container does not end:
    /// the runtime goes on trying, the sandbox is in an unknown state; otherwise as
    /// [`RuntimeView::info`].
    fn stop_sandbox(&self, id: &SandboxId, deadline: &Deadline) -> Result<()>;

    /// Removes a sandbox and its containers, stopping them first without grace.
    ///
    /// # Errors
    /// As [`stop_sandbox`](Self::stop_sandbox).
    fn remove_sandbox(&self, id: &SandboxId, deadline: &Deadline) -> Result<()>;

    /// Stops a container: SIGTERM, then SIGKILL after `grace` (rounded up to seconds; 0 is SIGKILL at
    /// once). kubelet starts another one unless its manifest is gone.
    ///
    /// # Errors
    /// As [`stop_sandbox`](Self::stop_sandbox), naming the container.
    fn stop_container(&self, id: &ContainerId, grace: Duration, deadline: &Deadline) -> Result<()>;

    /// Removes a container, stopping it first without grace.
    ///
    /// # Errors
    /// As [`stop_sandbox`](Self::stop_sandbox), naming the container.
    fn remove_container(&self, id: &ContainerId, deadline: &Deadline) -> Result<()>;
}

/// Connects to the node's runtime and checks that it answers `Version`.
///
/// The configured endpoint is tried alone; else the known sockets below the root, first that answers
/// wins. Per socket gRPC comes first (feature `cri`), then `crictl` through `commands`.
///
/// The gRPC client owns a current-thread runtime and drives it inside each call: do not call it from
/// async code, use a blocking thread (a call from inside a tokio runtime fails with
/// [`Unsupported`](crate::ErrorKind::Unsupported), it does not panic).
///
/// # Errors
/// Never [`NotFound`](crate::ErrorKind::NotFound). [`Invalid`](crate::ErrorKind::Invalid) for a
/// malformed endpoint, else the kind of the first socket's failure; the message names all that was tried.
pub fn connect<'a>(
    node: &NodeOptions,
    commands: &'a dyn Commands,
    deadline: &Deadline,
) -> Result<Box<dyn Runtime + 'a>> {
    let _ = (node, commands, deadline);
    todo!()
}
