//! The manifests, as kubeadm 1.36.2 writes them.
//!
//! Sources: testdata/kubeadm-1.36/manifests (byte for byte, by test); for what a config can change,
//! kubernetes `cmd/kubeadm/app/phases/{controlplane,etcd}` and `app/util/staticpod/utils.go`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cprecover::kubeadm::{ComponentSettings, command_line, yaml_text};
use cprecover::model::Component;
use serde_json::{Map, Value, json};

use super::below;
use super::settings::Settings;

/// Returns the manifest of one component.
pub(super) fn manifest(settings: &Settings, component: Component) -> String {
    let mut metadata = Map::new();
    if let Some((key, value)) = annotation(settings, component) {
        metadata.insert("annotations".into(), json!({key: value}));
    }
    metadata.insert("labels".into(), json!({"component": component.as_str(), "tier": "control-plane"}));
    metadata.insert("name".into(), component.as_str().into());
    metadata.insert("namespace".into(), "kube-system".into());
    let volumes = Volumes::of(settings, component);
    yaml_text(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": [container(settings, component, &volumes)],
            "hostNetwork": true,
            "priority": 2_000_001_000,
            "priorityClassName": "system-node-critical",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": volumes.volumes(),
        },
        "status": {},
    }))
}

fn container(settings: &Settings, component: Component, volumes: &Volumes) -> Map<String, Value> {
    let probe = Probe::of(settings, component);
    let requests = match component {
        Component::Etcd => json!({"cpu": "100m", "memory": "100Mi"}),
        Component::KubeApiserver => json!({"cpu": "250m"}),
        Component::KubeControllerManager => json!({"cpu": "200m"}),
        _ => json!({"cpu": "100m"}),
    };
    let mut map = Map::new();
    map.insert("command".into(), json!(command_line(component, &settings.config, settings.external_ca)));
    let envs = envs(settings.config.settings(component));
    if !envs.is_empty() {
        map.insert("env".into(), Value::Array(envs));
    }
    map.insert("image".into(), image(settings, component).into());
    map.insert("imagePullPolicy".into(), "IfNotPresent".into());
    map.insert("livenessProbe".into(), probe.value(probe.live, 8, Some(10), 10));
    map.insert("name".into(), component.as_str().into());
    map.insert(
        "ports".into(),
        json!([{"containerPort": probe.port, "name": "probe-port", "protocol": "TCP"}]),
    );
    if let Some(ready) = probe.ready {
        map.insert("readinessProbe".into(), probe.value(ready, 3, None, 1));
    }
    map.insert("resources".into(), json!({"requests": requests}));
    map.insert("startupProbe".into(), probe.value(probe.startup, startup_failures(settings), Some(10), 10));
    map.insert("volumeMounts".into(), Value::Array(volumes.mounts.clone()));
    map
}

fn annotation(settings: &Settings, component: Component) -> Option<(&'static str, String)> {
    let address = settings.config.advertise_address?;
    let host = host_in_url(address);
    match component {
        Component::Etcd => {
            Some(("kubeadm.kubernetes.io/etcd.advertise-client-urls", format!("https://{host}:2379")))
        }
        Component::KubeApiserver => {
            let port = settings.config.bind_port.map_or(6443, cprecover::model::Port::get);
            Some((
                "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint",
                format!("{host}:{port}"),
            ))
        }
        _ => None,
    }
}

