//! The runtime over gRPC.

use std::time::Duration;

use super::model::{
    Container, ContainerDetail, ContainerState, Mount, RuntimeCondition, RuntimeInfo, RuntimeState, Sandbox,
    SandboxState, Transport, UnixNanos,
};
use super::parse::{VerboseInfo, filled};
use super::wire::{self, Client};
use super::{Endpoint, Runtime, RuntimeView};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContainerId, PodUid, SandboxId};
use crate::sys::Deadline;

/// A runtime that speaks `runtime.v1` on its socket.
pub(super) struct GrpcRuntime {
    client: Client,
    endpoint: String,
    name: String,
}

impl GrpcRuntime {
    /// Makes the client and asks for the version.
    pub(super) fn connect(endpoint: &Endpoint, deadline: &Deadline) -> Result<Self> {
        let (client, endpoint) = (Client::new(&endpoint.socket), endpoint.url());
        let mut runtime = Self { client, endpoint, name: String::new() };
        runtime.name = runtime.version(deadline)?.runtime_name;
        Ok(runtime)
    }

    fn version(&self, deadline: &Deadline) -> Result<wire::VersionResponse> {
        let request = wire::VersionRequest { version: "v1".into() };
        never_absent(self.client.call("Version", "ask the runtime for its version", request, deadline))
    }
}

impl RuntimeView for GrpcRuntime {
    fn name(&self) -> &str {
        &self.name
    }

    fn info(&self, deadline: &Deadline) -> Result<RuntimeInfo> {
        let version = self.version(deadline)?;
        let request = wire::StatusRequest { verbose: false };
        let answer: wire::StatusResponse =
            never_absent(self.client.call("Status", "ask the runtime for its status", request, deadline))?;
        let conditions = answer.status.unwrap_or_default().conditions;
        Ok(RuntimeInfo {
            name: version.runtime_name,
            version: version.runtime_version,
            api_version: version.runtime_api_version,
            endpoint: self.endpoint.clone(),
            transport: Transport::Grpc,
            conditions: conditions.into_iter().map(RuntimeCondition::from).collect(),
        })
    }

    fn list(&self, deadline: &Deadline) -> Result<RuntimeState> {
        // Containers first: a sandbox made in between is then there without its containers, which is
        // true for a moment anyway; the other order would list containers of no sandbox.
        let request = wire::ListContainersRequest::default();
        let containers: wire::ListContainersResponse =
            never_absent(self.client.call("ListContainers", "list containers", request, deadline))?;
        let request = wire::ListPodSandboxRequest::default();
        let sandboxes: wire::ListPodSandboxResponse =
            never_absent(self.client.call("ListPodSandbox", "list sandboxes", request, deadline))?;
        Ok(RuntimeState {
            sandboxes: sandboxes.items.into_iter().map(Sandbox::from).collect(),
            containers: containers.containers.into_iter().map(Container::from).collect(),
            ..RuntimeState::default()
        })
    }

    fn container_detail(&self, id: &ContainerId, deadline: &Deadline) -> Result<ContainerDetail> {
        let what = format!("ask for container {id}");
        let request = wire::ContainerStatusRequest { container_id: id.as_str().into(), verbose: true };
        let answer: wire::ContainerStatusResponse =
            self.client.call("ContainerStatus", &what, request, deadline)?;
        let status = answer.status.ok_or_else(|| {
            Error::new(ErrorKind::Peer, format!("{what}: the runtime answered without a status"))
        })?;
        let mut info = answer.info;
        Ok(detail(status, info.remove("info")))
    }
}

impl Runtime for GrpcRuntime {
    fn stop_sandbox(&self, id: &SandboxId, deadline: &Deadline) -> Result<()> {
        let request = wire::StopPodSandboxRequest { pod_sandbox_id: id.as_str().into() };
        let what = format!("stop sandbox {id}");
        gone_is_done(
            self.client
                .call("StopPodSandbox", &what, request, deadline)
                .map(|_: wire::StopPodSandboxResponse| ()),
        )
    }

