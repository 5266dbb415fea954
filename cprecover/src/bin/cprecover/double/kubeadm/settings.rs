//! The configuration that the double works with: file or flags, then kubeadm's dynamic defaults.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use cprecover::Result;
use cprecover::kubeadm::{Arg, Config, KubeadmVersion};
use cprecover::model::NodeName;

use super::command_line::Flags;
use super::{below, wrong};
use crate::console::say;

/// Everything that shapes a manifest.
pub(super) struct Settings {
    /// The config with name, address and version filled in.
    pub(super) config: Config,
    /// Whether there is a CA certificate without its key.
    pub(super) external_ca: bool,
    /// Where optional host folders are looked for.
    pub(super) host_root: PathBuf,
}

impl Settings {
    /// Loads the config and fills in what kubeadm would.
    pub(super) fn load(
        flags: &Flags,
        kubeadm: &KubeadmVersion,
        allow_loopback: bool,
        host_root: &Path,
    ) -> Result<Self> {
        let mut config = match flags.get("config") {
            Some(path) => from_file(path, kubeadm)?,
            None => from_flags(flags)?,
        };
        set_address(&mut config, allow_loopback)?;
        if config.node_name.is_none() {
            config.node_name = Some(NodeName::new(hostname().to_ascii_lowercase()));
        }
        set_version(&mut config, kubeadm)?;
        let pki =
            below(host_root, config.certificates_dir.as_deref().unwrap_or(Path::new("/etc/kubernetes/pki")));
        let external_ca = pki.join("ca.crt").exists() && !pki.join("ca.key").exists();
        Ok(Self { config, external_ca, host_root: host_root.to_owned() })
    }

    /// Returns etcd's data directory on the node.
    pub(super) fn data_dir(&self) -> &Path {
        self.config
            .local_etcd()
            .and_then(|local| local.data_dir.as_deref())
            .unwrap_or(Path::new("/var/lib/etcd"))
    }
}

fn from_file(path: &str, kubeadm: &KubeadmVersion) -> Result<Config> {
    let bytes = std::fs::read(path).map_err(|source| {
        let reason = source.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default().to_ascii_lowercase();
        wrong(&format!("unable to read config from \"{path}\" : open {path}: {reason}"))
    })?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for line in text.lines() {
        let Some(api) = line.strip_prefix("apiVersion:").map(|rest| rest.trim().trim_matches(['"', '\'']))
        else {
            continue;
        };
        if let Some(last) = last_version_with(api, kubeadm) {
            return Err(wrong(&format!(
                "your configuration file uses an old API spec: \"{api}\" (kind: \"ClusterConfiguration\"). Please use \
                 kubeadm {last} instead and run 'kubeadm config migrate --old-config old-config-file --new-config \
                 new-config-file', which will write the new, similar spec using a newer API version."
            )));
        }
        if api.ends_with("/v1beta4") && kubeadm.minor() < 31 {
            return Err(wrong(&format!(
                "no kind \"ClusterConfiguration\" is registered for version \"{api}\" in scheme"
            )));
        }
        if api.ends_with("/v1beta3") && kubeadm.minor() >= 31 {
            warn(
                "common.go:101",
                &format!(
                    "your configuration file uses a deprecated API spec: \"{api}\" (kind: \"ClusterConfiguration\"). \
                     Please use 'kubeadm config migrate --old-config old-config-file --new-config new-config-file', \
                     which will write the new, similar spec using a newer API version."
                ),
            );
        }
    }
    Config::parse(&bytes)
}

/// Returns the last kubeadm that reads `api` when this one does not any more.
fn last_version_with(api: &str, kubeadm: &KubeadmVersion) -> Option<&'static str> {
    match api.strip_prefix("kubeadm.k8s.io/")? {
        "v1alpha1" | "v1alpha2" | "v1alpha3" => Some("v1.14"),
        "v1beta1" => Some("v1.15"),
        "v1beta2" if kubeadm.minor() >= 27 => Some("v1.22"),
        "v1beta3" if kubeadm.minor() >= 37 => Some("v1.36"),
        _ => None,
    }
}

