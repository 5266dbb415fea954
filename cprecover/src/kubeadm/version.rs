//! kubeadm's version and the config API versions that it reads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A version of kubeadm's config API that this crate writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ApiVersion {
    /// `kubeadm.k8s.io/v1beta3`, read by kubeadm 1.22 and later; `extraArgs` is a map.
    V1Beta3,
    /// `kubeadm.k8s.io/v1beta4`, read by kubeadm 1.31 and later; `extraArgs` is a list.
    V1Beta4,
}

/// kubeadm's or the cluster's version: `v1.36.2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KubeadmVersion {
    major: u32,
    minor: u32,
    patch: u32,
    suffix: String,
}

impl KubeadmVersion {
    /// Returns the best config API version that this kubeadm reads.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] for 1.21 and older (v1beta2 and no `--dry-run` for phases).
    pub fn api_version(&self) -> Result<ApiVersion> {
        todo!()
    }
}

impl FromStr for KubeadmVersion {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        let _ = text;
        todo!()
    }
}

impl TryFrom<String> for KubeadmVersion {
    type Error = crate::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<KubeadmVersion> for String {
    fn from(version: KubeadmVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for KubeadmVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}{}", self.major, self.minor, self.patch, self.suffix)
    }
}