    fn remove_sandbox(&self, id: &SandboxId, deadline: &Deadline) -> Result<()> {
        let request = wire::RemovePodSandboxRequest { pod_sandbox_id: id.as_str().into() };
        let what = format!("remove sandbox {id}");
        gone_is_done(
            self.client
                .call("RemovePodSandbox", &what, request, deadline)
                .map(|_: wire::RemovePodSandboxResponse| ()),
        )
    }

    fn stop_container(&self, id: &ContainerId, grace: Duration, deadline: &Deadline) -> Result<()> {
        let timeout = super::runtime::whole_seconds(grace);
        let request = wire::StopContainerRequest { container_id: id.as_str().into(), timeout };
        let what = format!("stop container {id}");
        gone_is_done(
            self.client
                .call("StopContainer", &what, request, deadline)
                .map(|_: wire::StopContainerResponse| ()),
        )
    }

    fn remove_container(&self, id: &ContainerId, deadline: &Deadline) -> Result<()> {
        let request = wire::RemoveContainerRequest { container_id: id.as_str().into() };
        let what = format!("remove container {id}");
        gone_is_done(
            self.client
                .call("RemoveContainer", &what, request, deadline)
                .map(|_: wire::RemoveContainerResponse| ()),
        )
    }
}

/// A list or a version is never "not there": a runtime that answers so is broken.
fn never_absent<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::Peer, error.to_string()),
        _ => error,
    })
}

/// CRI's stop and remove are idempotent; some runtimes answer "not found" all the same.
fn gone_is_done(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn detail(status: wire::ContainerStatus, verbose: Option<String>) -> ContainerDetail {
    let info = verbose.as_deref().map(VerboseInfo::from_json).unwrap_or_default();
    let state = ContainerState::from_wire(status.state);
    let known = |nanos: i64| (nanos > 0).then_some(UnixNanos(nanos));
    ContainerDetail {
        id: ContainerId::new(status.id),
        pid: info.pid(state),
        exit_code: (state == ContainerState::Exited).then_some(status.exit_code),
        started_at: known(status.started_at),
        finished_at: known(status.finished_at),
        reason: filled(status.reason),
        message: filled(status.message),
        cgroups_path: info.cgroups_path(),
        argv: info.argv(),
        log_path: filled(status.log_path).map(Into::into),
        mounts: status.mounts.into_iter().map(Mount::from).collect(),
        verbose,
        state,
    }
}

impl From<wire::Mount> for Mount {
    fn from(mount: wire::Mount) -> Self {
        Self {
            host_path: mount.host_path.into(),
            container_path: mount.container_path.into(),
            read_only: mount.readonly,
        }
    }
}

impl From<wire::RuntimeCondition> for RuntimeCondition {
    fn from(condition: wire::RuntimeCondition) -> Self {
        Self {
            kind: condition.r#type,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
        }
    }
}

impl From<wire::PodSandbox> for Sandbox {
    fn from(item: wire::PodSandbox) -> Self {
        let metadata = item.metadata.unwrap_or_default();
        Self {
            id: SandboxId::new(item.id),
            pod_name: metadata.name,
            namespace: metadata.namespace,
            uid: PodUid::new(metadata.uid),
            attempt: metadata.attempt,
            state: SandboxState::from_wire(item.state),
            created_at: UnixNanos(item.created_at),
            labels: item.labels,
            annotations: item.annotations,
        }
    }
}

impl From<wire::Container> for Container {
    fn from(item: wire::Container) -> Self {
        let metadata = item.metadata.unwrap_or_default();
        let image = item.image.unwrap_or_default();
        let named = [image.user_specified_image, image.image, item.image_ref];
        Self {
            id: ContainerId::new(item.id),
            sandbox: SandboxId::new(item.pod_sandbox_id),
            name: metadata.name,
            attempt: metadata.attempt,
            state: ContainerState::from_wire(item.state),
            created_at: UnixNanos(item.created_at),
            image: named.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
            labels: item.labels,
            annotations: item.annotations,
        }
    }
}