fn from_flags(flags: &Flags) -> Result<Config> {
    let text = |name: &str| flags.get(name).cloned();
    let mut config = Config::default();
    if let Some(address) = text("apiserver-advertise-address") {
        config.advertise_address = Some(address.parse().map_err(|_| {
            wrong(&format!(
                "couldn't use \"{address}\" as \"apiserver-advertise-address\", must be ipv4 or ipv6 address"
            ))
        })?);
    }
    config.bind_port = text("apiserver-bind-port").map(|port| port.parse()).transpose()?;
    config.kubernetes_version = text("kubernetes-version");
    config.service_subnet = text("service-cidr");
    config.pod_subnet = text("pod-network-cidr");
    config.control_plane_endpoint = text("control-plane-endpoint");
    config.image_repository = text("image-repository");
    config.certificates_dir = text("cert-dir").map(PathBuf::from);
    config.patches_dir = text("patches").map(PathBuf::from);
    for (flag, settings) in [
        ("apiserver-extra-args", &mut config.api_server),
        ("controller-manager-extra-args", &mut config.controller_manager),
        ("scheduler-extra-args", &mut config.scheduler),
    ] {
        let list = text(flag).unwrap_or_default();
        settings.extra_args = list
            .split(',')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair
                    .split_once('=')
                    .ok_or_else(|| wrong(&format!("invalid argument \"{list}\" for \"--{flag}\" flag")))?;
                Ok(Arg::new(name, value))
            })
            .collect::<Result<_>>()?;
    }
    Ok(config)
}

fn set_address(config: &mut Config, allow_loopback: bool) -> Result<()> {
    let address = match config.advertise_address {
        Some(address) if address.is_loopback() => {
            if !allow_loopback {
                return Err(wrong("unable to select an IP from lo network interface"));
            }
            address
        }
        Some(address) if !address.is_unspecified() => address,
        _ => default_route_address().unwrap_or_else(|| {
            warn(
                "common.go:189",
                "WARNING: could not obtain a bind address for the API Server: no default routes found in \
                 \"/proc/net/route\" or \"/proc/net/ipv6_route\"; using: 0.0.0.0",
            );
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        }),
    };
    if address.is_unspecified() || address.is_multicast() {
        return Err(wrong(&format!("cannot use \"{address}\" as the bind address for the API Server")));
    }
    config.advertise_address = Some(address);
    Ok(())
}

fn set_version(config: &mut Config, kubeadm: &KubeadmVersion) -> Result<()> {
    let asked = config.kubernetes_version.clone().unwrap_or_else(|| "stable-1".into());
    if asked.starts_with("stable") || asked.starts_with("latest") {
        warn(
            "version.go:108",
            &format!(
                "could not fetch a Kubernetes version from the internet: unable to get URL \
                 \"https://dl.k8s.io/release/{asked}.txt\": Get \"https://dl.k8s.io/release/{asked}.txt\": dial tcp: \
                 lookup dl.k8s.io on 10.255.255.53:53: no such host"
            ),
        );
        warn("version.go:109", &format!("falling back to the local client version: {kubeadm}"));
        config.kubernetes_version = Some(kubeadm.to_string());
        return Ok(());
    }
    let cluster: KubeadmVersion = asked.parse().map_err(|_| {
        wrong(&format!("couldn't parse Kubernetes version \"{asked}\": could not parse as version"))
    })?;
    let oldest = kubeadm.minor().saturating_sub(1);
    if cluster.minor() < oldest {
        return Err(wrong(&format!(
            "this version of kubeadm only supports deploying clusters with the control plane version >= 1.{oldest}.0. \
             Current version: {cluster}"
        )));
    }
    config.kubernetes_version = Some(cluster.to_string());
    Ok(())
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the address of the interface with the default route; sends nothing.
fn default_route_address() -> Option<IpAddr> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    routes.lines().skip(1).find(|line| line.split_whitespace().nth(1) == Some("00000000"))?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Connecting a datagram socket only chooses the source address (192.0.2.0/24 is for documentation).
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// Prints a warning as klog does: `W1123 23:58:25.237740   10797 version.go:108] …`.
fn warn(place: &str, message: &str) {
    let time = crate::double::klog_now();
    say(format_args!("W{time} {:7} {place}] {message}", std::process::id()));
}
