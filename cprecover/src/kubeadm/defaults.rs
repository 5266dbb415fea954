//! The flags that kubeadm writes for a config, without extra arguments.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::config::{Arg, Config};
use crate::model::{Component, NodeName, Port};

/// kubeadm's defaults (kubernetes `cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go`).
pub(super) mod value {
    pub(crate) const SERVICE_SUBNET: &str = "10.96.0.0/12";
    pub(crate) const DNS_DOMAIN: &str = "cluster.local";
    pub(crate) const CLUSTER_NAME: &str = "kubernetes";
    pub(crate) const CERTIFICATES_DIR: &str = "/etc/kubernetes/pki";
    pub(crate) const ETCD_DATA_DIR: &str = "/var/lib/etcd";
}

/// Returns the flags that kubeadm 1.36 writes for `component` before extra arguments, sorted by name.
///
/// Fields that `config` does not say take kubeadm's defaults; advertise address and node name have
/// none and are left empty. `external_ca` is kubeadm's case of a `ca.crt` without its key.
///
/// Sources: kubernetes `cmd/kubeadm/app/phases/controlplane/manifests.go` and
/// `cmd/kubeadm/app/phases/etcd/local.go`; what 1.36.2 really wrote is in testdata/kubeadm-1.36.
#[must_use]
pub fn default_arguments(component: Component, config: &Config, external_ca: bool) -> Vec<Arg> {
    let pairs = match component {
        Component::Etcd => etcd(config),
        Component::KubeApiserver => apiserver(config),
        Component::KubeControllerManager => controller_manager(config, external_ca),
        Component::KubeScheduler => scheduler(),
    };
    let mut args: Vec<Arg> = pairs.into_iter().map(|(name, value)| Arg::new(name, value)).collect();
    args.sort();
    args
}

/// Returns the whole command as kubeadm 1.36 writes it: its defaults sorted and without those that
/// an extra argument replaces, then the extra arguments in their order.
///
/// Source: kubernetes/kubernetes#135400 (1.36, backported to the last patches of 1.32 to 1.35); before
/// it, the whole list was sorted.
#[must_use]
pub fn command_line(component: Component, config: &Config, external_ca: bool) -> Vec<String> {
    let extra = config.settings(component).map(|settings| settings.extra_args.as_slice()).unwrap_or_default();
    let defaults = default_arguments(component, config, external_ca);
    let kept = defaults.iter().filter(|arg| !extra.iter().any(|other| other.name == arg.name));
    let mut command = vec![component.as_str().to_owned()];
    command.extend(kept.chain(extra).map(|arg| format!("--{}={}", arg.name, arg.value)));
    command
}

