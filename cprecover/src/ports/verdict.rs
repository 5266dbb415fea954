//! What a judgement needs beside the evidence, and what it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::SystemdUnit;
use crate::cri::RuntimeState;
use crate::model::{Component, ContainerId, Observed, Pid, SandboxId};
use crate::node::PodIdentity;
use crate::parse::manifest::StaticPod;

/// What the container runtime says, with the pids that only a question about each container tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeFacts {
    /// The name that the runtime gives itself, as `containerd`; what it does not list is an orphan only
    /// where nothing says that another runtime made it.
    #[serde(default)]
    pub name: Option<String>,
    /// Sandboxes and containers.
    pub state: RuntimeState,
    /// First processes of running containers, as far as they are known, in our pid namespace.
    #[serde(default)]
    pub pids: BTreeMap<ContainerId, Pid>,
}

/// What a static pod's manifest (or its last backup) says about the process that should hold ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodFacts {
    /// The component.
    pub component: Component,
    /// The name of its executable, the last part of the manifest's `command[0]`.
    pub program: String,
    /// Where it is told to listen.
    pub listeners: Vec<SocketAddr>,
    /// Its data directory as a path on the node (etcd).
    pub data_dir: Option<PathBuf>,
    /// Device and inode of `member/snap/db` below that directory, read below the node's root.
    pub database: Observed<(u64, u64)>,
    /// Its image, for etcd versions that a SIGKILL may corrupt.
    pub image: Option<String>,
    /// The name of its first container.
    #[serde(default)]
    pub container: String,
    /// What that container executes; empty where the image says that.
    #[serde(default)]
    pub argv: Vec<String>,
}

impl PodFacts {
    /// Takes what a manifest says; `None` when it is no control-plane component's. `database` is what
    /// [`database_file`](super::database_file) read for the manifest's data directory.
    #[must_use]
    pub fn of_manifest(pod: &StaticPod, database: Observed<(u64, u64)>) -> Option<Self> {
        let main = pod.main()?;
        Some(Self {
            component: pod.component()?,
            program: main.argv.first()?.rsplit('/').next()?.to_owned(),
            listeners: pod.listeners().iter().map(|listener| listener.address).collect(),
            data_dir: pod.etcd_data_dir(),
            database,
            image: Some(main.image.clone()),
            container: main.name.clone(),
            argv: main.argv.clone(),
        })
    }
}

/// What the node itself says: the pods it should run, and which proof counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// The static pods, from their manifests or last backups.
    pub pods: Vec<PodFacts>,
    /// Which proof ties a holder to a static pod.
    pub pod_identity: PodIdentity,
    /// Which component the caller expects on the port; any control-plane component when not given.
    pub expected: Option<Component>,
}

/// What kind of holder it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Class {
    /// (a) The live container of the newest sandbox of its pod.
    Live {
        /// The container.
        container: ContainerId,
        /// Its sandbox.
        sandbox: SandboxId,
    },
    /// (b) A container that the runtime still knows, in a sandbox that a newer one replaced: kubelet
    /// cannot remove it while the API is down (kubernetes issues 112814, 116880).
    Stale {
        /// The container.
        container: ContainerId,
        /// The old sandbox.
        sandbox: SandboxId,
        /// The sandbox that replaced it.
        newest: SandboxId,
        /// Whether both were made from the same manifest.
        same_config: bool,
    },
    /// (c) A process of a pod that the runtime does not know, or calls exited, and that no living shim
    /// of the runtime looks after.
    Orphan {
        /// The component whose process it is, where the program tells.
        component: Option<Component>,
        /// Its container, where the cgroup tells.
        container: Option<ContainerId>,
    },
    /// (d) A process of a systemd unit or another cgroup.
    Unit {
        /// The unit; `None` for a cgroup that is no unit.
        unit: Option<SystemdUnit>,
        /// The cgroup.
        cgroup: String,
    },
    /// (e) Another program than a control-plane component's, or another pod's.
    Foreign {
        /// What it is, for a message.
        program: String,
    },
    /// (f) It was gone when it was looked at.
    Gone,
    /// The evidence does not suffice: the runtime cannot be asked, or a fact is unreadable.
    Unproven {
        /// What is missing.
        missing: String,
    },
}

/// What the class asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Action {
    /// Leave it alone.
    Leave,
    /// Stop and remove this sandbox through the runtime; do not signal the process.
    RemoveSandbox {
        /// The sandbox.
        sandbox: SandboxId,
    },
    /// End the process ([`crate::terminate`]).
    Terminate,
    /// Do nothing and tell the operator.
    Refuse,
    /// Look again.
    Retry,
}

/// Which proof ties the process to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum IdentityProof {
    /// Its kubepods cgroup.
    Cgroup,
    /// The runtime names it, or an ancestor of its, as the first process of a running container.
    Runtime,
    /// Executable, address and data-directory lock match a static pod's manifest.
    Manifest,
    /// None.
    None,
}

/// The judgement of one holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Verdict {
    /// The process.
    pub process: crate::model::ProcessId,
    /// What it is.
    pub class: Class,
    /// What to do.
    pub action: Action,
    /// Which proof was used.
    pub proof: IdentityProof,
    /// The evidence in words, one fact each.
    pub evidence: Vec<String>,
}
