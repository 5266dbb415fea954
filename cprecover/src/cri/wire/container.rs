//! Messages about containers.

use std::collections::BTreeMap;

use super::sandbox::PodSandboxConfig;

/// `ImageSpec`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ImageSpec {
    /// Name or id.
    #[prost(string, tag = "1")]
    pub image: String,
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "2")]
    pub annotations: BTreeMap<String, String>,
    /// The name as the pod has it.
    #[prost(string, tag = "18")]
    pub user_specified_image: String,
    /// Runtime class.
    #[prost(string, tag = "19")]
    pub runtime_handler: String,
}

/// `KeyValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyValue {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `Mount`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Mount {
    /// Path in the container.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Path on the host.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// Whether it cannot be written.
    #[prost(bool, tag = "3")]
    pub readonly: bool,
    /// Whether it needs a new `SELinux` label.
    #[prost(bool, tag = "4")]
    pub selinux_relabel: bool,
    /// 0 private, 1 host to container, 2 both ways.
    #[prost(int32, tag = "5")]
    pub propagation: i32,
}

/// `ContainerMetadata`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerMetadata {
    /// The name in the pod.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How often it was made before.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

/// `ContainerConfig`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerConfig {
    /// What identifies it in the sandbox.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    /// The image.
    #[prost(message, optional, tag = "2")]
    pub image: Option<ImageSpec>,
    /// Program.
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// Arguments.
    #[prost(string, repeated, tag = "4")]
    pub args: Vec<String>,
    /// Working directory.
    #[prost(string, tag = "5")]
    pub working_dir: String,
    /// Environment.
    #[prost(message, repeated, tag = "6")]
    pub envs: Vec<KeyValue>,
    /// Host folders.
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "9")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "10")]
    pub annotations: BTreeMap<String, String>,
    /// Log file, relative to the sandbox's log folder.
    #[prost(string, tag = "11")]
    pub log_path: String,
}

/// `CreateContainerRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateContainerRequest {
    /// The sandbox.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// The container.
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    /// The sandbox's config again.
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodSandboxConfig>,
}

/// `CreateContainerResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateContainerResponse {
    /// The new container's id.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// `StartContainerRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StartContainerRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// `StartContainerResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StartContainerResponse {}

/// `StopContainerRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StopContainerRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Seconds from SIGTERM to SIGKILL; 0 is SIGKILL at once.
    #[prost(int64, tag = "2")]
    pub timeout: i64,
}

/// `StopContainerResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StopContainerResponse {}

/// `RemoveContainerRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RemoveContainerRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// `RemoveContainerResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RemoveContainerResponse {}

/// `ContainerStateValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerStateValue {
    /// 0 created, 1 running, 2 exited, 3 unknown.
    #[prost(int32, tag = "1")]
    pub state: i32,
}

/// `ContainerFilter`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerFilter {
    /// Only this container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Only those in this state.
    #[prost(message, optional, tag = "2")]
    pub state: Option<ContainerStateValue>,
    /// Only those of this sandbox.
    #[prost(string, tag = "3")]
    pub pod_sandbox_id: String,
    /// Only those with all these labels.
    #[prost(btree_map = "string, string", tag = "4")]
    pub label_selector: BTreeMap<String, String>,
}

/// `ListContainersRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListContainersRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub filter: Option<ContainerFilter>,
}

/// `Container`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Container {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its sandbox.
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    /// What identifies it in the sandbox.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<ContainerMetadata>,
    /// The image.
    #[prost(message, optional, tag = "4")]
    pub image: Option<ImageSpec>,
    /// Digest of the image.
    #[prost(string, tag = "5")]
    pub image_ref: String,
    /// 0 created, 1 running, 2 exited, 3 unknown.
    #[prost(int32, tag = "6")]
    pub state: i32,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "7")]
    pub created_at: i64,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "8")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "9")]
    pub annotations: BTreeMap<String, String>,
    /// Id of the image.
    #[prost(string, tag = "10")]
    pub image_id: String,
}

/// `ListContainersResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListContainersResponse {
    /// The containers.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<Container>,
}

/// `ContainerStatusRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerStatusRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Whether to fill `info`.
    #[prost(bool, tag = "2")]
    pub verbose: bool,
}

/// `ContainerStatus`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerStatus {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What identifies it in the sandbox.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<ContainerMetadata>,
    /// 0 created, 1 running, 2 exited, 3 unknown.
    #[prost(int32, tag = "3")]
    pub state: i32,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "4")]
    pub created_at: i64,
    /// Nanoseconds since 1970; 0 when it never started.
    #[prost(int64, tag = "5")]
    pub started_at: i64,
    /// Nanoseconds since 1970; 0 when it has not ended.
    #[prost(int64, tag = "6")]
    pub finished_at: i64,
    /// Its exit code.
    #[prost(int32, tag = "7")]
    pub exit_code: i32,
    /// The image.
    #[prost(message, optional, tag = "8")]
    pub image: Option<ImageSpec>,
    /// Digest of the image.
    #[prost(string, tag = "9")]
    pub image_ref: String,
    /// Why it is in this state, in one word.
    #[prost(string, tag = "10")]
    pub reason: String,
    /// Why it is in this state.
    #[prost(string, tag = "11")]
    pub message: String,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "12")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "13")]
    pub annotations: BTreeMap<String, String>,
    /// Host folders.
    #[prost(message, repeated, tag = "14")]
    pub mounts: Vec<Mount>,
    /// Log file on the host.
    #[prost(string, tag = "15")]
    pub log_path: String,
}

/// `ContainerStatusResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerStatusResponse {
    /// The status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<ContainerStatus>,
    /// JSON texts of the runtime's own.
    #[prost(btree_map = "string, string", tag = "2")]
    pub info: BTreeMap<String, String>,
}
