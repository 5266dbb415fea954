//! Records as CRI messages.

use std::collections::BTreeMap;

use cprecover::cri::wire;
use tonic::Status;

use super::launch::log_path;
use super::record::{ContainerRecord, Memory, SandboxRecord};

const READY: i32 = 0;
const NOT_READY: i32 = 1;
const CREATED: i32 = 0;
const RUNNING: i32 = 1;
const EXITED: i32 = 2;

pub(super) fn version() -> wire::VersionResponse {
    wire::VersionResponse {
        version: "0.1.0".into(),
        runtime_name: "cprecover-double".into(),
        runtime_version: env!("CARGO_PKG_VERSION").into(),
        runtime_api_version: "v1".into(),
    }
}

pub(super) fn status() -> wire::StatusResponse {
    let conditions = ["RuntimeReady", "NetworkReady"].map(|kind| wire::RuntimeCondition {
        r#type: kind.into(),
        status: true,
        ..Default::default()
    });
    wire::StatusResponse { status: Some(wire::RuntimeStatus { conditions: conditions.into() }) }
}

pub(super) fn sandboxes(
    memory: &Memory,
    request: wire::ListPodSandboxRequest,
) -> wire::ListPodSandboxResponse {
    let filter = request.filter.unwrap_or_default();
    let mut items: Vec<wire::PodSandbox> = memory
        .sandboxes
        .iter()
        .filter(|(id, sandbox)| {
            id.starts_with(&filter.id)
                && filter.state.as_ref().is_none_or(|wanted| wanted.state == sandbox_state(sandbox))
                && has_all(&sandbox.labels, &filter.label_selector)
        })
        .map(|(id, sandbox)| wire::PodSandbox {
            id: id.clone(),
            metadata: Some(sandbox_metadata(sandbox)),
            state: sandbox_state(sandbox),
            created_at: sandbox.created_at_ns,
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
            runtime_handler: String::new(),
        })
        .collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.created_at));
    wire::ListPodSandboxResponse { items }
}

pub(super) fn sandbox_status(
    memory: &Memory,
    request: &wire::PodSandboxStatusRequest,
) -> Result<wire::PodSandboxStatusResponse, Status> {
    let id = &request.pod_sandbox_id;
    let sandbox = memory.sandboxes.get(id).ok_or_else(|| {
        Status::not_found(format!("an error occurred when try to find sandbox: {id:?}: not found"))
    })?;
    let status = wire::PodSandboxStatus {
        id: id.clone(),
        metadata: Some(sandbox_metadata(sandbox)),
        state: sandbox_state(sandbox),
        created_at: sandbox.created_at_ns,
        labels: sandbox.labels.clone(),
        annotations: sandbox.annotations.clone(),
        runtime_handler: String::new(),
    };
    Ok(wire::PodSandboxStatusResponse { status: Some(status), ..Default::default() })
}

pub(super) fn containers(
    memory: &Memory,
    request: wire::ListContainersRequest,
) -> wire::ListContainersResponse {
    let filter = request.filter.unwrap_or_default();
    let mut containers: Vec<wire::Container> = memory
        .containers
        .iter()
        .filter(|(id, container)| {
            id.starts_with(&filter.id)
                && container.sandbox.starts_with(&filter.pod_sandbox_id)
                && filter.state.as_ref().is_none_or(|wanted| wanted.state == container_state(container))
                && has_all(&container.labels, &filter.label_selector)
        })
        .map(|(id, container)| wire::Container {
            id: id.clone(),
            pod_sandbox_id: container.sandbox.clone(),
            metadata: Some(container_metadata(container)),
            image: Some(image(container)),
            image_ref: container.image.clone(),
            state: container_state(container),
            created_at: container.created_at_ns,
            labels: container.labels.clone(),
            annotations: container.annotations.clone(),
            image_id: container.image.clone(),
        })
        .collect();
    containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    wire::ListContainersResponse { containers }
}

