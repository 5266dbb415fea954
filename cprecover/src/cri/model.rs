//! What a runtime says about itself, its sandboxes and its containers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{ContainerId, Pid, PodUid, SandboxId};

/// Annotation with the hash of a static pod's manifest, its UID (kubernetes `pkg/kubelet/types`).
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation with the time at which kubelet read the manifest, RFC 3339.
const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// Annotation with the source of the pod: `file`, `http` or `api`.
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation that kubelet puts on containers (`pkg/kubelet/kuberuntime/labels.go`).
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";

/// A point in time in nanoseconds since 1970-01-01T00:00:00Z, as CRI writes it.
///
/// Serialises as a decimal string, as crictl does: JSON numbers lose digits above 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct UnixNanos(pub i64);

impl fmt::Display for UnixNanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{} ns", self.0),
        }
    }
}

impl Serialize for UnixNanos {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UnixNanos {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written<'a> {
            Number(i64),
            #[serde(borrow)]
            Text(std::borrow::Cow<'a, str>),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// Whether a sandbox's own process and network run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SandboxState {
    /// `SANDBOX_READY`.
    Ready,
    /// `SANDBOX_NOTREADY`: stopped, its containers too.
    NotReady,
    /// A state that this version does not know.
    Unknown,
}

impl SandboxState {
    /// Reads the number of `PodSandboxState`.
    pub(super) const fn from_wire(number: i32) -> Self {
        match number {
            0 => Self::Ready,
            1 => Self::NotReady,
            _ => Self::Unknown,
        }
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ContainerState {
    /// `CONTAINER_CREATED`: never started.
    Created,
    /// `CONTAINER_RUNNING`.
    Running,
    /// `CONTAINER_EXITED`: the runtime saw it end, or lost its shim.
    Exited,
    /// `CONTAINER_UNKNOWN`: the runtime itself does not know.
    Unknown,
}

impl ContainerState {
    /// Reads the number of `ContainerState`.
    pub(super) const fn from_wire(number: i32) -> Self {
        match number {
            0 => Self::Created,
            1 => Self::Running,
            2 => Self::Exited,
            _ => Self::Unknown,
        }
    }
}

/// A pod sandbox: what the runtime keeps for one run of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// The runtime's id.
    pub id: SandboxId,
    /// The pod's name; for static pods `<name>-<node>`.
    pub pod_name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's UID; for static pods kubelet's hash of the manifest.
    pub uid: PodUid,
    /// How often kubelet made a sandbox for this UID before.
    pub attempt: u32,
    /// Its state.
    pub state: SandboxState,
    /// When it was made, by the wall clock of that time.
    pub created_at: UnixNanos,
    /// The pod's labels, with kubelet's own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations, with kubelet's own.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Sandbox {
    /// Returns kubelet's hash of the manifest that this sandbox was made from.
    #[must_use]
    pub fn config_hash(&self) -> Option<&str> {
        self.annotations.get(CONFIG_HASH).map(String::as_str)
    }

    /// Returns when kubelet saw that manifest, RFC 3339.
    #[must_use]
    pub fn config_seen(&self) -> Option<&str> {
        self.annotations.get(CONFIG_SEEN).map(String::as_str)
    }

    /// Returns where kubelet had the pod from: `file` for static pods.
    #[must_use]
    pub fn config_source(&self) -> Option<&str> {
        self.annotations.get(CONFIG_SOURCE).map(String::as_str)
    }

    /// Reports whether kubelet made it from a file of its manifest folder.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.config_source() == Some("file")
    }
}

/// A container, as the runtime lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The runtime's id.
    pub id: ContainerId,
    /// The sandbox it belongs to.
    pub sandbox: SandboxId,
    /// Its name in the pod.
    pub name: String,
    /// How often it was made before in this pod.
    pub attempt: u32,
    /// Its state.
    pub state: ContainerState,
    /// When it was made, by the wall clock of that time.
    pub created_at: UnixNanos,
    /// The image as the manifest names it, or its id where the runtime tells no name.
    pub image: String,
    /// kubelet's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// kubelet's annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Container {
    /// Returns how often kubelet restarted it, as kubelet counted.
    #[must_use]
    pub fn restart_count(&self) -> Option<u32> {
        self.annotations.get(RESTART_COUNT)?.parse().ok()
    }

    /// Reports whether the runtime says that it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == ContainerState::Running
    }
}

#[cfg(test)]
impl Container {
    /// One of which only its place is known.
    pub(crate) fn blank(id: &str, sandbox: &str) -> Self {
        Self {
            id: ContainerId::new(id),
            sandbox: SandboxId::new(sandbox),
            name: id.to_owned(),
            attempt: 0,
            state: ContainerState::Unknown,
            created_at: UnixNanos(0),
            image: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// A mount of a container, as kubelet asked the runtime for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The path on the node.
    pub host_path: PathBuf,
    /// The path in the container.
    pub container_path: PathBuf,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// What only a question about one container tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDetail {
    /// The runtime's id.
    pub id: ContainerId,
    /// Its state.
    pub state: ContainerState,
    /// Its first process, in our pid namespace when runtime and caller share it; `None` when it does
    /// not run or the runtime does not tell.
    pub pid: Option<Pid>,
    /// Its exit code; `None` unless it has ended.
    pub exit_code: Option<i32>,
    /// When it was started.
    pub started_at: Option<UnixNanos>,
    /// When it ended.
    pub finished_at: Option<UnixNanos>,
    /// Why it is in this state, as `Error`, `Completed`, `OOMKilled`.
    pub reason: Option<String>,
    /// More about the reason.
    pub message: Option<String>,
    /// `linux.cgroupsPath` of its OCI spec: `/kubepods/…` or `slice:prefix:id`.
    pub cgroups_path: Option<String>,
    /// `process.args` of its OCI spec: what it executes.
    #[serde(default)]
    pub argv: Option<Vec<String>>,
    /// Its log file, a path on the node.
    pub log_path: Option<PathBuf>,
    /// Its mounts; those that the runtime adds by itself are not among them.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// What the runtime adds to a verbose status (`info["info"]`), JSON as it wrote it; never serialised, since
    /// it has the container's environment.
    #[serde(skip)]
    pub verbose: Option<String>,
}

/// Everything that the runtime lists at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeState {
    /// Its sandboxes, as the runtime orders them.
    #[serde(default)]
    pub sandboxes: Vec<Sandbox>,
    /// Its containers in any state, as the runtime orders them.
    #[serde(default)]
    pub containers: Vec<Container>,
    /// What those containers execute that were asked one by one: of the control plane's components with
    /// several sandboxes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<ContainerId, Vec<String>>,
}

/// How the runtime is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Transport {
    /// CRI over its unix socket.
    Grpc,
    /// The `crictl` program.
    Crictl,
}

/// What a runtime says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeInfo {
    /// Its name, as `containerd`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The version of CRI that it speaks, as `v1`.
    pub api_version: String,
    /// The endpoint that answered, `unix://` in front.
    pub endpoint: String,
    /// How it was asked.
    pub transport: Transport,
    /// Its conditions, as `RuntimeReady` and `NetworkReady`.
    pub conditions: Vec<RuntimeCondition>,
}

impl RuntimeInfo {
    /// Reports whether the runtime calls itself ready; the network may still not be.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.conditions.iter().any(|condition| condition.kind == "RuntimeReady" && condition.status)
    }
}

/// One condition that a runtime reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeCondition {
    /// Its type, as `RuntimeReady`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: bool,
    /// Why not, in one word.
    #[serde(default)]
    pub reason: String,
    /// Why not, in a sentence.
    #[serde(default)]
    pub message: String,
}
