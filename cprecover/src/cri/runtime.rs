//! The runtime as the rest of the crate sees it.

use std::time::Duration;

use super::Endpoint;
use super::crictl::CrictlRuntime;
use super::model::{ContainerDetail, RuntimeInfo, RuntimeState};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContainerId, SandboxId};
use crate::node::NodeOptions;
use crate::sys::{Commands, Deadline};

/// Reads from a container runtime; changes nothing.
///
/// Every call ends at its deadline with [`Timeout`](crate::ErrorKind::Timeout), whatever the runtime
/// does, and with [`Cancelled`](crate::ErrorKind::Cancelled) soon after a cancel.
pub trait RuntimeView {
    /// Returns the name that it told when it was connected to, as `containerd`; empty when it told none.
    fn name(&self) -> &str;

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
    /// containerd kills the containers with SIGKILL at once (`internal/cri/server/sandbox_stop.go`: "the
    /// containers are forcibly terminated"), CRI-O after 10 s. An etcd that still answers is stopped with
    /// [`stop_container`](Self::stop_container) first: SIGKILL under load damaged etcd 3.5.0 to 3.5.2.
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

/// How long one socket may take to answer `Version`; a hung runtime must not use up the whole time.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the node's runtime and checks that it answers `Version`.
///
/// The configured endpoint is tried alone, else the one that kubelet's files name, else the known sockets
/// below the root. Of several that somebody listens on, exactly one may serve CRI: the empty list of a
/// runtime that is not the node's would make every container of the node's own one an orphan. Per socket
/// gRPC comes first (feature `cri`), then `crictl` through `commands`.
///
/// The gRPC client keeps no connection and no thread between calls. A call blocks; made from inside a
/// tokio runtime it blocks that runtime's thread and works on a thread that ends with the call.
///
/// # Errors
/// Never [`NotFound`](crate::ErrorKind::NotFound). [`Refused`](crate::ErrorKind::Refused) when several
/// sockets answer, naming them, as kubeadm does ("found multiple CRI endpoints on the host");
/// those of [`endpoints`](super::endpoints), else the kind of the first socket's failure; the message
/// names all that was tried.
pub fn connect<'a>(
    node: &NodeOptions,
    commands: &'a dyn Commands,
    deadline: &Deadline,
) -> Result<Box<dyn Runtime + 'a>> {
    let mut failures: Vec<Error> = Vec::new();
    let mut endpoints = super::endpoints(node)?;
    if endpoints.len() > 1 {
        let (dead, living): (Vec<_>, Vec<_>) = endpoints.into_iter().partition(Endpoint::is_dead);
        endpoints = living;
        let said = |dead: Endpoint| format!("nobody listens on {}", dead.socket.display());
        failures.extend(dead.into_iter().map(|dead| Error::new(ErrorKind::Peer, said(dead))));
    }
    let alone = endpoints.len() == 1;
    let mut answering: Option<(Endpoint, Box<dyn Runtime + 'a>)> = None;
    for endpoint in endpoints {
        deadline.check("connect to the container runtime")?;
        match (connect_to(&endpoint, node, commands, &deadline.at_most(VERSION_TIMEOUT)), &answering) {
            (Ok(_), Some((first, _))) => return Err(ambiguous(first, &endpoint)),
            (Ok(runtime), None) => answering = Some((endpoint, runtime)),
            (Err(error), _) if error.kind() == ErrorKind::Cancelled => return Err(error),
            (Err(error), _) if !alone && !has_no_cri(&error) => {
                let what = format!("{} may be the node's runtime ({REMEDY})", endpoint.url());
                return Err(unanswered(&[error.context(what)]));
            }
            (Err(error), _) => failures.push(error),
        }
    }
    match answering {
        Some((_, runtime)) => Ok(runtime),
        None => Err(unanswered(&failures)),
    }
}

/// What the operator can do where it is not clear which runtime is the node's.
const REMEDY: &str = "set runtimeEndpoint to the one that kubelet uses";

fn ambiguous(first: &Endpoint, second: &Endpoint) -> Error {
    let message =
        format!("more than one container runtime answers: {} and {}; {REMEDY}", first.url(), second.url());
    Error::new(ErrorKind::Refused, message)
}

/// Reports whether somebody answered who serves no CRI, as Docker's containerd with `cri` in its
/// `disabled_plugins`: gRPC's own words for a service that it does not have (grpc-go `server.go`).
fn has_no_cri(error: &Error) -> bool {
    error.kind() == ErrorKind::Peer && error.to_string().contains("unknown service")
}

fn unanswered(failures: &[Error]) -> Error {
    let kind = failures.first().map_or(ErrorKind::Peer, Error::kind);
    let said: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let message = format!("no container runtime answers: {}", said.join("; "));
    // Absence of an answer is not absence of a runtime.
    Error::new(if kind == ErrorKind::NotFound { ErrorKind::Peer } else { kind }, message)
}

#[cfg(feature = "cri")]
fn connect_to<'a>(
    endpoint: &Endpoint,
    node: &NodeOptions,
    commands: &'a dyn Commands,
    deadline: &Deadline,
) -> Result<Box<dyn Runtime + 'a>> {
    let direct = match super::grpc::GrpcRuntime::connect(endpoint, deadline) {
        Ok(runtime) => return Ok(Box::new(runtime)),
        // crictl would wait for the same silence or meet the same closed door.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Timeout | ErrorKind::Cancelled | ErrorKind::PermissionDenied
            ) =>
        {
            return Err(error);
        }
        Err(error) => error,
    };
    // crictl still speaks v1alpha2 in the releases that go with runtimes from before v1.
    match CrictlRuntime::connect(node, endpoint, commands, deadline) {
        Ok(runtime) => Ok(Box::new(runtime)),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(direct),
        Err(error) => {
            let kind = match error.kind() {
                ended @ (ErrorKind::Timeout | ErrorKind::Cancelled) => ended,
                _ => direct.kind(),
            };
            Err(Error::new(kind, format!("{direct}; {error}")))
        }
    }
}

#[cfg(not(feature = "cri"))]
fn connect_to<'a>(
    endpoint: &Endpoint,
    node: &NodeOptions,
    commands: &'a dyn Commands,
    deadline: &Deadline,
) -> Result<Box<dyn Runtime + 'a>> {
    Ok(Box::new(CrictlRuntime::connect(node, endpoint, commands, deadline)?))
}

/// Rounds up, so that a grace of 500 ms does not become CRI's 0, which is SIGKILL at once.
pub(super) fn whole_seconds(duration: Duration) -> i64 {
    let more = u64::from(duration.subsec_nanos() > 0);
    i64::try_from(duration.as_secs().saturating_add(more)).unwrap_or(i64::MAX)
}