pub(super) fn container_status(
    memory: &Memory,
    request: &wire::ContainerStatusRequest,
    has_cgroups: bool,
) -> Result<wire::ContainerStatusResponse, Status> {
    let id = &request.container_id;
    let container = memory.containers.get(id).ok_or_else(|| {
        Status::not_found(format!("an error occurred when try to find container {id:?}: not found"))
    })?;
    let sandbox = memory.sandboxes.get(&container.sandbox);
    let exit = container.exit.as_ref();
    let status = wire::ContainerStatus {
        id: id.clone(),
        metadata: Some(container_metadata(container)),
        state: container_state(container),
        created_at: container.created_at_ns,
        started_at: container.started_at_ns,
        finished_at: exit.map_or(0, |exit| exit.finished_at_ns),
        exit_code: exit.map_or(0, |exit| exit.code),
        image: Some(image(container)),
        image_ref: container.image.clone(),
        reason: exit.map(|exit| exit.reason.clone()).unwrap_or_default(),
        message: exit.map(|exit| exit.message.clone()).unwrap_or_default(),
        labels: container.labels.clone(),
        annotations: container.annotations.clone(),
        mounts: container
            .mounts
            .iter()
            .map(|(inside, host)| wire::Mount {
                container_path: inside.clone(),
                host_path: host.clone(),
                ..Default::default()
            })
            .collect(),
        log_path: sandbox.and_then(|sandbox| log_path(container, sandbox)).unwrap_or_default(),
    };
    let cgroup = sandbox.filter(|_| has_cgroups).map(|sandbox| format!("{}/{id}", sandbox.cgroup));
    let info = if request.verbose { verbose(id, container, cgroup) } else { BTreeMap::new() };
    Ok(wire::ContainerStatusResponse { status: Some(status), info })
}

/// The keys are containerd's (`internal/cri/server/container_status.go`).
fn verbose(id: &str, container: &ContainerRecord, cgroup: Option<String>) -> BTreeMap<String, String> {
    let pid = container.process.filter(|_| container.is_running()).map_or(0, |process| process.pid.get());
    let envs: Vec<_> =
        container.env.iter().map(|(key, value)| serde_json::json!({ "key": key, "value": value })).collect();
    let mounts: Vec<_> = container
        .mounts
        .iter()
        .map(|(inside, host)| serde_json::json!({ "container_path": inside, "host_path": host }))
        .collect();
    let info = serde_json::json!({
        "config": { "command": container.argv, "envs": envs, "mounts": mounts },
        "sandboxID": container.sandbox,
        "pid": pid,
        "removing": false,
        "snapshotKey": id,
        "snapshotter": "none",
        "runtimeType": "io.containerd.runc.v2",
        "runtimeSpec": {
            "ociVersion": "1.2.0",
            "process": { "args": container.argv },
            "linux": { "cgroupsPath": cgroup.unwrap_or_default() },
        },
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

fn has_all(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn sandbox_metadata(sandbox: &SandboxRecord) -> wire::PodSandboxMetadata {
    wire::PodSandboxMetadata {
        name: sandbox.name.clone(),
        uid: sandbox.uid.clone(),
        namespace: sandbox.namespace.clone(),
        attempt: sandbox.attempt,
    }
}

fn container_metadata(container: &ContainerRecord) -> wire::ContainerMetadata {
    wire::ContainerMetadata { name: container.name.clone(), attempt: container.attempt }
}

fn image(container: &ContainerRecord) -> wire::ImageSpec {
    wire::ImageSpec {
        image: container.image.clone(),
        user_specified_image: container.image.clone(),
        ..Default::default()
    }
}

fn sandbox_state(sandbox: &SandboxRecord) -> i32 {
    if sandbox.stopped { NOT_READY } else { READY }
}

fn container_state(container: &ContainerRecord) -> i32 {
    if container.exit.is_some() {
        EXITED
    } else if container.process.is_some() {
        RUNNING
    } else {
        CREATED
    }
}
