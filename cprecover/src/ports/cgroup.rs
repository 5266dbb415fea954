//! What a cgroup path says: pod, container, runtime, systemd unit.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::model::{ContainerId, PodUid};

/// How kubelet and the runtime name cgroups (kubelet's `cgroupDriver`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CgroupDriver {
    /// `kubepods.slice/kubepods-burstable.slice/…`.
    Systemd,
    /// `kubepods/burstable/…`.
    Cgroupfs,
}

/// The runtime that a container's scope names; cgroupfs paths name none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RuntimeName {
    /// `cri-containerd-<id>.scope`.
    Containerd,
    /// `crio-<id>.scope`.
    Crio,
    /// `docker-<id>.scope`.
    Docker,
}

/// A place below kubelet's `kubepods`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PodCgroup {
    /// The pod's UID, as kubelet writes it in its API (`-`, not `_`).
    pub uid: PodUid,
    /// The container; `None` for a process in the pod's own cgroup.
    pub container: Option<ContainerId>,
    /// Who names the cgroups.
    pub driver: CgroupDriver,
    /// The runtime, where the path names it.
    pub runtime: Option<RuntimeName>,
}

/// A systemd unit that owns a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemdUnit(pub String);

/// The cgroup of a process: `/proc/PID/cgroup`, reduced to the hierarchy that tells most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CgroupPath {
    /// The path within its hierarchy, as `/kubepods/burstable/pod…/…`.
    pub path: String,
    /// Whether it is the path in the v2 hierarchy (`0::`).
    pub v2: bool,
}

impl CgroupPath {
    /// Reads `/proc/PID/cgroup` (cgroups(7)).
    ///
    /// A hierarchy with a pod wins over one without (a hybrid node has both), v2 over v1.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when no line has the form `id:controllers:path`.
    pub fn parse(text: &str) -> Result<Self> {
        let _ = text;
        todo!()
    }

    /// Returns the pod and container; the `kubepods` folder may sit below any prefix (kubelet's
    /// `cgroupRoot`, nodes in containers).
    #[must_use]
    pub fn pod(&self) -> Option<PodCgroup> {
        todo!()
    }

    /// Returns the systemd unit, the last `.service` or `.scope` of the path that is no container's.
    #[must_use]
    pub fn unit(&self) -> Option<SystemdUnit> {
        todo!()
    }
}
