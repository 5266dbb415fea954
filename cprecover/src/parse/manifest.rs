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

mod raw;

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
        Self::of_value(yaml::value(bytes)?)
    }

    /// Reads a manifest with kubelet's own leniency ([`yaml::from_slice_as_kubelet`]).
    ///
    /// # Errors
    /// As [`StaticPod::parse`].
    pub fn parse_as_kubelet(bytes: &[u8]) -> Result<Self> {
        Self::of_value(yaml::value_as_kubelet(bytes)?)
    }

    /// Reads a manifest that is JSON by now. kubelet too turns YAML into JSON first (`utilyaml.ToJSON` in
    /// kubernetes `pkg/kubelet/config/common.go`) and then takes no number or boolean for text.
    fn of_value(value: serde_json::Value) -> Result<Self> {
        let raw: raw::Pod = serde_json::from_value(value).map_err(|source| {
            Error::with_source(ErrorKind::Invalid, "not a pod as kubelet decodes it", source)
        })?;
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
            namespace: raw
                .metadata
                .namespace
                .filter(|namespace| !namespace.is_empty())
                .unwrap_or_else(|| "default".into()),
            uid: raw.metadata.uid,
            labels: raw::texts(raw.metadata.labels),
            annotations: raw::texts(raw.metadata.annotations),
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

    fn pod(metadata: &str, command: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: x, {metadata}}}\nspec:\n  containers:\n  - {{name: c, \
            image: i, command: {command}}}\n"
        )
    }

    /// As `json.Unmarshal` refuses them: "cannot unmarshal bool into Go struct field of type string".
    #[test]
    fn a_number_or_boolean_where_kubelet_wants_text_is_rejected() {
        for bad in [
            pod("annotations: {prometheus.io/scrape: true}", "[c]"),
            pod("labels: {version: 1.36}", "[c]"),
            pod("labels: {on: yes}", "[c]"),
            pod("namespace: 1", "[c]"),
            pod("uid: 12", "[c]"),
            pod("labels: {}", "[c, 8080]"),
            pod("labels: {}", "[c, true]"),
            pod("labels: {}", "c"),
            pod("labels: {}", "[c], ports: [{containerPort: '80'}]"),
            pod("labels: {}", "[c], volumeMounts: [{name: 1, mountPath: /x}]"),
            pod("labels: [a]", "[c]"),
        ] {
            for read in [StaticPod::parse, StaticPod::parse_as_kubelet] {
                let error = read(bad.as_bytes()).expect_err(&bad);
                assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}: {error}");
            }
        }
        let quoted =
            pod("annotations: {scrape: 'true'}, labels: {version: \"1.36\"}", "[c, '8080', !!str 1]");
        let pod = StaticPod::parse(quoted.as_bytes()).expect("text");
        assert_eq!(pod.labels.get("version").map(String::as_str), Some("1.36"));
        assert_eq!(pod.main().map(|c| c.argv.join(" ")).as_deref(), Some("c 8080 1"));
    }

    /// Go decodes null into text as "no change", which leaves it empty (encoding/json, `Unmarshal`).
    #[test]
    fn null_is_empty_text() {
        let text = pod("namespace: '', labels: {a: null, b: ~}, annotations: {c: }", "[c, null]");
        let pod = StaticPod::parse(text.as_bytes()).expect("kubelet takes it");
        let empty = [("a".to_owned(), String::new()), ("b".to_owned(), String::new())];
        assert_eq!(pod.labels, BTreeMap::from(empty));
        assert_eq!(pod.annotations.get("c").map(String::as_str), Some(""));
        assert_eq!(pod.namespace, "default");
        assert_eq!(pod.main().map(|c| c.argv.len()), Some(2));
        let no_image = text.replace("image: i", "image: null");
        assert_eq!(StaticPod::parse(no_image.as_bytes()).expect("pod").main().map(|c| &*c.image), Some(""));
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
