//! One engine per cluster, where the cluster can still say so.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::host::Host;
use crate::api::{ApiServer, refused};
use crate::error::{Error, ErrorKind, Result};
use crate::facts;
use crate::model::NodeName;
use crate::sys::Deadline;

/// Keeps two nodes from being worked on at once.
pub trait ClusterLock {
    /// Takes the lock or renews it; `peers` are the nodes of the other etcd members, as far as they are known.
    /// Returns `false` when the cluster cannot be asked: then the quorum projection alone is the guard.
    ///
    /// # Errors
    /// [`Busy`](crate::ErrorKind::Busy) naming the node that holds it, and since when.
    fn hold(&mut self, peers: &[IpAddr], deadline: &Deadline) -> Result<bool>;

    /// Gives it back, as far as the cluster can be asked.
    fn release(&mut self, deadline: &Deadline);
}

/// Where the lease lies (kubernetes `coordination.k8s.io/v1`).
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const NAME: &str = "cprecover";
/// Longer than any step may take; a node that dies in one blocks the others for this time.
const DURATION: Duration = Duration::from_mins(5);
/// How far the clocks of two nodes may be apart: the holder's wrote the time that ours judges.
const MAX_SKEW: Duration = Duration::from_mins(5);
/// How many other nodes' API servers are asked, and how long one and all of them may take.
const MAX_PEERS: usize = 8;
const ONE_SERVER: Duration = Duration::from_secs(5);
const ALL_SERVERS: Duration = Duration::from_secs(15);

/// A lease in `kube-system`, taken through this node's API server or, since that one has no other etcd than
/// this node's (kubeadm's stacked etcd), through another node's.
pub struct LeaseLock<'a> {
    host: &'a Host<'a>,
    /// Asked instead of the API server that the node's files name.
    server: Option<ApiServer>,
    /// The server that gave us the lease.
    held: Option<ApiServer>,
}

impl<'a> LeaseLock<'a> {
    /// Prepares to take the lease for this node.
    #[must_use]
    pub const fn new(host: &'a Host<'a>) -> Self {
        Self { host, server: None, held: None }
    }

    /// The servers to ask; `admin.conf` is read each time, since a watch outlives its certificate.
    fn servers(&self, peers: &[IpAddr]) -> Result<Vec<ApiServer>> {
        let own = self.server.clone().map_or_else(|| ApiServer::of_node(self.host.node), Ok)?;
        let others = peers.iter().take(MAX_PEERS).map(|ip| own.at(*ip));
        let others: Vec<_> = others.filter(|other| other.address() != own.address()).collect();
        Ok(std::iter::once(own).chain(others).collect())
    }

    fn holder(&self) -> Result<NodeName> {
        facts::require_node_name(self.host.node)
            .map_err(|error| error.context("take the cluster's lease under the node's name"))
    }

    fn now(&self) -> Result<jiff::Timestamp> {
        let millis = i64::try_from(self.host.unix_ms()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millis)
            .map_err(|source| Error::with_source(ErrorKind::Internal, "the clock", source))
    }

    fn spec(&self, old: Option<&Value>, holder: &str) -> Result<Value> {
        // MicroTime has six digits (kubernetes `apimachinery/pkg/apis/meta/v1/micro_time.go`).
        let now = format!("{:.6}", self.now()?);
        let is_ours = old.and_then(|old| old.get("holderIdentity")) == Some(&json!(holder));
        let since = old.filter(|_| is_ours).and_then(|old| old.get("acquireTime")).cloned();
        let transitions = old.and_then(|old| old.get("leaseTransitions")?.as_i64()).unwrap_or(0);
        Ok(json!({
            "holderIdentity": holder,
            "leaseDurationSeconds": DURATION.as_secs(),
            "acquireTime": since.unwrap_or_else(|| json!(now)),
            "renewTime": now,
            "leaseTransitions": transitions + i64::from(!is_ours),
        }))
    }

