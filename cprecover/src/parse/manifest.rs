//! What a static-pod manifest says, read as kubelet reads it.
//!
//! Sources: kubernetes `pkg/kubelet/config/file.go` (one pod per file, YAML or JSON) and
//! `cmd/kubeadm/app/phases/{controlplane,etcd}` (one container, flags in `command`).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::yaml;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Port};

/// The largest manifest that kubelet reads, in bytes (kubernetes `pkg/kubelet/config/file.go`,
/// `maxConfigLength`).
pub const MAX_MANIFEST_BYTES: usize = 10 << 20;

/// A pod as its manifest describes it; fields that no module needs are not kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StaticPod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, `default` when it is not given.
    pub namespace: String,
    /// `metadata.uid`, which kubelet would use instead of its own hash.
    pub uid: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `spec.containers`.
    pub containers: Vec<Container>,
    /// `spec.volumes` of type hostPath.
    pub host_paths: Vec<HostPath>,
}

/// One container of a static pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The image reference.
    pub image: String,
    /// `command` followed by `args`: what is executed.
    pub argv: Vec<String>,
    /// `volumeMounts` as (volume name, path in the container).
    pub mounts: Vec<(String, PathBuf)>,
    /// The probes as they stand, by kind (`livenessProbe`, `readinessProbe`, `startupProbe`).
    pub probes: BTreeMap<String, serde_json::Value>,
    /// `ports` by name, for probes that name a port.
    pub ports: BTreeMap<String, Port>,
}

/// One hostPath volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HostPath {
    /// The volume's name.
    pub name: String,
    /// The path on the node.
    pub path: PathBuf,
    /// `type`, such as `DirectoryOrCreate`; empty means that nothing is checked.
    pub kind: String,
}

impl StaticPod {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is not YAML, not a `v1` `Pod`, or has no name or container;
    /// [`ErrorKind::Limit`] when it is larger than [`yaml::MAX_DOCUMENT_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::of_raw(yaml::from_slice(bytes)?)
    }

    /// Reads a manifest with kubelet's own leniency ([`yaml::from_slice_as_kubelet`]).
    ///
    /// # Errors
    /// As [`StaticPod::parse`].
    pub fn parse_as_kubelet(bytes: &[u8]) -> Result<Self> {
        Self::of_raw(yaml::from_slice_as_kubelet(bytes)?)
    }

    fn of_raw(raw: raw::Pod) -> Result<Self> {
        if raw.kind.as_deref() != Some("Pod") || raw.api_version.as_deref() != Some("v1") {
            let kind = raw.kind.unwrap_or_default();
            return Err(Error::new(ErrorKind::Invalid, format!("not a v1 Pod (kind {kind:?})")));
        }
        let Some(name) = raw.metadata.name.filter(|name| !name.is_empty()) else {
            return Err(Error::new(ErrorKind::Invalid, "pod has no metadata.name"));
        };
        if raw.spec.containers.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, format!("pod {name:?} has no container")));
        }
        Ok(Self {
            name,
            namespace: raw.metadata.namespace.unwrap_or_else(|| "default".into()),
            uid: raw.metadata.uid,
            labels: raw.metadata.labels.unwrap_or_default(),
            annotations: raw.metadata.annotations.unwrap_or_default(),
            host_network: raw.spec.host_network.unwrap_or(false),
            containers: raw.spec.containers.into_iter().map(Container::from).collect(),
            host_paths: raw
                .spec
                .volumes
                .unwrap_or_default()
                .into_iter()
                .filter_map(raw::Volume::host_path)
                .collect(),
        })
    }

    /// Returns which control-plane component this pod is, by its `component` label or container name.
    #[must_use]
    pub fn component(&self) -> Option<Component> {
        let label = self.labels.get("component").map(String::as_str);
        label.or_else(|| self.main().map(|c| c.name.as_str())).and_then(|name| name.parse().ok())
    }

    /// Returns the first container, the only one in kubeadm's pods.
    #[must_use]
    pub fn main(&self) -> Option<&Container> {
        self.containers.first()
    }

    /// Returns the value of `--name` in the first container; the last one wins, as in Go's `flag`.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.main()?.flags().rev().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Returns the node path behind a path in the first container, by its hostPath mounts.
    #[must_use]
    pub fn node_path(&self, in_container: &Path) -> Option<PathBuf> {
        let (volume, mount) = self
            .main()?
            .mounts
            .iter()
            .filter(|(_, mount)| in_container.starts_with(mount))
            .max_by_key(|(_, mount)| mount.components().count())?;
        let host = self.host_paths.iter().find(|host| host.name == *volume)?;
        Some(host.path.join(in_container.strip_prefix(mount).ok()?))
    }

    /// Returns etcd's data directory as a path on the node.
    #[must_use]
    pub fn etcd_data_dir(&self) -> Option<PathBuf> {
        let in_container = Path::new(self.flag("data-dir")?);
        Some(self.node_path(in_container).unwrap_or_else(|| in_container.to_owned()))
    }

    /// Returns the addresses this pod listens on, in the order of its flags.
    ///
    /// etcd: `--listen-{peer,client,metrics}-urls`; others: `--bind-address` and `--secure-port`
    /// (defaults 0.0.0.0 and 6443, 10257, 10259: kubernetes `cmd/*/app/options`).
    #[must_use]
    pub fn listeners(&self) -> Vec<Listener> {
        self.component()
            .map(|component| Listener::of_flags(component, |flag| self.flag(flag)))
            .unwrap_or_default()
    }
}

