//! kubeadm's configuration in a form that is neutral to its API version.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{Component, NodeName, Port};

/// What `InitConfiguration` and `ClusterConfiguration` say; `None` means not said.
///
/// Source: kubernetes `cmd/kubeadm/app/apis/kubeadm/{v1beta3,v1beta4}/types.go`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Config {
    /// `nodeRegistration.name`.
    pub node_name: Option<NodeName>,
    /// `nodeRegistration.criSocket`.
    pub cri_socket: Option<String>,
    /// `localAPIEndpoint.advertiseAddress`.
    pub advertise_address: Option<IpAddr>,
    /// `localAPIEndpoint.bindPort`.
    pub bind_port: Option<Port>,
    /// `patches.directory`.
    pub patches_dir: Option<PathBuf>,
    /// `kubernetesVersion`.
    pub kubernetes_version: Option<String>,
    /// `clusterName`.
    pub cluster_name: Option<String>,
    /// `controlPlaneEndpoint`.
    pub control_plane_endpoint: Option<String>,
    /// `networking.podSubnet`.
    pub pod_subnet: Option<String>,
    /// `networking.serviceSubnet`.
    pub service_subnet: Option<String>,
    /// `networking.dnsDomain`.
    pub dns_domain: Option<String>,
    /// `imageRepository`.
    pub image_repository: Option<String>,
    /// `certificatesDir`.
    pub certificates_dir: Option<PathBuf>,
    /// `featureGates`, kubeadm's own.
    pub feature_gates: BTreeMap<String, bool>,
    /// `etcd`.
    pub etcd: Option<Etcd>,
    /// `apiServer`.
    pub api_server: ComponentSettings,
    /// `controllerManager`.
    pub controller_manager: ComponentSettings,
    /// `scheduler`.
    pub scheduler: ComponentSettings,
    /// Other fields of `InitConfiguration`, kept as they were found, but for `certificateKey` and
    /// `bootstrapTokens`, which are secret and shape no manifest.
    pub other_init: serde_json::Map<String, serde_json::Value>,
    /// Other fields of `ClusterConfiguration`, kept as they were found.
    pub other_cluster: serde_json::Map<String, serde_json::Value>,
}

/// Where etcd is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Etcd {
    /// A static pod on this node.
    Local(LocalEtcd),
    /// Somewhere else; kubeadm's etcd phase does nothing then.
    External(ExternalEtcd),
}

/// `etcd.local`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct LocalEtcd {
    /// `dataDir`.
    pub data_dir: Option<PathBuf>,
    /// `imageRepository`.
    pub image_repository: Option<String>,
    /// `imageTag`.
    pub image_tag: Option<String>,
    /// `extraArgs` and `extraEnvs`; kubeadm has no extra volumes for etcd.
    pub settings: ComponentSettings,
}

/// `etcd.external`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ExternalEtcd {
    /// `endpoints`.
    pub endpoints: Vec<String>,
    /// `caFile`.
    pub ca_file: PathBuf,
    /// `certFile`.
    pub cert_file: PathBuf,
    /// `keyFile`.
    pub key_file: PathBuf,
}

/// What a component gets beyond kubeadm's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ComponentSettings {
    /// `extraArgs`, in their order.
    pub extra_args: Vec<Arg>,
    /// `extraVolumes`.
    pub extra_volumes: Vec<HostPathMount>,
    /// `extraEnvs` (v1beta4 only).
    pub extra_envs: Vec<EnvVar>,
    /// Other fields (`certSANs`, …), kept as they were found.
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// One flag without its dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Arg {
    /// The flag's name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
    /// `valueFrom` and whatever else was found.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// One extra hostPath volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HostPathMount {
    /// The volume's name.
    pub name: String,
    /// The path on the node.
    pub host_path: PathBuf,
    /// The path in the container.
    pub mount_path: PathBuf,
    /// Whether it is mounted read-only.
    #[serde(default)]
    pub read_only: bool,
    /// The hostPath type, such as `DirectoryOrCreate`; empty means that nothing is checked.
    #[serde(default)]
    pub path_type: String,
}

impl Config {
    /// Returns the settings of one component; `None` for etcd that is not local.
    #[must_use]
    pub const fn settings(&self, component: Component) -> Option<&ComponentSettings> {
        match component {
            Component::Etcd => match &self.etcd {
                Some(Etcd::Local(local)) => Some(&local.settings),
                _ => None,
            },
            Component::KubeApiserver => Some(&self.api_server),
            Component::KubeControllerManager => Some(&self.controller_manager),
            Component::KubeScheduler => Some(&self.scheduler),
        }
    }

    /// Returns the settings of one component for change; makes etcd local when it was not said.
    pub(super) fn settings_mut(&mut self, component: Component) -> Option<&mut ComponentSettings> {
        match component {
            Component::Etcd => match self.etcd.get_or_insert_with(|| Etcd::Local(LocalEtcd::default())) {
                Etcd::Local(local) => Some(&mut local.settings),
                Etcd::External(_) => None,
            },
            Component::KubeApiserver => Some(&mut self.api_server),
            Component::KubeControllerManager => Some(&mut self.controller_manager),
            Component::KubeScheduler => Some(&mut self.scheduler),
        }
    }

    /// Returns `etcd.local` when it is said.
    #[must_use]
    pub const fn local_etcd(&self) -> Option<&LocalEtcd> {
        match &self.etcd {
            Some(Etcd::Local(local)) => Some(local),
            _ => None,
        }
    }

    /// Returns `etcd.external` when it is said.
    #[must_use]
    pub const fn external_etcd(&self) -> Option<&ExternalEtcd> {
        match &self.etcd {
            Some(Etcd::External(external)) => Some(external),
            _ => None,
        }
    }
}

impl ComponentSettings {
    /// Returns the value of the last extra argument of that name; Go's `flag` lets the last one win.
    #[must_use]
    pub fn arg(&self, name: &str) -> Option<&str> {
        self.extra_args.iter().rev().find(|arg| arg.name == name).map(|arg| arg.value.as_str())
    }
}

impl Arg {
    /// Makes an argument from its name, without dashes, and its value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}
