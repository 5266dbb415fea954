//! The named groups of files that make a node recoverable.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Names a part of the recovery set; each is a folder of that name in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Group {
    /// kubelet's static-pod manifests.
    Manifests,
    /// Certificates and keys (kubeadm's `certificatesDir`); secret.
    Pki,
    /// `*.conf` in the Kubernetes folder (`admin.conf`, `kubelet.conf`, …); secret.
    Kubeconfigs,
    /// kubeadm's configuration and patches; secret, since it may hold bootstrap tokens.
    Kubeadm,
    /// kubelet's `config.yaml`, `kubeadm-flags.env` and service drop-ins.
    Kubelet,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 5] = [Self::Manifests, Self::Pki, Self::Kubeconfigs, Self::Kubeadm, Self::Kubelet];

    /// Returns the group's name, which is also its folder in a snapshot.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manifests => "manifests",
            Self::Pki => "pki",
            Self::Kubeconfigs => "kubeconfigs",
            Self::Kubeadm => "kubeadm",
            Self::Kubelet => "kubelet",
        }
    }

    /// Reports whether the store keeps the group's files unreadable for anyone but their owner.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Pki | Self::Kubeconfigs | Self::Kubeadm)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Group {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == text).ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("unknown group {text:?} (want manifests, pki, kubeconfigs, kubeadm or kubelet)"),
            )
        })
    }
}
