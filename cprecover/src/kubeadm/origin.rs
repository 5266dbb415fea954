//! Where a value of the reconstructed config comes from, and which values nobody knows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Component;

/// Says where a value was found; the order is the order of trust, best first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "source", content = "detail")]
#[non_exhaustive]
pub enum Origin {
    /// The caller said so.
    Caller,
    /// A kubeadm config that was backed up while the cluster was healthy.
    Config(String),
    /// A manifest of this node, surviving or last known good, and the flag or field in it.
    Manifest(String),
    /// A container or sandbox that the runtime still knows.
    Runtime(String),
    /// A certificate in the PKI folder.
    Certificate(String),
    /// A kubeconfig file such as `kubelet.conf`.
    Kubeconfig(String),
    /// A file of kubelet: `kubeadm-flags.env`, `instance-config.yaml`, `config.yaml`.
    KubeletFile(String),
    /// The etcd data directory.
    EtcdData(String),
    /// kubeadm's own default, which every source is consistent with.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller => f.write_str("given by the caller"),
            Self::Config(detail) => write!(f, "kubeadm config {detail}"),
            Self::Manifest(detail) => write!(f, "manifest {detail}"),
            Self::Runtime(detail) => write!(f, "container runtime, {detail}"),
            Self::Certificate(detail) => write!(f, "certificate {detail}"),
            Self::Kubeconfig(detail) => write!(f, "kubeconfig {detail}"),
            Self::KubeletFile(detail) => write!(f, "kubelet file {detail}"),
            Self::EtcdData(detail) => write!(f, "etcd data {detail}"),
            Self::Default => f.write_str("kubeadm's default"),
        }
    }
}

/// One field of the reconstructed config with its origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OriginatedField {
    /// The field as a path in v1beta4's terms: `networking.podSubnet`, `apiServer.extraArgs[audit-log-maxage]`.
    pub path: String,
    /// The value, as JSON.
    pub value: serde_json::Value,
    /// Where it was found.
    pub origin: Origin,
}

/// A value that no source tells and that must be asked for, or that only the operator can confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Unknown {
    /// The field's path.
    pub path: String,
    /// Why it is not known and what its absence means.
    pub reason: String,
    /// The manifests that depend on it and cannot be regenerated without it; may be none.
    pub affects: Vec<Component>,
}

/// Two sources that disagree; the first one was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Conflict {
    /// The field's path.
    pub path: String,
    /// The value that was taken and its origin.
    pub taken: (serde_json::Value, Origin),
    /// The value that was not taken and its origin.
    pub other: (serde_json::Value, Origin),
}
