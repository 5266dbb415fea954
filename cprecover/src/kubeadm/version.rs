//! kubeadm's version and the config API versions that it reads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// A version of kubeadm's config API that this crate reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ApiVersion {
    /// `kubeadm.k8s.io/v1beta3`, read by kubeadm 1.22 to 1.36; `extraArgs` is a map.
    V1Beta3,
    /// `kubeadm.k8s.io/v1beta4`, read by kubeadm 1.31 and later; `extraArgs` is a list.
    V1Beta4,
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1Beta3 => "v1beta3",
            Self::V1Beta4 => "v1beta4",
        })
    }
}

impl FromStr for ApiVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "v1beta3" => Ok(Self::V1Beta3),
            "v1beta4" => Ok(Self::V1Beta4),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "kubeadm API version {other:?} is neither v1beta3 nor v1beta4; \
                     `kubeadm config migrate` of a kubeadm that reads it writes a newer one"
                ),
            )),
        }
    }
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
    /// Returns the minor version, 36 for `v1.36.2`.
    #[must_use]
    pub const fn minor(&self) -> u32 {
        self.minor
    }

    /// Returns the newest config API version that this kubeadm reads.
    ///
    /// Sources: v1beta3 from 1.22 (kubernetes/kubernetes#101129), v1beta4 from 1.31 (#125029), v1beta3
    /// removed in 1.37 (#136016).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for 1.21 and older, which read v1beta2 only.
    pub fn api_version(&self) -> Result<ApiVersion> {
        match (self.major, self.minor) {
            (1, 31..) => Ok(ApiVersion::V1Beta4),
            (1, 22..=30) => Ok(ApiVersion::V1Beta3),
            (1, _) => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "kubeadm {self} reads only v1beta2 configs; put a kubeadm of 1.22 or later (same minor version \
                     as the cluster, or one newer) on the node"
                ),
            )),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!("kubeadm {self} is of an unknown major version"),
            )),
        }
    }

    /// Reports why this kubeadm cannot render a cluster of version `cluster`; `None` when it can.
    ///
    /// Source: kubernetes.io version-skew policy: kubeadm may be of the control plane's minor version or
    /// one newer; kubeadm itself refuses older clusters (`MinimumControlPlaneVersion`).
    #[must_use]
    pub fn skew(&self, cluster: &Self) -> Option<String> {
        let hint = format!(
            "use kubeadm {}.{} or {}.{}",
            cluster.major,
            cluster.minor,
            cluster.major,
            cluster.minor + 1
        );
        if self.major != cluster.major {
            return Some(format!("kubeadm {self} and cluster {cluster} differ in the major version"));
        }
        if self.minor < cluster.minor {
            return Some(format!("kubeadm {self} is older than the cluster's {cluster}; {hint}"));
        }
        (self.minor > cluster.minor + 1)
            .then(|| format!("kubeadm {self} is too new for the cluster's {cluster}; {hint}"))
    }
}

impl FromStr for KubeadmVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(ErrorKind::Invalid, format!("{text:?} is not a version such as v1.36.2"));
        if text.len() > 100 {
            return Err(Error::new(ErrorKind::Invalid, "a version of more than 100 characters"));
        }
        let body = text.strip_prefix('v').unwrap_or(text);
        let end = body.find(['-', '+', '_']).unwrap_or(body.len());
        let (numbers, suffix) = body.split_at(end);
        let mut parts = numbers.split('.').map(|part| part.parse::<u32>().map_err(|_| wrong()));
        let mut next = || parts.next().ok_or_else(wrong)?;
        let (major, minor, patch) = (next()?, next()?, next()?);
        let graphic = suffix.chars().all(|c| c.is_ascii_graphic());
        if parts.next().is_some() || !graphic || minor == u32::MAX {
            return Err(wrong());
        }
        Ok(Self { major, minor, patch, suffix: suffix.to_owned() })
    }
}

impl TryFrom<String> for KubeadmVersion {
    type Error = Error;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> KubeadmVersion {
        text.parse().expect(text)
    }

    #[test]
    fn api_version_by_kubeadm_version() {
        assert_eq!(version("v1.22.0").api_version().expect("22"), ApiVersion::V1Beta3);
        assert_eq!(version("v1.30.9").api_version().expect("30"), ApiVersion::V1Beta3);
        assert_eq!(version("1.31.0-rc.1").api_version().expect("31"), ApiVersion::V1Beta4);
        let error = version("v1.21.14").api_version().expect_err("old");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("1.22"), "{error}");
        assert_eq!(version("v2.0.0").api_version().expect_err("major").kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn skew_allows_the_same_and_the_next_minor() {
        let cluster = version("v1.36.2");
        assert_eq!(version("v1.36.0").skew(&cluster), None);
        assert_eq!(version("v1.37.1").skew(&cluster), None);
        assert!(version("v1.38.0").skew(&cluster).is_some_and(|text| text.contains("too new")));
        assert!(version("v1.35.9").skew(&cluster).is_some_and(|text| text.contains("older")));
    }

    #[test]
    fn nonsense_is_not_a_version() {
        for bad in ["", "v1", "v1.2", "1.2.3.4", "va.b.c", "v1.2.3-\u{7}", "4294967296.1.1"] {
            assert!(bad.parse::<KubeadmVersion>().is_err(), "{bad:?}");
        }
        assert_eq!(version("v1.36.2+vmware.1").to_string(), "v1.36.2+vmware.1");
    }
}
