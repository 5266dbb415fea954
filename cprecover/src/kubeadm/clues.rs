//! What certificates, kubeconfigs and kubelet's files tell about the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;
use x509_parser::extensions::GeneralName;

use super::evidence::Candidates;
use super::origin::Origin;
use super::sources::Sources;
use crate::parse::{kubelet, yaml};

/// Names and addresses of one certificate.
#[derive(Debug, Clone, Default)]
pub(super) struct CertificateNames {
    pub(super) common_name: Option<String>,
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    /// Seconds since 1970.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// Reads the first certificate of a PEM file; `None` when there is none that can be read.
pub(super) fn certificate(pem: &[u8]) -> Option<CertificateNames> {
    // A bundle may begin with a key (kubelet-client-current.pem).
    let block = x509_parser::pem::Pem::iter_from_buffer(pem)
        .take(8)
        .filter_map(Result::ok)
        .find(|block| block.label == "CERTIFICATE")?;
    let parsed = block.parse_x509().ok()?;
    let mut names = CertificateNames {
        common_name: parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|cn| cn.as_str().ok())
            .map(ToOwned::to_owned),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        ..CertificateNames::default()
    };
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
                GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    Some(names)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| IpAddr::V6(Ipv6Addr::from(v6)))
}

/// What the node's files tell, each list in the order of trust.
#[derive(Debug, Default)]
pub(super) struct Clues {
    pub(super) node_name: Candidates<String>,
    pub(super) advertise_address: Candidates<IpAddr>,
    pub(super) cri_socket: Candidates<String>,
    pub(super) dns_domain: Candidates<String>,
    pub(super) cluster_name: Candidates<String>,
    /// `server` of the kubeconfigs, without the scheme.
    pub(super) servers: Candidates<String>,
}

impl Clues {
    /// Reads certificates, kubeconfigs and kubelet's files; what cannot be read tells nothing.
    pub(super) fn of(sources: &Sources) -> Self {
        let mut clues = Self::default();
        clues.kubelet_files(sources);
        clues.kubeconfigs(sources);
        clues.certificates(sources);
        clues
    }

    fn certificates(&mut self, sources: &Sources) {
        for source in &sources.certificates {
            let Some(names) = source.pem.present().and_then(|pem| certificate(pem)) else { continue };
            let origin = |what: &str| Origin::Certificate(format!("{} {what}", source.name));
            match source.name.as_str() {
                // kubeadm `cmd/kubeadm/app/phases/certs`: CN = node name, SANs = node name, localhost,
                // advertise address, loopback.
                "etcd/server.crt" | "etcd/peer.crt" => {
                    if let Some(name) = names.common_name.filter(|name| !name.is_empty()) {
                        self.node_name.push((name, origin("common name")));
                    }
                    let own: Vec<IpAddr> = names.addresses.into_iter().filter(|a| !a.is_loopback()).collect();
                    if let [address] = own.as_slice() {
                        self.advertise_address.push((*address, origin("IP")));
                    }
                }
                "apiserver.crt" => {
                    let domain =
                        names.dns.iter().find_map(|name| name.strip_prefix("kubernetes.default.svc."));
                    if let Some(domain) = domain {
                        self.dns_domain.push((domain.to_owned(), origin("DNS name")));
                    }
                }
                _ => {
                    let name = names.common_name.as_deref().and_then(|cn| cn.strip_prefix("system:node:"));
                    if let Some(name) = name {
                        self.node_name.push((name.to_owned(), origin("common name")));
                    }
                }
            }
        }
    }

    fn kubeconfigs(&mut self, sources: &Sources) {
        for (name, bytes) in &sources.kubeconfigs {
            let Ok(config) = yaml::from_slice::<Value>(bytes) else { continue };
            let origin = |what: &str| Origin::Kubeconfig(format!("{name} {what}"));
            let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str);
            if let Some(cluster) = text("/clusters/0/name").filter(|cluster| *cluster != "default-cluster") {
                self.cluster_name.push((cluster.to_owned(), origin("cluster name")));
            }
            if let Some(server) = text("/clusters/0/cluster/server") {
                let server = server.strip_prefix("https://").unwrap_or(server).trim_end_matches('/');
                self.servers.push((server.to_owned(), origin("server")));
            }
            if let Some(node) = text("/users/0/name").and_then(|user| user.strip_prefix("system:node:")) {
                self.node_name.push((node.to_owned(), origin("user")));
            }
        }
    }

    fn kubelet_files(&mut self, sources: &Sources) {
        if let Some(flags) = &sources.kubeadm_flags {
            let text = String::from_utf8_lossy(flags);
            let origin = |flag: &str| Origin::KubeletFile(format!("kubeadm-flags.env --{flag}"));
            let told = |name: &str| Some((kubelet::flag(&text, name)?.to_owned(), origin(name)));
            self.cri_socket.extend(told("container-runtime-endpoint"));
            self.node_name.extend(told("hostname-override"));
        }
        for (name, bytes) in
            [("instance-config.yaml", &sources.instance_config), ("config.yaml", &sources.kubelet_config)]
        {
            let told = |key: &str| {
                let value = kubelet::setting(bytes.as_ref()?, key).ok()??;
                Some((value, Origin::KubeletFile(format!("{name} {key}"))))
            };
            self.cri_socket.extend(told("containerRuntimeEndpoint"));
            self.dns_domain.extend(told("clusterDomain"));
        }
    }
}
