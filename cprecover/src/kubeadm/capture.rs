//! Saving the kubeadm config while the cluster is healthy.

use super::reconstruct::Reconstruction;
use super::sources::Sources;
use crate::error::Result;
use crate::sys::Deadline;

/// Reads an object from the API server.
pub trait ClusterReader {
    /// Returns the `ConfigMap` as JSON or YAML, as the API gives it.
    ///
    /// # Errors
    /// Any kind; the caller captures what the node's disk tells when the API does not answer.
    fn config_map(&self, namespace: &str, name: &str, deadline: &Deadline) -> Result<Vec<u8>>;
}

/// A config to keep for the day when the cluster does not answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Captured {
    /// The whole config as YAML: `InitConfiguration` of this node and `ClusterConfiguration`.
    pub config: Vec<u8>,
    /// Where each value comes from.
    pub reconstruction: Reconstruction,
    /// Why the cluster's own `ClusterConfiguration` is not in it, if so.
    pub cluster_unread: Option<String>,
}

/// Captures the cluster's `kubeadm-config` and this node's part of the config.
///
/// Source: kubeadm keeps `ClusterConfiguration` in `kube-system/kubeadm-config` and no copy on the node
/// (kubernetes/kubeadm#1829).
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] when the `ConfigMap` or a manifest is malformed.
pub fn capture(sources: &Sources, cluster: &dyn ClusterReader, deadline: &Deadline) -> Result<Captured> {
    let _ = (sources, cluster, deadline);
    todo!()
}
