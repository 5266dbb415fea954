//! Static pods: who holds their ports, their sandboxes, containers, manifests, backups and folders.

use serde::{Deserialize, Serialize};
#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::{Component, Verdict};

/// What kind of process holds a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum HolderClass {
    /// Not proven to be any of the others.
    #[cfg_attr(feature = "component", component(name = "unproven"))]
    #[default]
    Unproven,
    /// The running container of the component's newest sandbox: the rightful holder.
    #[cfg_attr(feature = "component", component(name = "current"))]
    Current,
    /// A container that the runtime still knows, in an older sandbox with another config hash.
    #[cfg_attr(feature = "component", component(name = "stale-sandbox"))]
    StaleSandbox,
    /// A process from a pod that the runtime no longer knows: a true orphan.
    #[cfg_attr(feature = "component", component(name = "orphan"))]
    Orphan,
    /// A systemd unit or another cgroup that is no pod.
    #[cfg_attr(feature = "component", component(name = "systemd-unit"))]
    SystemdUnit,
    /// A program that has nothing to do with the control plane.
    #[cfg_attr(feature = "component", component(name = "foreign"))]
    Foreign,
}

/// A process that listens on a port which a static pod needs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PortHolder {
    /// The TCP port.
    pub port: u16,
    /// The address that it listens on.
    pub address: String,
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// Field 22 of /proc/PID/stat; together with `pid` it names a process beyond pid reuse.
    #[cfg_attr(feature = "component", component(name = "start-ticks"))]
    pub start_ticks: u64,
    /// Path of the program.
    pub executable: String,
    /// What kind of process it is.
    pub class: HolderClass,
    /// The component whose manifest wants this port.
    #[cfg_attr(feature = "component", component(name = "wanted-by"))]
    pub wanted_by: Option<Component>,
    /// The sandbox that the process belongs to, where one is known.
    #[cfg_attr(feature = "component", component(name = "sandbox-id"))]
    pub sandbox_id: Option<String>,
    /// The systemd unit that it belongs to.
    pub unit: Option<String>,
    /// Ids of evidence.
    pub evidence: Vec<String>,
}

/// How a sandbox relates to the others of its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxRole {
    /// Not known.
    #[cfg_attr(feature = "component", component(name = "unknown"))]
    #[default]
    Unknown,
    /// The newest sandbox of the pod.
    #[cfg_attr(feature = "component", component(name = "current"))]
    Current,
    /// An older sandbox of the same pod with another config hash.
    #[cfg_attr(feature = "component", component(name = "stale"))]
    Stale,
}

/// A pod sandbox as the container runtime lists it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sandbox {
    /// The runtime's id of it.
    pub id: String,
    /// The static pod that it is of.
    pub component: Option<Component>,
    /// The pod's uid.
    #[cfg_attr(feature = "component", component(name = "pod-uid"))]
    pub pod_uid: String,
    /// The annotation `kubernetes.io/config.hash`.
    #[cfg_attr(feature = "component", component(name = "config-hash"))]
    pub config_hash: String,
    /// Whether the runtime calls it ready.
    pub ready: Verdict,
    /// Newest, or left over.
    pub role: SandboxRole,
    /// When it was made.
    #[cfg_attr(feature = "component", component(name = "created-ms"))]
    pub created_ms: u64,
}

/// A container's state as the runtime gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    /// Not known.
    #[cfg_attr(feature = "component", component(name = "unknown"))]
    #[default]
    Unknown,
    /// Made, not started.
    #[cfg_attr(feature = "component", component(name = "created"))]
    Created,
    /// Started.
    #[cfg_attr(feature = "component", component(name = "running"))]
    Running,
    /// Ended.
    #[cfg_attr(feature = "component", component(name = "exited"))]
    Exited,
}

/// A container of a static pod; the newest of each pod is enough.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Container {
    /// The runtime's id of it.
    pub id: String,
    /// The static pod that it is of.
    pub component: Option<Component>,
    /// The sandbox that it runs in.
    #[cfg_attr(feature = "component", component(name = "sandbox-id"))]
    pub sandbox_id: String,
    /// What the runtime says.
    pub state: ContainerState,
    /// How it ended.
    #[cfg_attr(feature = "component", component(name = "exit-code"))]
    pub exit_code: Option<i32>,
    /// How often kubelet started it before.
    pub attempt: u32,
    /// What is left of kubelet's crash-loop back-off, where one is running.
    #[cfg_attr(feature = "component", component(name = "back-off-ms"))]
    pub back_off_ms: Option<u64>,
}

/// What is at a manifest's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum ManifestState {
    /// It could not be looked at.
    #[cfg_attr(feature = "component", component(name = "unreadable"))]
    #[default]
    Unreadable,
    /// kubelet can run it.
    #[cfg_attr(feature = "component", component(name = "present"))]
    Present,
    /// Its absence is proven.
    #[cfg_attr(feature = "component", component(name = "missing"))]
    Missing,
    /// kubelet cannot parse it.
    #[cfg_attr(feature = "component", component(name = "invalid"))]
    Invalid,
    /// A further file of a pod that another file defines already; kubelet runs it too.
    #[cfg_attr(feature = "component", component(name = "duplicate"))]
    Duplicate,
}

/// A file in the manifests folder, or one that should be there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Manifest {
    /// File name in the manifests folder, without a folder.
    pub file: String,
    /// The static pod that it defines.
    pub component: Option<Component>,
    /// What is there.
    pub state: ManifestState,
    /// Why it is invalid, unreadable or a duplicate.
    pub detail: String,
}

/// A backed-up manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backup {
    /// The snapshot that holds it.
    pub id: String,
    /// The static pod whose manifest it is.
    pub component: Component,
    /// When it was taken.
    #[cfg_attr(feature = "component", component(name = "taken-ms"))]
    pub taken_ms: u64,
    /// Whether all its digests were checked just now.
    pub verified: Verdict,
    /// Whether the node was verified healthy when it was taken.
    #[cfg_attr(feature = "component", component(name = "last-known-good"))]
    pub last_known_good: bool,
    /// Whether it was taken on this node.
    #[cfg_attr(feature = "component", component(name = "same-node"))]
    pub same_node: Verdict,
}

/// Whether a manifest could be made anew by kubeadm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Regeneration {
    /// The static pod.
    pub component: Component,
    /// Whether all that is needed is known.
    pub possible: Verdict,
    /// Values that only the operator knows.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Differences to the last known manifest that change behaviour.
    #[serde(default)]
    pub dangerous: Vec<String>,
}

/// A folder of a pod below kubelet's pods folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodDir {
    /// The pod's uid, the folder's name.
    pub uid: String,
    /// Whether the runtime has a sandbox of it.
    #[cfg_attr(feature = "component", component(name = "known-to-runtime"))]
    pub known_to_runtime: Verdict,
    /// Whether a manifest defines it.
    #[cfg_attr(feature = "component", component(name = "known-to-manifests"))]
    pub known_to_manifests: Verdict,
    /// Mount points below it.
    pub mounts: Vec<String>,
}
