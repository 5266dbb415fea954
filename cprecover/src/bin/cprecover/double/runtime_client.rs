//! The calls of CRI that only kubelet makes, for its stand-in.

use std::path::PathBuf;
use std::time::Duration;

use cprecover::Result;
use cprecover::cri::wire::{self, Client};
use cprecover::cri::{Container, RuntimeState, Sandbox};
use cprecover::model::{ContainerId, SandboxId};
use cprecover::sys::Deadline;

use super::kubelet::runtime::{ContainerSpec, PodRuntime, SandboxSpec};

/// kubelet's own limit for one call (`--runtime-request-timeout`).
const CALL_TIMEOUT: Duration = Duration::from_mins(2);
/// kubeadm's static pods have no `terminationGracePeriodSeconds`, so they get the default.
const GRACE_SECONDS: i64 = 30;

/// A runtime behind its socket, as kubelet uses it.
pub(crate) struct CriPodRuntime {
    client: Client,
}

impl CriPodRuntime {
    /// Makes a client of the socket; nothing is opened yet.
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { client: Client::new(socket) }
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.client.call(method, method, request, &Deadline::after(CALL_TIMEOUT))
    }
}

impl PodRuntime for CriPodRuntime {
    fn list(&self) -> Result<RuntimeState> {
        let containers: wire::ListContainersResponse =
            self.call("ListContainers", wire::ListContainersRequest::default())?;
        let sandboxes: wire::ListPodSandboxResponse =
            self.call("ListPodSandbox", wire::ListPodSandboxRequest::default())?;
        Ok(RuntimeState {
            sandboxes: sandboxes.items.into_iter().map(Sandbox::from).collect(),
            containers: containers.containers.into_iter().map(Container::from).collect(),
            ..RuntimeState::default()
        })
    }

    fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxId> {
        let request = wire::RunPodSandboxRequest { config: Some(sandbox_config(spec)), ..Default::default() };
        let answer: wire::RunPodSandboxResponse = self.call("RunPodSandbox", request)?;
        Ok(SandboxId::new(answer.pod_sandbox_id))
    }

    fn start_container(
        &self,
        id: &SandboxId,
        sandbox: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<ContainerId> {
        let request = wire::CreateContainerRequest {
            pod_sandbox_id: id.as_str().into(),
            config: Some(container_config(spec)),
            sandbox_config: Some(sandbox_config(sandbox)),
        };
        let created: wire::CreateContainerResponse = self.call("CreateContainer", request)?;
        let request = wire::StartContainerRequest { container_id: created.container_id.clone() };
        self.call::<_, wire::StartContainerResponse>("StartContainer", request)?;
        Ok(ContainerId::new(created.container_id))
    }

    fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let request = wire::RemoveContainerRequest { container_id: id.as_str().into() };
        self.call::<_, wire::RemoveContainerResponse>("RemoveContainer", request).map(|_| ())
    }

    /// As kubelet's `killPod`: containers first, with their grace, since a runtime stops a sandbox
    /// without one.
    fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        let filter = wire::ContainerFilter { pod_sandbox_id: id.as_str().into(), ..Default::default() };
        let request = wire::ListContainersRequest { filter: Some(filter) };
        let own: wire::ListContainersResponse = self.call("ListContainers", request)?;
        for container in own.containers {
            let request = wire::StopContainerRequest { container_id: container.id, timeout: GRACE_SECONDS };
            self.call::<_, wire::StopContainerResponse>("StopContainer", request)?;
        }
        let request = wire::StopPodSandboxRequest { pod_sandbox_id: id.as_str().into() };
        self.call::<_, wire::StopPodSandboxResponse>("StopPodSandbox", request).map(|_| ())
    }

    fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        let request = wire::RemovePodSandboxRequest { pod_sandbox_id: id.as_str().into() };
        self.call::<_, wire::RemovePodSandboxResponse>("RemovePodSandbox", request).map(|_| ())
    }
}

fn sandbox_config(spec: &SandboxSpec) -> wire::PodSandboxConfig {
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: spec.name.clone(),
            uid: spec.uid.as_str().into(),
            namespace: spec.namespace.clone(),
            attempt: spec.attempt,
        }),
        log_directory: format!("/var/log/pods/{}_{}_{}", spec.namespace, spec.name, spec.uid),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        ..Default::default()
    }
}

fn container_config(spec: &ContainerSpec) -> wire::ContainerConfig {
    let mounts = spec.mounts.iter().map(|(inside, host)| wire::Mount {
        container_path: inside.to_string_lossy().into_owned(),
        host_path: host.to_string_lossy().into_owned(),
        ..Default::default()
    });
    wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata { name: spec.name.clone(), attempt: spec.attempt }),
        image: Some(wire::ImageSpec {
            image: spec.image.clone(),
            user_specified_image: spec.image.clone(),
            ..Default::default()
        }),
        command: spec.argv.clone(),
        mounts: mounts.collect(),
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        log_path: format!("{}/{}.log", spec.name, spec.attempt),
        ..Default::default()
    }
}
