//! Asks a running member over its HTTP gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::check::own_manifest;
use super::gateway::{Alarm, Health, Member, MemberList, Status, Version};
use super::http::{self, Limits, Reply, Request, Tls};
use super::project::{ClusterView, MemberHealth, MemberView, ViewSource};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Component;
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::sys::{Deadline, read_bounded};

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

/// The longest answer that is read, a snapshot apart.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Where kubeadm puts the certificate of its own health checks (kubernetes
/// `cmd/kubeadm/app/constants/constants.go`, `EtcdHealthcheckClientCertAndKeyBaseName`).
const HEALTHCHECK_CERT: &str = "etcd/healthcheck-client";
/// How large a certificate file is read.
const MAX_PEM_BYTES: usize = 1 << 20;

/// Asks one member; one connection per call, no thread, nothing kept open.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    tls: Option<Tls>,
}

impl Client {
    /// Makes a client.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for PEM or a server name that cannot be used.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let tls = options.tls.as_ref().map(|tls| tls_of(tls, options.address)).transpose()?;
        Ok(Self { options, tls })
    }

    /// Makes a client for the node's own member by the manifest that kubelet runs; see [`Client::of_node`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no `etcd.yaml`, otherwise as [`Client::of_node`].
    pub fn of_manifest(node: &NodeOptions) -> Result<Self> {
        let etcd = own_manifest(node)?;
        Self::of_node(node, &etcd)
            .map_err(|error| error.context(node.manifests().join(Component::Etcd.manifest_file()).display()))
    }

    /// Makes a client for the node's own member: address from the manifest's `--listen-client-urls`
    /// (loopback first), CA and `healthcheck-client` certificate from the node's pki folder.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when the manifest names no address, and the kinds of a failed read.
    pub fn of_node(node: &NodeOptions, etcd: &StaticPod) -> Result<Self> {
        let mut listeners: Vec<_> =
            etcd.listeners().into_iter().filter(|listener| listener.flag == "listen-client-urls").collect();
        listeners.sort_by_key(|listener| !listener.address.ip().is_loopback());
        let Some(listener) = listeners.first() else {
            return Err(Error::new(
                ErrorKind::Invalid,
                "etcd's manifest has no --listen-client-urls with an address",
            ));
        };
        // A wildcard is where it listens, not where one can ask it.
        let mut address = listener.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let tls = if listener.tls {
            let read = |name: &str| read_bounded(&node.resolve(node.pki_dir.join(name)), MAX_PEM_BYTES);
            let chain = read(&format!("{HEALTHCHECK_CERT}.crt"))?;
            let key = read(&format!("{HEALTHCHECK_CERT}.key"))?;
            Some(ClientTls::new(read("etcd/ca.crt")?).identity(chain, key))
        } else {
            None
        };
        Self::new(ClientOptions::new(address, tls))
    }

    /// Makes a client for another member with the same certificates and bounds.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_address(&self, address: SocketAddr) -> Result<Self> {
        Self::new(ClientOptions { address, ..self.options.clone() })
    }

    /// Bounds each call more tightly: the TCP connection by `connect`, every silence by `silence`.
    #[must_use]
    pub fn within(mut self, connect: Duration, silence: Duration) -> Self {
        self.options.connect = connect;
        self.options.silence = silence;
        self
    }

    /// Returns whom this client asks.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.options.address
    }

    /// Lists the members as this member sees them; needs no quorum.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] and [`crate::ErrorKind::Cancelled`] by the deadlines,
    /// [`crate::ErrorKind::Peer`] when it cannot be reached, fails or answers nonsense.
    pub fn members(&self, deadline: &Deadline) -> Result<MemberList> {
        MemberList::parse(&self.call("/cluster/member/list", "{}", deadline)?)
            .map_err(|error| self.named(error))
    }

    /// Asks how this member is doing; needs no quorum.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub fn status(&self, deadline: &Deadline) -> Result<Status> {
        Status::parse(&self.call("/maintenance/status", "{}", deadline)?).map_err(|error| self.named(error))
    }

    /// Lists the alarms that are set; needs a quorum.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub fn alarms(&self, deadline: &Deadline) -> Result<Vec<Alarm>> {
        let body = self.call("/maintenance/alarm", r#"{"action":"GET"}"#, deadline)?;
        Alarm::parse_list(&body).map_err(|error| self.named(error))
    }

    /// Asks `/health`; needs a quorum to say "healthy".
    ///
    /// # Errors
    /// As [`Client::members`].
    pub fn health(&self, deadline: &Deadline) -> Result<Health> {
        let (_, body) = self.ask("/health", None, deadline)?;
        Health::parse(&body).map_err(|error| self.named(error))
    }

    /// Asks `/version`.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub fn version(&self, deadline: &Deadline) -> Result<Version> {
        let (_, body) = self.ask("/version", None, deadline)?;
        Version::parse(&body).map_err(|error| self.named(error))
    }

    /// Starts a snapshot; the answer is a stream of JSON lines.
    pub(super) fn start_snapshot(&self, deadline: &Deadline) -> Result<Reply> {
        let reply = self.send("/v3/maintenance/snapshot", Some("{}"), deadline)?;
        let reply = if reply.status == 404 {
            self.send("/v3beta/maintenance/snapshot", Some("{}"), deadline)?
        } else {
            reply
        };
        if reply.status == 200 {
            return Ok(reply);
        }
        let status = reply.status;
        let body = reply.read_all(MAX_ANSWER_BYTES, deadline)?;
        Err(self.refused("/maintenance/snapshot", status, &body))
    }

    /// Lists the members and asks each how it is doing, one after the other.
    ///
    /// A member is healthy when it answers, is of this cluster and follows a leader. It is unhealthy when
    /// it says otherwise, never started, or when nobody listens at any of its client URLs; it is unknown
    /// in all other cases, a host name among them, since nothing is resolved here.
    ///
    /// # Errors
    /// As [`Client::members`], for the list alone.
    pub fn survey(&self, deadline: &Deadline) -> Result<ClusterView> {
        let list = self.members(deadline)?;
        let count = u32::try_from(list.members.len()).unwrap_or(u32::MAX).max(1);
        let mut members = Vec::new();
        for (done, member) in (0_u32..).zip(&list.members) {
            let share = deadline.at_most(deadline.remaining() / count.saturating_sub(done).max(1));
            let answer = self.ask_member(&list, member, &share);
            // A cancelled survey says nothing about anybody.
            if deadline.remaining() > Duration::ZERO {
                deadline.check("survey of the cluster")?;
            }
            let leader = answer.1;
            members.push(MemberView {
                id: Some(member.id),
                name: member.name.clone(),
                peer_urls: member.peer_urls.clone(),
                client_urls: member.client_urls.clone(),
                learner: member.learner,
                leader,
                health: answer.0,
            });
        }
        Ok(ClusterView { source: ViewSource::Cluster, members })
    }

    /// Returns a member's health and whether it leads.
    fn ask_member(&self, list: &MemberList, member: &Member, deadline: &Deadline) -> (MemberHealth, bool) {
        if member.id == list.member_id {
            return judge(self.status(deadline), list, member);
        }
        let mut refused = true;
        for url in &member.client_urls {
            let Some((tls, address)) = address_of(url) else {
                refused = false;
                continue;
            };
            if tls != self.options.tls.is_some() {
                refused = false;
                continue;
            }
            let answer = self.with_address(address).and_then(|client| client.status(deadline));
            match answer {
                Err(error) if error.os_error() == Some(nix::libc::ECONNREFUSED) => {}
                Err(error) => {
                    tracing::debug!(member = %member.id, %address, %error, "member does not answer");
                    refused = false;
                }
                Ok(status) => return judge(Ok(status), list, member),
            }
        }
        (if refused { MemberHealth::Unhealthy } else { MemberHealth::Unknown }, false)
    }

    fn call(&self, method: &str, json: &str, deadline: &Deadline) -> Result<Vec<u8>> {
        // etcd 3.4 and newer serve /v3, 3.3 serves /v3beta (and /v3 not at all).
        let (mut status, mut body) = self.ask(&format!("/v3{method}"), Some(json), deadline)?;
        if status == 404 {
            (status, body) = self.ask(&format!("/v3beta{method}"), Some(json), deadline)?;
        }
        if status == 200 { Ok(body) } else { Err(self.refused(method, status, &body)) }
    }

    fn ask(&self, path: &str, json: Option<&str>, deadline: &Deadline) -> Result<(u16, Vec<u8>)> {
        let deadline = deadline.at_most(self.options.whole);
        let reply = self.send(path, json, &deadline)?;
        Ok((reply.status, reply.read_all(MAX_ANSWER_BYTES, &deadline)?))
    }

    fn send(&self, path: &str, json: Option<&str>, deadline: &Deadline) -> Result<Reply> {
        let limits = Limits { connect: self.options.connect, silence: self.options.silence };
        http::send(self.options.address, self.tls.as_ref(), Request::new(path, json), limits, deadline)
            .map_err(|error| error.context("etcd"))
    }

    fn named(&self, error: Error) -> Error {
        error.context(format!("etcd at {}", self.options.address))
    }

    fn refused(&self, method: &str, status: u16, body: &[u8]) -> Error {
        // Newer gateways send both "error" and "message", older ones only "error".
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let text = ["message", "error"].iter().find_map(|key| value.get(*key)?.as_str().map(str::to_owned));
        let text = text.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(200).collect());
        let message = format!("{method} answered {status}: {}", text.trim());
        self.named(Error::new(ErrorKind::Peer, message))
    }
}

