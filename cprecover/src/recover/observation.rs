//! What the engine saw at one moment: data, with what could not be read said so.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::cri::RuntimeInfo;
use crate::diagnose::Facts;
use crate::etcd::{ClusterView, DataVerdict, Projection};
use crate::model::{Component, NodeName, Observed, Port};
use crate::parse::manifest::StaticPod;
use crate::policy::contract;
use crate::ports::{Evidence, Verdict};

/// Everything that was seen at one moment; a part that could not be read is [`Observed::Unknown`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Observation {
    /// The node's name.
    pub node: NodeName,
    /// When it was made: milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What diagnosis reads.
    pub facts: Facts,
    /// The pods that this node should run, and where that is known from.
    pub pods: Vec<ExpectedPod>,
    /// What the runtime says about itself.
    pub runtime_info: Observed<RuntimeInfo>,
    /// Holders of the control plane's ports, judged.
    pub holders: Vec<JudgedHolder>,
    /// The best backup of each component's manifest.
    pub backups: Observed<Vec<BackupFact>>,
    /// Which lost manifests kubeadm could make.
    pub regenerations: Vec<RegenerationFact>,
    /// Crash-loop pauses of kubelet that still run.
    pub back_offs: Vec<BackOffFact>,
    /// How long a restart of a service takes until the control plane runs, in milliseconds.
    pub restart_ms: u64,
    /// The etcd cluster as far as it can be seen from here.
    pub etcd: contract::Etcd,
    /// What that is drawn from.
    pub etcd_facts: EtcdFacts,
    /// Left-over pod folders.
    pub pod_dirs: Vec<contract::PodDir>,
    /// What could not be read, with the reason.
    pub unobserved: Vec<contract::Unobserved>,
}

/// This node's etcd member and the others, as they were seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct EtcdFacts {
    /// The offline verdict on the data folder, with everything that was found.
    pub data: Observed<DataVerdict>,
    /// The members, and who listed them.
    pub cluster: Observed<ClusterView>,
    /// Alarms that are set; unknown without a quorum, through which they are read.
    pub alarms: Observed<Vec<String>>,
    /// This node's member among them: its name, or its id where it has no name.
    pub local: Option<String>,
    /// What ending this node's member would leave of the quorum.
    pub projection: Option<Projection>,
}

impl Default for EtcdFacts {
    fn default() -> Self {
        fn unknown<T>() -> Observed<T> {
            Observed::Unknown("not looked at".to_owned())
        }
        Self { data: unknown(), cluster: unknown(), alarms: unknown(), local: None, projection: None }
    }
}

/// Where the manifest of an expected pod is known from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PodSource {
    /// The manifests folder.
    Live,
    /// A snapshot of the store; its id.
    Backup(String),
}

/// A static pod that this node should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ExpectedPod {
    /// The component.
    pub component: Component,
    /// Where its manifest is known from; none when only its name is known.
    pub source: Option<PodSource>,
    /// What the manifest says.
    pub pod: Option<StaticPod>,
}

/// A process on a port of the control plane, with the verdict on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JudgedHolder {
    /// The component that wants the port.
    pub wanted_by: Component,
    /// The port.
    pub port: Port,
    /// The address that the component wants.
    pub address: SocketAddr,
    /// What was read about the process.
    pub evidence: Evidence,
    /// What it is.
    pub verdict: Verdict,
}

/// A backed-up manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BackupFact {
    /// The snapshot.
    pub snapshot: String,
    /// Whose manifest.
    pub component: Component,
    /// When it was taken: milliseconds since 1970.
    pub taken_unix_ms: u64,
    /// Whether all its digests were right just now; unknown when it could not be read.
    pub verified: Observed<bool>,
    /// Whether the node was verified healthy when it was taken.
    pub last_known_good: bool,
    /// Whether it names this node; unknown when it names none.
    pub same_node: Observed<bool>,
}

impl BackupFact {
    /// Reports whether it can be restored here: intact, and proven to be of this node.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verified.present() == Some(&true) && self.same_node.present() == Some(&true)
    }
}

/// Whether kubeadm could make a lost manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RegenerationFact {
    /// Whose manifest.
    pub component: Component,
    /// Whether it could; unknown with the reason.
    pub possible: Observed<bool>,
    /// Values that only the operator knows.
    pub missing: Vec<String>,
}

/// A crash-loop pause of kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BackOffFact {
    /// Whose container waits.
    pub component: Component,
    /// What is left of the pause, in milliseconds; the whole pause when it is not known since when.
    pub remaining_ms: u64,
}

#[cfg(test)]
impl Observation {
    /// One of a node of which nothing is known.
    pub(super) fn blank() -> Self {
        let unknown = || "not looked at".to_owned();
        Self {
            node: NodeName::new("cp1"),
            at_unix_ms: 1,
            facts: Facts::default(),
            pods: Vec::new(),
            runtime_info: Observed::Unknown(unknown()),
            holders: Vec::new(),
            backups: Observed::Unknown(unknown()),
            regenerations: Vec::new(),
            back_offs: Vec::new(),
            restart_ms: 0,
            etcd: contract::Etcd::default(),
            etcd_facts: EtcdFacts::default(),
            pod_dirs: Vec::new(),
            unobserved: Vec::new(),
        }
    }
}