fn host_in_url(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

fn image(settings: &Settings, component: Component) -> String {
    let config = &settings.config;
    let repository = config.image_repository.as_deref().unwrap_or("registry.k8s.io");
    if component == Component::Etcd {
        let local = config.local_etcd();
        let repository = local.and_then(|etcd| etcd.image_repository.as_deref()).unwrap_or(repository);
        // The recorded default for 1.36; other versions have others, which only `imageTag` gives here.
        let tag = local.and_then(|etcd| etcd.image_tag.as_deref()).unwrap_or("3.6.8-0");
        return format!("{repository}/etcd:{tag}");
    }
    let version = config.kubernetes_version.as_deref().unwrap_or_default();
    format!("{repository}/{component}:{}", version.replace('+', "_"))
}

/// `extraEnvs` and the proxy variables of kubeadm's own environment, sorted by name.
fn envs(settings: Option<&ComponentSettings>) -> Vec<Value> {
    let mut envs: BTreeMap<String, Value> = std::env::vars()
        .filter(|(name, value)| name.to_ascii_lowercase().ends_with("_proxy") && !value.is_empty())
        .map(|(name, value)| (name.clone(), json!({"name": name, "value": value})))
        .collect();
    for env in settings.map(|settings| settings.extra_envs.as_slice()).unwrap_or_default() {
        let mut map = Map::new();
        map.insert("name".into(), env.name.clone().into());
        if !env.value.is_empty() {
            map.insert("value".into(), env.value.clone().into());
        }
        map.extend(env.other.clone());
        envs.insert(env.name.clone(), Value::Object(map));
    }
    envs.into_values().collect()
}

/// The startup probe's failures: the control plane's timeout (4 min) over its period (10 s).
fn startup_failures(settings: &Settings) -> u64 {
    let config = &settings.config;
    let timeout = config
        .other_init
        .get("timeouts")
        .and_then(|timeouts| timeouts.get("controlPlaneComponentHealthCheck"))
        .or_else(|| config.api_server.other.get("timeoutForControlPlane"))
        .and_then(Value::as_str)
        .and_then(seconds)
        .unwrap_or(240);
    timeout.div_ceil(10)
}

/// Reads `4m0s` or `1h2m3s`.
fn seconds(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut number = String::new();
    for c in text.chars() {
        let unit = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            digit => {
                number.push(digit);
                continue;
            }
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    number.is_empty().then_some(total)
}

struct Probe {
    host: String,
    port: u16,
    scheme: &'static str,
    live: &'static str,
    ready: Option<&'static str>,
    startup: &'static str,
}

impl Probe {
    fn of(settings: &Settings, component: Component) -> Self {
        let config = &settings.config;
        let bind = |settings: &ComponentSettings| settings.arg("bind-address").map(probe_host);
        let local = || "127.0.0.1".to_owned();
        match component {
            Component::Etcd => Self::etcd(settings),
            Component::KubeApiserver => Self {
                host: config.advertise_address.map_or_else(local, |address| probe_host(&address.to_string())),
                port: config.bind_port.map_or(6443, cprecover::model::Port::get),
                scheme: "HTTPS",
                live: "/livez",
                ready: Some("/readyz"),
                startup: "/livez",
            },
            Component::KubeControllerManager => Self {
                host: bind(&config.controller_manager).unwrap_or_else(local),
                port: 10257,
                scheme: "HTTPS",
                live: "/healthz",
                ready: None,
                startup: "/healthz",
            },
            _ => Self {
                host: bind(&config.scheduler).unwrap_or_else(local),
                port: 10259,
                scheme: "HTTPS",
                live: "/livez",
                ready: Some("/readyz"),
                startup: "/livez",
            },
        }
    }

    /// etcd's probes go to the first of `listen-metrics-urls`.
    fn etcd(settings: &Settings) -> Self {
        let ipv6 = settings.config.advertise_address.is_some_and(|address| address.is_ipv6());
        let local = if ipv6 { "::1" } else { "127.0.0.1" };
        let mut probe = Self {
            host: local.to_owned(),
            port: 2381,
            scheme: "HTTP",
            live: "/livez",
            ready: Some("/readyz"),
            startup: "/readyz",
        };
        let urls = settings.config.local_etcd().and_then(|etcd| etcd.settings.arg("listen-metrics-urls"));
        if let Some((scheme, rest)) =
            urls.and_then(|urls| urls.split(',').next()).and_then(|url| url.split_once("://"))
        {
            if scheme == "https" {
                probe.scheme = "HTTPS";
            }
            let authority = rest.split('/').next().unwrap_or(rest);
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().unwrap_or(2381)),
                _ => (authority, 2381),
            };
            let host = host.trim_matches(['[', ']']);
            probe.host = if host.is_empty() { local.to_owned() } else { probe_host(host) };
            probe.port = port;
        }
        probe
    }

    fn value(&self, path: &str, failures: u64, delay: Option<u64>, period: u64) -> Value {
        let mut get = Map::new();
        if !self.host.is_empty() {
            get.insert("host".into(), self.host.clone().into());
        }
        get.insert("path".into(), path.into());
        get.insert("port".into(), "probe-port".into());
        get.insert("scheme".into(), self.scheme.into());
        let mut probe = Map::new();
        probe.insert("failureThreshold".into(), failures.into());
        probe.insert("httpGet".into(), Value::Object(get));
        if let Some(delay) = delay {
            probe.insert("initialDelaySeconds".into(), delay.into());
        }
        probe.insert("periodSeconds".into(), period.into());
        probe.insert("timeoutSeconds".into(), 15.into());
        Value::Object(probe)
    }
}