fn judge(status: Result<Status>, list: &MemberList, member: &Member) -> (MemberHealth, bool) {
    match status {
        Ok(status) => {
            // Another member may have taken over the address.
            let same = status.cluster_id == list.cluster_id && status.member_id == member.id;
            let leader = same && status.leader == Some(member.id);
            let healthy = same && status.leader.is_some();
            (if healthy { MemberHealth::Healthy } else { MemberHealth::Unhealthy }, leader)
        }
        Err(_) => (MemberHealth::Unknown, false),
    }
}

/// Returns whether a client URL is for TLS, and its address; `None` for a host name.
fn address_of(url: &str) -> Option<(bool, SocketAddr)> {
    let (scheme, rest) = url.split_once("://")?;
    let address = rest.trim_end_matches('/').replace("localhost:", "127.0.0.1:").parse().ok()?;
    Some((scheme == "https", address))
}

pub(crate) fn tls_of(tls: &ClientTls, address: SocketAddr) -> Result<Tls> {
    let invalid = |what: &'static str| {
        move |source: rustls_pki_types::pem::Error| Error::with_source(ErrorKind::Invalid, what, source)
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&tls.ca_pem) {
        let certificate = certificate.map_err(invalid("etcd CA"))?;
        roots.add(certificate).map_err(|source| Error::with_source(ErrorKind::Invalid, "etcd CA", source))?;
    }
    if roots.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "etcd CA: no certificate in the PEM"));
    }
    let refused = |source: rustls::Error| Error::with_source(ErrorKind::Invalid, "etcd client TLS", source);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_root_certificates(roots);
    let config = match &tls.identity_pem {
        Some((chain, key)) => {
            let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
            let chain = chain.map_err(invalid("etcd client certificate"))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(invalid("etcd client key"))?;
            builder.with_client_auth_cert(chain, key).map_err(refused)?
        }
        None => builder.with_no_client_auth(),
    };
    let server_name = match &tls.server_name {
        Some(name) => ServerName::try_from(name.clone()).map_err(|source| {
            Error::with_source(ErrorKind::Invalid, format!("server name {name:?}"), source)
        })?,
        None => ServerName::from(address.ip()),
    };
    Ok(Tls { config: Arc::new(config), server_name })
}
