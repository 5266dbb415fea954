//! What the kubelet stand-in needs of the container runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cprecover::Result;
use cprecover::cri::RuntimeState;
use cprecover::model::{ContainerId, PodUid, SandboxId};

/// A sandbox to run.
#[derive(Debug, Clone)]
pub(crate) struct SandboxSpec {
    /// `<name>-<node>`.
    pub(crate) name: String,
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// The pod's UID.
    pub(crate) uid: PodUid,
    /// How often a sandbox was made for this UID before.
    pub(crate) attempt: u32,
    /// Labels, with kubelet's own.
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations, with kubelet's own.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A container to create and start.
#[derive(Debug, Clone)]
pub(crate) struct ContainerSpec {
    /// Its name in the pod.
    pub(crate) name: String,
    /// How often it was made before.
    pub(crate) attempt: u32,
    /// The image reference.
    pub(crate) image: String,
    /// The command and its arguments.
    pub(crate) argv: Vec<String>,
    /// (path in the container, path on the node).
    pub(crate) mounts: Vec<(PathBuf, PathBuf)>,
    /// kubelet's labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// kubelet's annotations.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The calls of CRI that kubelet makes.
pub(crate) trait PodRuntime {
    /// Lists sandboxes and containers.
    fn list(&self) -> Result<RuntimeState>;
    /// Runs a sandbox.
    fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxId>;
    /// Creates and starts a container in a sandbox.
    fn start_container(
        &self,
        id: &SandboxId,
        sandbox: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<ContainerId>;
    /// Removes a container that has ended.
    fn remove_container(&self, id: &ContainerId) -> Result<()>;
    /// Stops a sandbox with its containers; the runtime goes on listing both.
    fn stop_sandbox(&self, id: &SandboxId) -> Result<()>;
    /// Removes a stopped sandbox and what is left of its containers.
    fn remove_sandbox(&self, id: &SandboxId) -> Result<()>;
}