/// A component that listens everywhere is probed at the pod's address.
fn probe_host(address: &str) -> String {
    if matches!(address, "0.0.0.0" | "::") { String::new() } else { address.to_owned() }
}

/// Mounts and volumes of one pod.
struct Volumes {
    mounts: Vec<Value>,
    volumes: BTreeMap<String, Value>,
}

/// Folders that are mounted when the host has them (kubernetes `…/controlplane/volumes.go`).
const CA_FOLDERS: [&str; 5] = [
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];
const FLEXVOLUME: &str = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec";

impl Volumes {
    fn of(settings: &Settings, component: Component) -> Self {
        let mut volumes = Self { mounts: Vec::new(), volumes: BTreeMap::new() };
        let config = &settings.config;
        let pki = config
            .certificates_dir
            .as_deref()
            .map_or("/etc/kubernetes/pki".into(), |d| d.display().to_string());
        if component == Component::Etcd {
            volumes.add(
                "etcd-data",
                &settings.data_dir().display().to_string(),
                None,
                false,
                "DirectoryOrCreate",
            );
            volumes.add("etcd-certs", &format!("{pki}/etcd"), None, false, "DirectoryOrCreate");
            return volumes;
        }
        if matches!(component, Component::KubeApiserver | Component::KubeControllerManager) {
            volumes.add("k8s-certs", &pki, None, true, "DirectoryOrCreate");
            volumes.add("ca-certs", "/etc/ssl/certs", None, true, "DirectoryOrCreate");
            for folder in CA_FOLDERS {
                if below(&settings.host_root, folder.as_ref()).exists() {
                    let name = folder.trim_start_matches('/').replace('/', "-");
                    volumes.add(&name, folder, None, true, "DirectoryOrCreate");
                }
            }
        }
        match component {
            Component::KubeControllerManager => {
                volumes.add(
                    "kubeconfig",
                    "/etc/kubernetes/controller-manager.conf",
                    None,
                    true,
                    "FileOrCreate",
                );
                if below(&settings.host_root, FLEXVOLUME.as_ref()).is_dir() {
                    volumes.add("flexvolume-dir", FLEXVOLUME, None, false, "DirectoryOrCreate");
                }
            }
            Component::KubeScheduler => {
                volumes.add("kubeconfig", "/etc/kubernetes/scheduler.conf", None, true, "FileOrCreate");
            }
            _ => {}
        }
        let extra = config.settings(component).map(|s| s.extra_volumes.as_slice()).unwrap_or_default();
        for volume in extra {
            let (host, mount) =
                (volume.host_path.display().to_string(), volume.mount_path.display().to_string());
            volumes.add(&volume.name, &host, Some(&mount), volume.read_only, &volume.path_type);
        }
        volumes.mounts.sort_by_key(|mount| mount["name"].as_str().map(ToOwned::to_owned));
        volumes
    }

    /// Adds a volume and its mount; a later one of the same name replaces it.
    fn add(&mut self, name: &str, host: &str, mount: Option<&str>, read_only: bool, kind: &str) {
        let mut value = Map::new();
        value.insert("mountPath".into(), mount.unwrap_or(host).into());
        value.insert("name".into(), name.into());
        if read_only {
            value.insert("readOnly".into(), true.into());
        }
        self.mounts.retain(|mount| mount["name"] != name);
        self.mounts.push(Value::Object(value));
        self.volumes.insert(name.to_owned(), json!({"hostPath": {"path": host, "type": kind}, "name": name}));
    }

    fn volumes(&self) -> Vec<&Value> {
        self.volumes.values().collect()
    }
}
