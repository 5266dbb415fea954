//! Whom to ask, and how it proves who it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Port};
use crate::node::NodeOptions;
use crate::parse::manifest::{Listener, StaticPod};
use crate::parse::yaml;
use crate::sys::read_bounded;

/// How the server proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Plain HTTP, as on etcd's metrics port and kubelet's healthz port.
    PlainHttp,
    /// TLS; the chain must end in one of these PEM certificates and name `server_name`.
    Ca {
        /// PEM bytes of one or more CA certificates.
        roots_pem: Vec<u8>,
        /// DNS name or IP address that the certificate must carry.
        server_name: String,
    },
    /// TLS without any proof; only by the caller's explicit wish. A client key is never sent.
    Insecure,
}

/// The client certificate to present.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// PEM bytes of the certificate chain.
    pub chain_pem: Vec<u8>,
    /// PEM bytes of the private key.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must never reach a log.
        f.write_str("ClientIdentity { .. }")
    }
}

/// What to ask, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    /// Path and query, as in `/livez?verbose`.
    pub path: String,
    /// How the server proves who it is.
    pub trust: Trust,
    /// The client certificate, where one is needed.
    pub identity: Option<ClientIdentity>,
}

impl Target {
    /// Asks `path` at `address`.
    #[must_use]
    pub fn new(address: SocketAddr, path: impl Into<String>, trust: Trust) -> Self {
        Self { address, path: path.into(), trust, identity: None }
    }
}

/// Bounds of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// For the TCP connection.
    pub connect: Duration,
    /// From the connection to the first byte of the answer, TLS handshake included.
    pub first_byte: Duration,
    /// For everything.
    pub whole: Duration,
    /// How many bytes of the body are read.
    pub body_bytes: usize,
}

impl Default for Limits {
    /// 1 s to connect, 5 s to the first byte, 8 s in all, 1 MiB.
    ///
    /// kube-apiserver's etcd check gives up after 2 s (`--etcd-healthcheck-timeout`), so that a
    /// healthy API server with a hung etcd still answers within these bounds.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(5),
            whole: Duration::from_secs(8),
            body_bytes: crate::healthz::MAX_BODY_BYTES,
        }
    }
}

/// Returns how to ask `component` on this node: address, path, CA and client certificate from its
/// manifest and the node's pki folder.
///
/// kube-controller-manager and kube-scheduler serve a certificate that they sign themselves, which
/// kubelet's own probes do not verify either; for them `insecure` has to be given.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] when only `insecure` would work and it is not given; the kinds of a
/// failed read of the CA or the client certificate.
pub fn target_of(component: Component, node: &NodeOptions, insecure: bool) -> Result<Target> {
    let manifest = manifest_of(component, node)?;
    target_by_flags(component, node, |name| manifest.as_ref().and_then(|pod| pod.flag(name)), insecure)
}

/// As [`target_of`], by a manifest that need not stand on the node.
///
/// # Errors
/// As [`target_of`].
pub(crate) fn target_of_pod(component: Component, node: &NodeOptions, pod: &StaticPod) -> Result<Target> {
    target_by_flags(component, node, |name| pod.flag(name), false)
}

/// As [`target_of`], with the component's flags from elsewhere, such as a process' command line.
pub(super) fn target_by_flags<'a>(
    component: Component,
    node: &NodeOptions,
    flag: impl Fn(&str) -> Option<&'a str>,
    insecure: bool,
) -> Result<Target> {
    if component == Component::Etcd {
        return etcd(node, &Listener::of_flags(component, flag));
    }
    let (port_flag, default_port) = match component {
        Component::KubeApiserver => ("secure-port", 6443),
        Component::KubeControllerManager => ("secure-port", 10257),
        _ => ("secure-port", 10259),
    };
    let port = match flag(port_flag) {
        Some(text) => {
            text.parse::<Port>().map_err(|error| error.context(format!("{component}: --{port_flag}")))?.get()
        }
        None => default_port,
    };
    let ip = flag("bind-address")
        .and_then(|text| text.parse::<IpAddr>().ok())
        .filter(|ip| !ip.is_unspecified())
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = SocketAddr::new(ip, port);
    let path = "/healthz?verbose".to_owned();
    if insecure {
        return Ok(Target { address, path, trust: Trust::Insecure, identity: None });
    }
    if component != Component::KubeApiserver && flag("tls-cert-file").is_none() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!(
                "{component} signs its own certificate, so that only an insecure probe (`--insecure`) can ask it"
            ),
        ));
    }
    let trust = Trust::Ca {
        roots_pem: read(node, "ca.crt")?,
        // The one name that kubeadm puts into every API server's certificate, whatever the address
        // (kubeadm `util/pkiutil`, GetAPIServerAltNames).
        server_name: "kubernetes.default.svc".to_owned(),
    };
    let identity = identity(node, "apiserver-kubelet-client")?;
    Ok(Target { address, path, trust, identity })
}

/// How to ask etcd: its metrics listener in plain HTTP where it has one, as kubelet does, else its
/// client port.
fn etcd(node: &NodeOptions, listeners: &[Listener]) -> Result<Target> {
    let metrics = listeners.iter().find(|listener| listener.flag == "listen-metrics-urls" && !listener.tls);
    // /health is there in every version; with `?serializable=false` it would be the same.
    let path = "/health".to_owned();
    if let Some(listener) = metrics {
        let address = reachable(listener.address);
        return Ok(Target { address, path, trust: Trust::PlainHttp, identity: None });
    }
    let client = listeners.iter().find(|listener| listener.flag == "listen-client-urls");
    let address = reachable(
        client.map_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 2379), |listener| listener.address),
    );
    if client.is_some_and(|listener| !listener.tls) {
        return Ok(Target { address, path, trust: Trust::PlainHttp, identity: None });
    }
    let trust = Trust::Ca { roots_pem: read(node, "etcd/ca.crt")?, server_name: address.ip().to_string() };
    let identity = identity(node, "etcd/healthcheck-client")?;
    Ok(Target { address, path, trust, identity })
}

/// A listener on all addresses is asked on the loopback one.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

/// Reads a component's manifest; `None` when there is none or it does not parse, for then the
/// defaults are as good as anything.
fn manifest_of(component: Component, node: &NodeOptions) -> Result<Option<StaticPod>> {
    let path = node.manifests().join(component.manifest_file());
    match read_bounded(&path, yaml::MAX_DOCUMENT_BYTES) {
        Ok(bytes) => Ok(StaticPod::parse_as_kubelet(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(node: &NodeOptions, name: &str) -> Result<Vec<u8>> {
    read_bounded(&node.resolve(node.pki_dir.join(name)), yaml::MAX_DOCUMENT_BYTES)
}

/// Reads a client certificate and its key; a node without one asks anonymously.
fn identity(node: &NodeOptions, name: &str) -> Result<Option<ClientIdentity>> {
    let chain = read(node, &format!("{name}.crt"));
    let key = read(node, &format!("{name}.key"));
    match (chain, key) {
        (Ok(chain_pem), Ok(key_pem)) => Ok(Some(ClientIdentity { chain_pem, key_pem })),
        (Err(error), _) | (_, Err(error)) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(None),
    }
}