    /// Fails when another node holds a lease that has not run out.
    fn require_free(&self, spec: &Value, own: &NodeName) -> Result<()> {
        let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
        let holder = text("holderIdentity");
        if holder.is_empty() || holder == own.as_str() {
            return Ok(());
        }
        let seconds = spec.get("leaseDurationSeconds").and_then(Value::as_i64).unwrap_or(0);
        let ends = text("renewTime")
            .parse::<jiff::Timestamp>()
            .ok()
            .map(|at| at.as_second().saturating_add(seconds))
            .map(|ends| ends.saturating_add_unsigned(MAX_SKEW.as_secs()));
        // One whose time cannot be read may still be in force.
        if ends.is_some_and(|ends| ends < self.now().map_or(i64::MIN, jiff::Timestamp::as_second)) {
            return Ok(());
        }
        let since = text("acquireTime");
        let message =
            format!("this cluster is being worked on by node {holder} since {since} (lease {NAME})");
        Err(Error::new(ErrorKind::Busy, message))
    }

    /// Writes the lease, ours or given back; whoever was faster has it.
    fn write(&self, api: &ApiServer, own: &NodeName, give_back: bool, deadline: &Deadline) -> Result<()> {
        let holder = if give_back { "" } else { own.as_str() };
        let path = format!("{LEASES}/{NAME}");
        let (method, target, lease) = match api.call("GET", &path, None, deadline)? {
            (200, body) => {
                let mut lease: Value = serde_json::from_slice(&body)
                    .map_err(|source| Error::with_source(ErrorKind::Peer, "the lease", source))?;
                let old = lease.get("spec").cloned().unwrap_or_default();
                self.require_free(&old, own)?;
                let spec = self.spec(Some(&old), holder)?;
                if let Some(object) = lease.as_object_mut() {
                    object.insert("spec".into(), spec);
                }
                ("PUT", path.as_str(), lease)
            }
            (404, _) => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": { "name": NAME, "namespace": "kube-system" }, "spec": self.spec(None, holder)?,
                });
                ("POST", LEASES, lease)
            }
            // Whether a certificate is good needs no etcd, unlike what it may do: this server works, and would lock.
            (401, body) => {
                let error = refused(&path, 401, &body)
                    .context("renew admin.conf: the cluster's lease is not to be had");
                return Err(Error::new(ErrorKind::Refused, error.to_string()));
            }
            (status, body) => return Err(refused(&path, status, &body)),
        };
        match api.call(method, target, Some(&lease), deadline)? {
            (200 | 201, _) => Ok(()),
            (409, _) => {
                Err(Error::new(ErrorKind::Busy, format!("another node has just taken the lease {NAME}")))
            }
            (status, body) => Err(refused(target, status, &body)),
        }
    }
}

impl ClusterLock for LeaseLock<'_> {
    fn hold(&mut self, peers: &[IpAddr], deadline: &Deadline) -> Result<bool> {
        let servers = match self.servers(peers) {
            Ok(servers) => servers,
            Err(error) => {
                tracing::warn!(%error, "no lease: the API server cannot be asked");
                return Ok(false);
            }
        };
        let own = self.holder()?;
        let all = deadline.at_most(ALL_SERVERS);
        for server in servers {
            match self.write(&server, &own, false, &all.at_most(ONE_SERVER)) {
                Ok(()) => {
                    self.held = Some(server);
                    return Ok(true);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Busy | ErrorKind::Cancelled | ErrorKind::Refused
                    ) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(%error, server = %server.address(), "no lease by this API server");
                }
            }
        }
        Ok(false)
    }

    fn release(&mut self, deadline: &Deadline) {
        let Some(server) = self.held.take() else { return };
        let given = self.holder().and_then(|own| self.write(&server, &own, true, deadline));
        if let Err(error) = given {
            tracing::info!(%error, "the lease is not given back; it runs out by itself");
        }
    }
}

impl Drop for LeaseLock<'_> {
    fn drop(&mut self) {
        self.release(&Deadline::after(Duration::from_secs(3)));
    }
}

#[cfg(test)]
#[path = "cluster_lock_tests.rs"]
mod tests;
