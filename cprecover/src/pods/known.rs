//! Who knows a pod: the runtime by its sandboxes, the manifest folder by its files.

use std::collections::{BTreeMap, BTreeSet};

use crate::cri::{RuntimeState, UnixNanos};
use crate::model::{NodeName, PodUid};
use crate::parse::manifest::StaticPod;

/// The pods that the runtime and the manifests know.
///
/// It is made of what was read; a runtime that did not answer or a manifest folder that could not be read
/// makes none, so that "unreadable" never becomes "unknown pod".
#[derive(Debug, Clone, Default)]
pub struct KnownPods {
    runtime: BTreeSet<PodUid>,
    manifests: BTreeMap<String, Manifest>,
}

#[derive(Debug, Clone)]
struct Manifest {
    containers: BTreeSet<String>,
    uid: Option<Accounted>,
}

/// The UID under which the runtime has a manifest's pod, and since when.
#[derive(Debug, Clone)]
struct Accounted {
    uid: PodUid,
    since: UnixNanos,
}

impl KnownPods {
    /// Puts together what the runtime lists and all manifests of the folder.
    #[must_use]
    pub fn new(state: &RuntimeState, manifests: &[StaticPod], node: &NodeName) -> Self {
        let runtime = state.sandboxes.iter().map(|sandbox| sandbox.uid.clone()).collect();
        let manifests = manifests.iter().map(|pod| {
            let newest = state.newest_sandbox(&pod.namespace, &format!("{}-{node}", pod.name));
            let manifest = Manifest {
                containers: pod.containers.iter().map(|container| container.name.clone()).collect(),
                uid: newest
                    .filter(|sandbox| sandbox.is_static())
                    .map(|sandbox| Accounted { uid: sandbox.uid.clone(), since: sandbox.created_at }),
            };
            (format!("{}/{}", pod.namespace, pod.name), manifest)
        });
        Self { runtime, manifests: manifests.collect() }
    }

    /// Reports whether the runtime has a sandbox of this pod.
    #[must_use]
    pub fn runtime_knows(&self, uid: &PodUid) -> bool {
        self.runtime.contains(uid)
    }

    /// Returns the manifest that a folder may belong to.
    ///
    /// kubelet's UID of a manifest cannot be computed here (a hash over Go's form of the pod), so the
    /// names of the containers below the folder decide. A manifest that the runtime has a newer sandbox of
    /// is accounted for: older folders with other UIDs are not its own.
    #[must_use]
    pub fn manifest_of(
        &self,
        uid: &PodUid,
        containers: &BTreeSet<String>,
        last_changed: UnixNanos,
    ) -> Option<&str> {
        let owner = self.manifests.iter().find(|(_, manifest)| match &manifest.uid {
            Some(accounted) if accounted.uid == *uid => true,
            Some(accounted) if last_changed < accounted.since => false,
            _ => containers.is_empty() || !manifest.containers.is_disjoint(containers),
        });
        owner.map(|(name, _)| name.as_str())
    }
}
