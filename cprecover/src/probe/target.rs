//! Whom to ask, and how it proves who it is.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Result;
use crate::model::Component;
use crate::node::NodeOptions;

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
    let _ = (component, node, insecure);
    todo!()
}