impl Container {
    /// Iterates over `--name=value` and `--name value` arguments; `--name` alone has the value `true`.
    pub fn flags(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        let next = self.argv.iter().skip(1).map(Some).chain(std::iter::repeat(None));
        self.argv
            .iter()
            .zip(next)
            .filter_map(|(arg, next)| {
                let body = arg.strip_prefix("--").filter(|body| !body.is_empty())?;
                Some(match body.split_once('=') {
                    Some(pair) => pair,
                    None => (body, next.filter(|next| !next.starts_with('-')).map_or("true", String::as_str)),
                })
            })
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// One address that a static pod is told to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Listener {
    /// The flag that says so, without dashes.
    pub flag: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The address.
    pub address: SocketAddr,
}

impl Listener {
    /// Returns the addresses that a component's flags tell it to listen on, see [`StaticPod::listeners`].
    pub(crate) fn of_flags<'a>(component: Component, flag: impl Fn(&str) -> Option<&'a str>) -> Vec<Self> {
        if component == Component::Etcd {
            return ["listen-peer-urls", "listen-client-urls", "listen-metrics-urls"]
                .iter()
                .flat_map(|name| {
                    let urls = flag(name).unwrap_or_default();
                    urls.split(',').filter_map(|url| Self::of_url(name, url))
                })
                .collect();
        }
        let default = match component {
            Component::KubeControllerManager => 10257,
            Component::KubeScheduler => 10259,
            _ => Port::APISERVER.get(),
        };
        let port = flag("secure-port").and_then(|port| port.parse().ok()).unwrap_or(default);
        let ip = flag("bind-address").and_then(|ip| ip.parse().ok());
        let address = SocketAddr::new(ip.unwrap_or(IpAddr::from([0, 0, 0, 0])), port);
        Port::new(port).map(|_| Self { flag: "secure-port".into(), tls: true, address }).into_iter().collect()
    }

    fn of_url(flag: &str, url: &str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let address = rest.trim_end_matches('/');
        // etcd accepts IP addresses and, for listening, "localhost" (etcd server/embed/config.go).
        let address = address.replace("localhost:", "127.0.0.1:").parse().ok()?;
        Some(Self { flag: flag.into(), tls: scheme == "https" || scheme == "unixs", address })
    }
}

/// The manifest's own shape; every optional part may be null, as Go writes it.
mod raw {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Pod {
        pub(super) api_version: Option<String>,
        pub(super) kind: Option<String>,
        #[serde(default)]
        pub(super) metadata: Metadata,
        #[serde(default)]
        pub(super) spec: Spec,
    }