type Pairs = Vec<(&'static str, String)>;

/// Returns `certificatesDir`, kubeadm's default where it is not said.
pub(super) fn pki(config: &Config) -> PathBuf {
    config.certificates_dir.clone().unwrap_or_else(|| value::CERTIFICATES_DIR.into())
}

fn below(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

fn or(value: Option<&String>, default: &str) -> String {
    value.cloned().unwrap_or_else(|| default.to_owned())
}

/// Returns `https://ADDRESS:PORT`, an IPv6 address in brackets.
fn url(address: Option<IpAddr>, port: Port) -> String {
    match address {
        Some(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
        Some(IpAddr::V4(address)) => format!("https://{address}:{port}"),
        None => format!("https://:{port}"),
    }
}

/// Returns the loopback address of the same family as the advertise address.
fn loopback(config: &Config) -> &'static str {
    if config.advertise_address.is_some_and(|address| address.is_ipv6()) { "[::1]" } else { "127.0.0.1" }
}

fn etcd(config: &Config) -> Pairs {
    let dir = pki(config);
    let name = config.node_name.as_ref().map_or("", NodeName::as_str);
    let client = url(config.advertise_address, Port::ETCD_CLIENT);
    let peer = url(config.advertise_address, Port::ETCD_PEER);
    let loopback = loopback(config);
    let data_dir = config.local_etcd().and_then(|local| local.data_dir.as_deref());
    vec![
        ("name", name.to_owned()),
        ("feature-gates", "InitialCorruptCheck=true".into()),
        ("listen-client-urls", format!("https://{loopback}:{},{client}", Port::ETCD_CLIENT)),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer.clone()),
        ("initial-cluster", format!("{name}={peer}")),
        ("initial-advertise-peer-urls", peer),
        ("data-dir", data_dir.unwrap_or(Path::new(value::ETCD_DATA_DIR)).display().to_string()),
        ("cert-file", below(&dir, "etcd/server.crt")),
        ("key-file", below(&dir, "etcd/server.key")),
        ("trusted-ca-file", below(&dir, "etcd/ca.crt")),
        ("client-cert-auth", "true".into()),
        ("peer-cert-file", below(&dir, "etcd/peer.crt")),
        ("peer-key-file", below(&dir, "etcd/peer.key")),
        ("peer-trusted-ca-file", below(&dir, "etcd/ca.crt")),
        ("peer-client-cert-auth", "true".into()),
        ("snapshot-count", "10000".into()),
        ("listen-metrics-urls", format!("http://{loopback}:2381")),
        ("watch-progress-notify-interval", "5s".into()),
    ]
}

fn apiserver(config: &Config) -> Pairs {
    let dir = pki(config);
    let domain = or(config.dns_domain.as_ref(), value::DNS_DOMAIN);
    let mut pairs = vec![
        (
            "advertise-address",
            config.advertise_address.map(|address| address.to_string()).unwrap_or_default(),
        ),
        ("enable-admission-plugins", "NodeRestriction".into()),
        ("service-cluster-ip-range", or(config.service_subnet.as_ref(), value::SERVICE_SUBNET)),
        ("service-account-key-file", below(&dir, "sa.pub")),
        ("service-account-signing-key-file", below(&dir, "sa.key")),
        ("service-account-issuer", format!("https://kubernetes.default.svc.{domain}")),
        ("client-ca-file", below(&dir, "ca.crt")),
        ("tls-cert-file", below(&dir, "apiserver.crt")),
        ("tls-private-key-file", below(&dir, "apiserver.key")),
        ("kubelet-client-certificate", below(&dir, "apiserver-kubelet-client.crt")),
        ("kubelet-client-key", below(&dir, "apiserver-kubelet-client.key")),
        ("enable-bootstrap-token-auth", "true".into()),
        ("secure-port", config.bind_port.unwrap_or(Port::APISERVER).to_string()),
        ("allow-privileged", "true".into()),
        ("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname".into()),
        ("requestheader-username-headers", "X-Remote-User".into()),
        ("requestheader-group-headers", "X-Remote-Group".into()),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".into()),
        ("requestheader-client-ca-file", below(&dir, "front-proxy-ca.crt")),
        ("requestheader-allowed-names", "front-proxy-client".into()),
        ("proxy-client-cert-file", below(&dir, "front-proxy-client.crt")),
        ("proxy-client-key-file", below(&dir, "front-proxy-client.key")),
    ];
    // The structured authorization config excludes the flag.
    if config.api_server.arg("authorization-config").is_none() {
        pairs.push(("authorization-mode", "Node,RBAC".into()));
    }
    pairs.extend(etcd_client(config, &dir));
    pairs
}

fn etcd_client(config: &Config, dir: &Path) -> Pairs {
    if let Some(external) = config.external_etcd() {
        let mut pairs = vec![("etcd-servers", external.endpoints.join(","))];
        let text = |path: &Path| path.display().to_string();
        if !external.ca_file.as_os_str().is_empty() {
            pairs.push(("etcd-cafile", text(&external.ca_file)));
        }
        if !external.cert_file.as_os_str().is_empty() && !external.key_file.as_os_str().is_empty() {
            pairs.push(("etcd-certfile", text(&external.cert_file)));
            pairs.push(("etcd-keyfile", text(&external.key_file)));
        }
        return pairs;
    }
    let advertised = config.local_etcd().and_then(|local| local.settings.arg("advertise-client-urls"));
    let servers = advertised
        .map_or_else(|| format!("https://{}:{}", loopback(config), Port::ETCD_CLIENT), ToOwned::to_owned);
    vec![
        ("etcd-servers", servers),
        ("etcd-cafile", below(dir, "etcd/ca.crt")),
        ("etcd-certfile", below(dir, "apiserver-etcd-client.crt")),
        ("etcd-keyfile", below(dir, "apiserver-etcd-client.key")),
    ]
}

fn controller_manager(config: &Config, external_ca: bool) -> Pairs {
    const KUBECONFIG: &str = "/etc/kubernetes/controller-manager.conf";
    let dir = pki(config);
    let ca = below(&dir, "ca.crt");
    let (signing_cert, signing_key) =
        if external_ca { (String::new(), String::new()) } else { (ca.clone(), below(&dir, "ca.key")) };
    let mut pairs = vec![
        ("bind-address", "127.0.0.1".into()),
        ("leader-elect", "true".into()),
        ("kubeconfig", KUBECONFIG.into()),
        ("authentication-kubeconfig", KUBECONFIG.into()),
        ("authorization-kubeconfig", KUBECONFIG.into()),
        ("client-ca-file", ca.clone()),
        ("requestheader-client-ca-file", below(&dir, "front-proxy-ca.crt")),
        ("root-ca-file", ca),
        ("service-account-private-key-file", below(&dir, "sa.key")),
        ("cluster-signing-cert-file", signing_cert),
        ("cluster-signing-key-file", signing_key),
        ("use-service-account-credentials", "true".into()),
        ("controllers", "*,bootstrapsigner,tokencleaner".into()),
        ("cluster-name", or(config.cluster_name.as_ref(), value::CLUSTER_NAME)),
    ];
    if let Some(pods) = &config.pod_subnet {
        pairs.push(("allocate-node-cidrs", "true".into()));
        pairs.push(("cluster-cidr", pods.clone()));
        pairs.push(("service-cluster-ip-range", or(config.service_subnet.as_ref(), value::SERVICE_SUBNET)));
    }
    pairs
}

fn scheduler() -> Pairs {
    const KUBECONFIG: &str = "/etc/kubernetes/scheduler.conf";
    vec![
        ("bind-address", "127.0.0.1".into()),
        ("leader-elect", "true".into()),
        ("kubeconfig", KUBECONFIG.into()),
        ("authentication-kubeconfig", KUBECONFIG.into()),
        ("authorization-kubeconfig", KUBECONFIG.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::manifest::StaticPod;

    macro_rules! recorded {
        ($name:literal) => {
            include_bytes!(concat!("../../testdata/kubeadm-1.36/", $name))
        };
    }

    #[test]
    fn the_recorded_commands_come_out_exactly() {
        let config = Config::parse(recorded!("kubeadm-config.yaml")).expect("config");
        for (component, bytes) in [
            (Component::Etcd, &recorded!("manifests/etcd.yaml")[..]),
            (Component::KubeApiserver, recorded!("manifests/kube-apiserver.yaml")),
            (Component::KubeControllerManager, recorded!("manifests/kube-controller-manager.yaml")),
            (Component::KubeScheduler, recorded!("manifests/kube-scheduler.yaml")),
        ] {
            let pod = StaticPod::parse(bytes).expect("manifest");
            assert_eq!(
                command_line(component, &config, false),
                pod.main().expect("container").argv,
                "{component}"
            );
        }
    }
}
