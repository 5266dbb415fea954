//! All that a policy gets to see.

use serde::{Deserialize, Serialize};
#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::{
    Backup, Certificate, Container, Disk, Etcd, Evidence, Finding, HealthCheck, Manifest, PastAction, PodDir,
    PortHolder, Regeneration, Sandbox, Service,
};

/// One of the four static pods that kubeadm makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The key-value store.
    #[cfg_attr(feature = "component", component(name = "etcd"))]
    Etcd,
    /// The API server.
    #[cfg_attr(feature = "component", component(name = "kube-apiserver"))]
    KubeApiserver,
    /// The controller manager.
    #[cfg_attr(feature = "component", component(name = "kube-controller-manager"))]
    KubeControllerManager,
    /// The scheduler.
    #[cfg_attr(feature = "component", component(name = "kube-scheduler"))]
    KubeScheduler,
}

/// An answer that may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It could not be found out.
    #[cfg_attr(feature = "component", component(name = "unknown"))]
    #[default]
    Unknown,
    /// Proven so.
    #[cfg_attr(feature = "component", component(name = "yes"))]
    Yes,
    /// Proven not so.
    #[cfg_attr(feature = "component", component(name = "no"))]
    No,
}

/// Something that the caller has agreed to beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum Consent {
    /// Renew certificates.
    #[cfg_attr(feature = "component", component(name = "renew-certificates"))]
    RenewCertificates,
    /// Install a regenerated manifest that differs in a way which changes behaviour.
    #[cfg_attr(feature = "component", component(name = "accept-regenerated-changes"))]
    AcceptRegeneratedChanges,
    /// Act on an etcd member although the quorum is not known.
    #[cfg_attr(feature = "component", component(name = "unknown-quorum"))]
    UnknownQuorum,
}

/// Something that was looked for and could not be read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Unobserved {
    /// What was looked for.
    pub what: String,
    /// Why it could not be read.
    pub reason: String,
}

/// All that a policy gets to see.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Observation {
    /// The node's name.
    pub node: String,
    /// The host's time; the only clock that a policy has.
    #[cfg_attr(feature = "component", component(name = "now-ms"))]
    pub now_ms: u64,
    /// Whether the control plane was verified healthy as a whole.
    pub healthy: Verdict,
    /// Whether the node's clock is plausible.
    #[cfg_attr(feature = "component", component(name = "clock-sane"))]
    pub clock_sane: Verdict,
    /// What the diagnosis found.
    pub findings: Vec<Finding>,
    /// What findings rest on.
    pub evidence: Vec<Evidence>,
    /// Health endpoints.
    #[cfg_attr(feature = "component", component(name = "health-checks"))]
    pub health_checks: Vec<HealthCheck>,
    /// Who holds the ports that static pods need.
    pub holders: Vec<PortHolder>,
    /// Pod sandboxes of static pods.
    pub sandboxes: Vec<Sandbox>,
    /// Containers of static pods.
    pub containers: Vec<Container>,
    /// Manifests, present or not.
    pub manifests: Vec<Manifest>,
    /// Backed-up manifests.
    pub backups: Vec<Backup>,
    /// Manifests that kubeadm could make.
    pub regenerations: Vec<Regeneration>,
    /// Certificates.
    pub certificates: Vec<Certificate>,
    /// File systems.
    pub disks: Vec<Disk>,
    /// The etcd cluster.
    pub etcd: Etcd,
    /// kubelet and the runtime.
    pub services: Vec<Service>,
    /// Folders of pods that look left over.
    #[cfg_attr(feature = "component", component(name = "pod-dirs"))]
    pub pod_dirs: Vec<PodDir>,
    /// What the caller agreed to beforehand.
    pub consents: Vec<Consent>,
    /// What was done before, oldest first.
    pub history: Vec<PastAction>,
    /// What could not be read.
    pub unobserved: Vec<Unobserved>,
}
