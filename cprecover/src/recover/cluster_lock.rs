//! One engine per cluster, where the cluster can still say so.

use std::time::Duration;

use serde_json::{Value, json};

use super::host::Host;
use super::observe::node_name;
use crate::api::{ApiServer, refused};
use crate::error::{Error, ErrorKind, Result};
use crate::model::NodeName;
use crate::sys::Deadline;

/// Keeps two nodes from being worked on at once.
pub trait ClusterLock {
    /// Takes the lock or renews it. Returns `false` when the cluster cannot be asked: then the quorum
    /// projection alone is the guard.
    ///
    /// # Errors
    /// [`Busy`](crate::ErrorKind::Busy) naming the node that holds it, and since when.
    fn hold(&mut self, deadline: &Deadline) -> Result<bool>;

    /// Gives it back, as far as the cluster can be asked.
    fn release(&mut self, deadline: &Deadline);
}

/// Where the lease lies (kubernetes `coordination.k8s.io/v1`).
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const NAME: &str = "cprecover";
/// Longer than any step may take; a node that dies in one blocks the others for this time.
const DURATION: Duration = Duration::from_mins(5);

/// A lease in `kube-system`.
pub struct LeaseLock<'a> {
    host: &'a Host<'a>,
    api: Option<ApiServer>,
    holder: NodeName,
    held: bool,
}

impl<'a> LeaseLock<'a> {
    /// Prepares to take the lease for this node, by its own API server.
    #[must_use]
    pub fn new(host: &'a Host<'a>) -> Self {
        let api = ApiServer::of_node(host.node)
            .inspect_err(|error| tracing::debug!(%error, "no lease: the API server cannot be asked"))
            .ok();
        Self { host, api, holder: node_name(host), held: false }
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
    fn require_free(&self, spec: &Value) -> Result<()> {
        let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
        let holder = text("holderIdentity");
        if holder.is_empty() || holder == self.holder.as_str() {
            return Ok(());
        }
        let seconds = spec.get("leaseDurationSeconds").and_then(Value::as_i64).unwrap_or(0);
        let ends = text("renewTime")
            .parse::<jiff::Timestamp>()
            .ok()
            .map(|at| at.as_second().saturating_add(seconds));
        // One whose time cannot be read may still be in force.
        if ends.is_some_and(|ends| ends < self.now().map_or(i64::MIN, jiff::Timestamp::as_second)) {
            return Ok(());
        }
        let since = text("acquireTime");
        let message =
            format!("this cluster is being worked on by node {holder} since {since} (lease {NAME})");
        Err(Error::new(ErrorKind::Busy, message))
    }

    /// Writes the lease; whoever was faster has it.
    fn write(&self, api: &ApiServer, holder: &str, deadline: &Deadline) -> Result<()> {
        let path = format!("{LEASES}/{NAME}");
        let (method, target, lease) = match api.call("GET", &path, None, deadline)? {
            (200, body) => {
                let mut lease: Value = serde_json::from_slice(&body)
                    .map_err(|source| Error::with_source(ErrorKind::Peer, "the lease", source))?;
                let old = lease.get("spec").cloned().unwrap_or_default();
                self.require_free(&old)?;
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
    fn hold(&mut self, deadline: &Deadline) -> Result<bool> {
        let Some(api) = &self.api else { return Ok(false) };
        match self.write(api, self.holder.as_str(), &deadline.at_most(Duration::from_secs(5))) {
            Ok(()) => {
                self.held = true;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Cancelled) => Err(error),
            Err(error) => {
                tracing::info!(%error, "no lease: the API server does not answer");
                Ok(false)
            }
        }
    }

    fn release(&mut self, deadline: &Deadline) {
        if let (true, Some(api)) = (std::mem::take(&mut self.held), &self.api)
            && let Err(error) = self.write(api, "", deadline)
        {
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
