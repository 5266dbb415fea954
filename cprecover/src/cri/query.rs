//! Questions about a runtime's lists, answered from the lists alone.

use super::model::{Container, RuntimeState, Sandbox};
use crate::model::{Component, ContainerId, PodUid, SandboxId};

impl RuntimeState {
    /// Returns the sandbox with this id.
    #[must_use]
    pub fn sandbox(&self, id: &SandboxId) -> Option<&Sandbox> {
        self.sandboxes.iter().find(|sandbox| sandbox.id == *id)
    }

    /// Returns the container with this id.
    #[must_use]
    pub fn container(&self, id: &ContainerId) -> Option<&Container> {
        self.containers.iter().find(|container| container.id == *id)
    }

    /// Returns the sandbox that a container belongs to; `None` when the runtime does not list it.
    #[must_use]
    pub fn sandbox_of(&self, container: &Container) -> Option<&Sandbox> {
        self.sandbox(&container.sandbox)
    }

    /// Returns the containers of a sandbox, newest first.
    #[must_use]
    pub fn containers_of(&self, sandbox: &SandboxId) -> Vec<&Container> {
        let mut found: Vec<&Container> =
            self.containers.iter().filter(|container| container.sandbox == *sandbox).collect();
        found.sort_by_key(|container| std::cmp::Reverse((container.created_at, container.attempt)));
        found
    }

    /// Reports whether the runtime knows a pod with this UID.
    #[must_use]
    pub fn knows_pod(&self, uid: &PodUid) -> bool {
        self.sandboxes.iter().any(|sandbox| sandbox.uid == *uid)
    }

    /// Returns the sandboxes of a pod under any UID, newest first.
    ///
    /// Newest by `created_at`, the wall clock of the node. After a step of that clock the order of
    /// sandboxes with different UIDs is not proven; the start time of their processes is.
    #[must_use]
    pub fn pod_sandboxes(&self, namespace: &str, pod_name: &str) -> Vec<&Sandbox> {
        newest_first(
            self.sandboxes
                .iter()
                .filter(|sandbox| sandbox.namespace == namespace && sandbox.pod_name == pod_name),
        )
    }

    /// Returns the newest sandbox of a pod.
    #[must_use]
    pub fn newest_sandbox(&self, namespace: &str, pod_name: &str) -> Option<&Sandbox> {
        self.pod_sandboxes(namespace, pod_name).into_iter().next()
    }

    /// Returns the sandboxes that a newer one of the same pod, made from another manifest, replaced.
    ///
    /// These are what a kubelet that cannot reach its API server leaves running (kubernetes issues
    /// 112814 and 116880): same namespace and pod name, other `config.hash` (other UID where a sandbox
    /// has no hash), older. They may be stopped already; see [`Sandbox::state`]. Whether the newest one is that
    /// of the manifest in place is another question, which the lists alone do not answer.
    #[must_use]
    pub fn stale_sandboxes(&self, namespace: &str, pod_name: &str) -> Vec<&Sandbox> {
        let all = self.pod_sandboxes(namespace, pod_name);
        let Some((newest, older)) = all.split_first() else { return Vec::new() };
        older.iter().copied().filter(|sandbox| made_from(sandbox) != made_from(newest)).collect()
    }

    /// Returns the static sandboxes of a control-plane component, newest first.
    ///
    /// A sandbox is the component's when kubeadm's label `component` says so, or, without that label,
    /// when it holds a container of that name.
    #[must_use]
    pub fn component_sandboxes(&self, component: Component) -> Vec<&Sandbox> {
        let name = component.as_str();
        newest_first(self.sandboxes.iter().filter(|sandbox| {
            sandbox.is_static()
                && sandbox.namespace == "kube-system"
                && match sandbox.labels.get("component") {
                    Some(label) => label == name,
                    None => self.containers.iter().any(|c| c.sandbox == sandbox.id && c.name == name),
                }
        }))
    }

    /// Returns the containers of a control-plane component in all its static sandboxes, newest first.
    #[must_use]
    pub fn component_containers(&self, component: Component) -> Vec<&Container> {
        let mut found: Vec<&Container> = self
            .component_sandboxes(component)
            .into_iter()
            .flat_map(|sandbox| self.containers_of(&sandbox.id))
            .filter(|container| container.name == component.as_str())
            .collect();
        found.sort_by_key(|container| std::cmp::Reverse((container.created_at, container.attempt)));
        found
    }
}

/// What tells two manifests of one pod apart.
pub(super) fn made_from(sandbox: &Sandbox) -> &str {
    sandbox.config_hash().unwrap_or(sandbox.uid.as_str())
}

fn newest_first<'a>(sandboxes: impl Iterator<Item = &'a Sandbox>) -> Vec<&'a Sandbox> {
    let mut found: Vec<&Sandbox> = sandboxes.collect();
    found.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.created_at, sandbox.attempt)));
    found
}
