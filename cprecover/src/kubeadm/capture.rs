//! Saving the kubeadm config while the cluster is healthy.

use serde_json::Value;

use super::facts::PodFacts;
use super::reconstruct::reconstruct;
use super::reconstruction::Reconstruction;
use super::sources::Sources;
use super::version::ApiVersion;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Component;
use crate::parse::yaml;
use crate::sys::Deadline;

/// Reads an object from the API server.
pub trait ClusterReader {
    /// Returns the `ConfigMap` as JSON or YAML, as the API gives it.
    ///
    /// # Errors
    /// Any kind; the caller captures what the node's disk tells when the API does not answer.
    fn config_map(&self, namespace: &str, name: &str, deadline: &Deadline) -> Result<Vec<u8>>;
}

/// Asks the first reader, and the second when the first cannot tell.
pub struct EitherReader<'a>(pub &'a dyn ClusterReader, pub &'a dyn ClusterReader);

impl ClusterReader for EitherReader<'_> {
    fn config_map(&self, namespace: &str, name: &str, deadline: &Deadline) -> Result<Vec<u8>> {
        self.0.config_map(namespace, name, deadline).or_else(|first| {
            self.1
                .config_map(namespace, name, deadline)
                .map_err(|second| Error::new(second.kind(), format!("{first}; {second}")))
        })
    }
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
/// kubeadm keeps `ClusterConfiguration` in `kube-system/kubeadm-config`, without this node's name and
/// address, and no copy on the node (kubernetes/kubeadm#1829). When the API does not answer, the
/// config is reconstructed from `sources` alone and [`Captured::cluster_unread`] says why.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the `ConfigMap` is malformed; [`ErrorKind::Unsupported`] for a config of
/// an API version that this crate does not know; [`ErrorKind::Missing`] when a value is not known, or a
/// manifest has what kubeadm cannot make. A manifest that cannot be read fails too: a config that lacks
/// what it says would be believed later.
pub fn capture(sources: &Sources, cluster: &dyn ClusterReader, deadline: &Deadline) -> Result<Captured> {
    for manifest in &sources.manifests {
        PodFacts::of_manifest(manifest).map_err(|error| error.context(&manifest.name))?;
    }
    let mut sources = sources.clone();
    let mut cluster_unread = None;
    match cluster.config_map("kube-system", "kubeadm-config", deadline) {
        Ok(object) => {
            let document = cluster_configuration(&object)?;
            sources.config = Some(("kube-system/kubeadm-config".into(), document));
        }
        Err(error) => cluster_unread = Some(error.to_string()),
    }
    let reconstruction = reconstruct(&sources)?;
    // What a saved config does not say counts as kubeadm's default later; so it must say all.
    let external = reconstruction.config.external_etcd().is_some();
    let components: Vec<Component> =
        Component::ALL.into_iter().filter(|component| !(external && *component == Component::Etcd)).collect();
    reconstruction.require_complete(&components, &[])?;
    let config = reconstruction.render(ApiVersion::V1Beta4)?;
    Ok(Captured { config, reconstruction, cluster_unread })
}

/// Takes `data.ClusterConfiguration` out of the `ConfigMap`.
fn cluster_configuration(object: &[u8]) -> Result<Vec<u8>> {
    let value: Value = yaml::from_slice(object).map_err(|error| error.context("kubeadm-config"))?;
    value
        .pointer("/data/ClusterConfiguration")
        .and_then(Value::as_str)
        .map(|text| text.as_bytes().to_vec())
        .ok_or_else(|| Error::new(ErrorKind::Invalid, "ConfigMap kubeadm-config has no ClusterConfiguration"))
}
