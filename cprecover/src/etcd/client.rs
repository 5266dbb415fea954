//! Asks a running member over its HTTP gateway.

use std::net::SocketAddr;
use std::time::Duration;

use super::gateway::{Alarm, Health, MemberList, Status, Version};
use super::project::ClusterView;
use crate::error::Result;
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::sys::Deadline;

/// The certificates of a client.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientTls {
    /// PEM of the CA that signed the members' certificates.
    pub ca_pem: Vec<u8>,
    /// PEM of the client certificate and, where the server wants none, `None`.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The name or address that the server's certificate must carry; the address asked when `None`.
    pub server_name: Option<String>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must never reach a log.
        f.write_str("ClientTls { .. }")
    }
}

impl ClientTls {
    /// Trusts the members that `ca_pem` signed, and presents no certificate.
    #[must_use]
    pub fn new(ca_pem: Vec<u8>) -> Self {
        Self { ca_pem, identity_pem: None, server_name: None }
    }

    /// Presents a client certificate.
    #[must_use]
    pub fn identity(mut self, chain_pem: Vec<u8>, key_pem: Vec<u8>) -> Self {
        self.identity_pem = Some((chain_pem, key_pem));
        self
    }
}

/// Whom to ask, and how long.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Where the member listens for clients.
    pub address: SocketAddr,
    /// TLS; plain HTTP when `None`.
    pub tls: Option<ClientTls>,
    /// For the TCP connection; 1 s by default.
    pub connect: Duration,
    /// From the request to the first byte of the answer, and between two reads of it; 6 s by default,
    /// since `/health` itself gives up after 5 s (etcd `server/etcdserver/api/etcdhttp/health.go`).
    pub silence: Duration,
    /// For a whole call but a snapshot, which only the caller's deadline bounds; 10 s by default.
    pub whole: Duration,
}

impl ClientOptions {
    /// Asks `address` with default bounds and, unless `tls` is given, in plain HTTP.
    #[must_use]
    pub fn new(address: SocketAddr, tls: Option<ClientTls>) -> Self {
        Self {
            address,
            tls,
            connect: Duration::from_secs(1),
            silence: Duration::from_secs(6),
            whole: Duration::from_secs(10),
        }
    }
}

/// Asks one member; one connection per call, no thread, nothing kept open.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
}

impl Client {
    /// Makes a client.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for PEM or a server name that cannot be used.
    pub fn new(options: ClientOptions) -> Result<Self> {
        Ok(Self { options })
    }

    /// Makes a client for the node's own member: address from the manifest's `--listen-client-urls`
    /// (loopback first), CA and `healthcheck-client` certificate from the node's pki folder.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when the manifest names no address, and the kinds of a failed read.
    pub fn of_node(node: &NodeOptions, etcd: &StaticPod) -> Result<Self> {
        let _ = (node, etcd);
        todo!()
    }

    /// Makes a client for another member with the same certificates and bounds.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_address(&self, address: SocketAddr) -> Result<Self> {
        Self::new(ClientOptions { address, ..self.options.clone() })
    }

    /// Lists the members as this member sees them; needs no quorum.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] and [`crate::ErrorKind::Cancelled`] by the deadlines,
    /// [`crate::ErrorKind::Peer`] when it cannot be reached, fails or answers nonsense.
    pub fn members(&self, deadline: &Deadline) -> Result<MemberList> {
        let _ = deadline;
        todo!()
    }

    /// Asks how this member is doing; needs no quorum.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub fn status(&self, deadline: &Deadline) -> Result<Status> {
        let _ = deadline;
        todo!()
    }

    /// Lists the alarms that are set; needs a quorum.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub fn alarms(&self, deadline: &Deadline) -> Result<Vec<Alarm>> {
        let _ = deadline;
        todo!()
    }

    /// Asks `/health`; needs a quorum to say "healthy".
    ///
    /// # Errors
    /// As [`Client::members`].
    pub fn health(&self, deadline: &Deadline) -> Result<Health> {
        let _ = deadline;
        todo!()
    }

    /// Asks `/version`.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub fn version(&self, deadline: &Deadline) -> Result<Version> {
        let _ = deadline;
        todo!()
    }

    /// Lists the members and asks each how it is doing, one after the other.
    ///
    /// A member that does not answer within its share of the time is unhealthy when nobody listens at
    /// any of its client URLs, and unknown otherwise.
    ///
    /// # Errors
    /// As [`Client::members`], for the list alone.
    pub fn survey(&self, deadline: &Deadline) -> Result<ClusterView> {
        let _ = deadline;
        todo!()
    }
}