    #[derive(Deserialize, Default)]
    pub(super) struct Metadata {
        pub(super) name: Option<String>,
        pub(super) namespace: Option<String>,
        pub(super) uid: Option<String>,
        pub(super) labels: Option<BTreeMap<String, String>>,
        pub(super) annotations: Option<BTreeMap<String, String>>,
    }

    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Spec {
        pub(super) host_network: Option<bool>,
        #[serde(default)]
        pub(super) containers: Vec<Container>,
        pub(super) volumes: Option<Vec<Volume>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Container {
        name: String,
        #[serde(default)]
        image: String,
        command: Option<Vec<String>>,
        args: Option<Vec<String>>,
        volume_mounts: Option<Vec<Mount>>,
        ports: Option<Vec<ContainerPort>>,
        liveness_probe: Option<serde_json::Value>,
        readiness_probe: Option<serde_json::Value>,
        startup_probe: Option<serde_json::Value>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Mount {
        name: String,
        mount_path: PathBuf,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ContainerPort {
        name: Option<String>,
        container_port: std::num::NonZeroU16,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Volume {
        name: String,
        host_path: Option<HostPath>,
    }

    #[derive(Deserialize)]
    struct HostPath {
        path: PathBuf,
        r#type: Option<String>,
    }

    impl Volume {
        pub(super) fn host_path(self) -> Option<super::HostPath> {
            let host = self.host_path?;
            Some(super::HostPath { name: self.name, path: host.path, kind: host.r#type.unwrap_or_default() })
        }
    }

    impl From<Container> for super::Container {
        fn from(raw: Container) -> Self {
            let mut argv = raw.command.unwrap_or_default();
            argv.extend(raw.args.unwrap_or_default());
            let probes = [
                ("livenessProbe", raw.liveness_probe),
                ("readinessProbe", raw.readiness_probe),
                ("startupProbe", raw.startup_probe),
            ];
            Self {
                name: raw.name,
                image: raw.image,
                argv,
                mounts: raw
                    .volume_mounts
                    .unwrap_or_default()
                    .into_iter()
                    .map(|m| (m.name, m.mount_path))
                    .collect(),
                probes: probes
                    .into_iter()
                    .filter_map(|(kind, probe)| Some((kind.to_owned(), probe?)))
                    .collect(),
                ports: raw
                    .ports
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|p| Some((p.name?, crate::model::Port::new(p.container_port.get())?)))
                    .collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETCD: &[u8] = include_bytes!("../../testdata/kubeadm-1.36/manifests/etcd.yaml");
    const APISERVER: &[u8] = include_bytes!("../../testdata/kubeadm-1.36/manifests/kube-apiserver.yaml");

    #[test]
    fn the_recorded_etcd_manifest() {
        let pod = StaticPod::parse(ETCD).expect("parses");
        assert_eq!(pod.component(), Some(Component::Etcd));
        assert_eq!(pod.flag("quota-backend-bytes"), Some("4294967296"));
        assert_eq!(pod.etcd_data_dir(), Some("/var/lib/etcd".into()));
        let listeners: Vec<String> = pod.listeners().iter().map(|l| l.address.to_string()).collect();
        assert_eq!(listeners, ["10.10.17.210:2380", "127.0.0.1:2379", "10.10.17.210:2379", "127.0.0.1:2381"]);
        assert_eq!(pod.main().and_then(|c| c.ports.get("probe-port")).map(|p| p.get()), Some(2381));
        assert_eq!(pod.main().map(|c| c.probes.len()), Some(3));
    }

    #[test]
    fn the_recorded_apiserver_manifest() {
        let pod = StaticPod::parse(APISERVER).expect("parses");
        assert_eq!(pod.component(), Some(Component::KubeApiserver));
        assert_eq!(pod.listeners().first().map(|l| l.address.to_string()).as_deref(), Some("0.0.0.0:6443"));
        assert_eq!(
            pod.node_path(Path::new("/etc/kubernetes/pki/ca.crt")),
            Some("/etc/kubernetes/pki/ca.crt".into())
        );
    }

    #[test]
    fn what_kubelet_rejects_is_rejected() {
        for bad in [&b""[..], b"null", b"kind: Pod", b"apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"]
        {
            assert_eq!(StaticPod::parse(bad).expect_err("bad").kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn flags_with_and_without_equals() {
        let pod = b"apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - {name: etcd, image: i, \
            command: [etcd, --a=1, --b, '2', --c, --a=3]}\n";
        let pod = StaticPod::parse(pod).expect("parses");
        assert_eq!(
            (pod.flag("a"), pod.flag("b"), pod.flag("c"), pod.flag("d")),
            (Some("3"), Some("2"), Some("true"), None)
        );
    }
}
