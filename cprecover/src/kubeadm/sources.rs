//! What a config can be reconstructed from: plain values, gathered by the caller.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::config::Config;
use crate::cri::Mount;
use crate::model::{Component, Observed};

/// Everything that is left of the node's configuration; every part may be missing.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Sources {
    /// Values that the caller states; they win over everything.
    pub overrides: Config,
    /// A kubeadm config that the caller names, and its name; it is believed like `overrides`, and a saved one is
    /// not looked at then.
    pub caller_config: Option<(String, Vec<u8>)>,
    /// A kubeadm config saved while the cluster was healthy, and where it was found.
    pub config: Option<(String, Vec<u8>)>,
    /// Manifests, surviving and last known good; of two for one component the first is believed.
    pub manifests: Vec<ManifestSource>,
    /// Containers of the control plane that the runtime still knows, newest first
    /// ([`RuntimeContainer::from_verbose_info`]).
    ///
    /// [`Sources::gather`] reads the disk alone; the engine adds those of [`Sources::silent`] components.
    pub containers: Vec<RuntimeContainer>,
    /// Certificates of the PKI folder.
    pub certificates: Vec<CertificateSource>,
    /// kubeconfig files by name (`admin.conf`, `kubelet.conf`, …), the most telling first.
    pub kubeconfigs: Vec<(String, Vec<u8>)>,
    /// `/var/lib/kubelet/kubeadm-flags.env`.
    pub kubeadm_flags: Option<Vec<u8>>,
    /// `/var/lib/kubelet/instance-config.yaml` (kubeadm 1.34 and later).
    pub instance_config: Option<Vec<u8>>,
    /// `/var/lib/kubelet/config.yaml`.
    pub kubelet_config: Option<Vec<u8>>,
    /// What the etcd data directory holds.
    pub etcd_data: Option<EtcdDataState>,
}

/// Says what a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ManifestOrigin {
    /// It lies in the live folder.
    Live,
    /// It comes from a verified backup.
    LastKnownGood,
}

/// One manifest as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestSource {
    /// Which component it is.
    pub component: Component,
    /// What it is.
    pub origin: ManifestOrigin,
    /// Where it was found, for people: a path or a snapshot's name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl ManifestSource {
    /// Wraps a manifest.
    pub fn new(
        component: Component,
        origin: ManifestOrigin,
        name: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        Self { component, origin, name: name.into(), bytes: bytes.into() }
    }
}

/// A control-plane container as the runtime knows it (CRI `ContainerStatus`, verbose).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RuntimeContainer {
    /// Which component it is (label `io.kubernetes.container.name`).
    pub component: Component,
    /// The image reference as kubelet asked for it.
    pub image: String,
    /// Command and arguments; empty when the runtime does not tell.
    pub argv: Vec<String>,
    /// Environment variables.
    pub envs: BTreeMap<String, String>,
    /// hostPath mounts.
    pub mounts: Vec<Mount>,
    /// Annotations of its sandbox, such as `kubeadm.kubernetes.io/etcd.advertise-client-urls`.
    pub sandbox_annotations: BTreeMap<String, String>,
}

impl RuntimeContainer {
    /// Starts from component and image; the other fields are public.
    pub fn new(component: Component, image: impl Into<String>) -> Self {
        Self {
            component,
            image: image.into(),
            argv: Vec::new(),
            envs: BTreeMap::new(),
            mounts: Vec::new(),
            sandbox_annotations: BTreeMap::new(),
        }
    }
}

/// One certificate file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateSource {
    /// Its path below the PKI folder: `apiserver.crt`, `etcd/server.crt`.
    pub name: String,
    /// Its bytes, PEM.
    pub pem: Observed<Vec<u8>>,
}

impl CertificateSource {
    /// Wraps a certificate.
    pub fn new(name: impl Into<String>, pem: Observed<Vec<u8>>) -> Self {
        Self { name: name.into(), pem }
    }
}

/// What the etcd data directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EtcdDataState {
    /// The directory on the node.
    pub data_dir: PathBuf,
    /// Whether `member/snap/db` is there and not empty.
    pub database: Observed<u64>,
    /// How many bytes of `member/wal/*.wal` there are.
    pub wal: Observed<u64>,
}

impl EtcdDataState {
    /// Wraps an observation; sizes are in bytes.
    pub fn new(data_dir: impl Into<PathBuf>, database: Observed<u64>, wal: Observed<u64>) -> Self {
        Self { data_dir: data_dir.into(), database, wal }
    }
}

impl EtcdDataState {
    /// Reports whether a database with contents was found.
    #[must_use]
    pub fn has_database(&self) -> bool {
        self.database.present().is_some_and(|bytes| *bytes > 0)
    }
}
