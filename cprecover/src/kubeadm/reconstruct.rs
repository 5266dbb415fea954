//! The kubeadm config that this node must have had, each value with its origin.

use serde::Serialize;

use super::config::Config;
use super::origin::{Conflict, OriginatedField, Unknown};
use super::sources::Sources;
use super::version::ApiVersion;
use crate::error::Result;

/// A config put together from what is left, with the origin of each value and what is not known.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Reconstruction {
    /// The config.
    pub config: Config,
    /// Every value that is set, with its origin.
    pub fields: Vec<OriginatedField>,
    /// What no source tells.
    pub unknown: Vec<Unknown>,
    /// Where sources disagree.
    pub conflicts: Vec<Conflict>,
}

/// Reconstructs the kubeadm config from `sources`; reads nothing itself.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] when the backed-up config or a manifest is malformed; the message names it.
pub fn reconstruct(sources: &Sources) -> Result<Reconstruction> {
    let _ = sources;
    todo!()
}

impl Reconstruction {
    /// Returns the config as YAML of `api_version`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] when a value cannot be said in that API version.
    pub fn render(&self, api_version: ApiVersion) -> Result<Vec<u8>> {
        self.config.render(api_version)
    }

    /// Fails when a required value is unknown.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Missing`] that lists the values.
    pub fn require_complete(&self) -> Result<()> {
        todo!()
    }
}
