//! The named groups of files that make a node recoverable.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;

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
    /// Files outside of the other groups that were about to be replaced; secret.
    Other,
}

impl Group {
    /// The groups that a caller can ask for.
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
            Self::Other => "other",
        }
    }

    /// Reports whether the store keeps the group's files unreadable for anyone but their owner.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Pki | Self::Kubeconfigs | Self::Kubeadm | Self::Other)
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

/// What of a group's source is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The file, or the folder with all that is in it.
    Tree,
    /// The regular files of the folder whose names end in `.conf`.
    ConfFiles,
}

/// One place on the node that a group takes files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) group: Group,
    /// Absolute on the node.
    pub(super) path: PathBuf,
    /// Where it goes in the snapshot's folder.
    pub(super) stored: PathBuf,
    pub(super) shape: Shape,
}

/// Where the groups' files are on a node; all paths are absolute on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) manifests: PathBuf,
    pki: PathBuf,
    kubernetes: PathBuf,
    kubelet: PathBuf,
}

impl Layout {
    pub(super) fn of(node: &NodeOptions) -> Self {
        Self {
            manifests: node.manifests_dir.clone(),
            pki: node.pki_dir.clone(),
            kubernetes: node.kubernetes_dir.clone(),
            kubelet: node.kubelet_dir.clone(),
        }
    }

    pub(super) fn pki(&self) -> &Path {
        &self.pki
    }

    /// Returns where `group`'s files may be; `extra` are more files and folders of kubeadm's.
    pub(super) fn sources(&self, group: Group, extra: &[PathBuf]) -> Vec<Source> {
        let named = |path: &PathBuf, shape| Source {
            group,
            path: path.clone(),
            stored: PathBuf::from(group.as_str()),
            shape,
        };
        match group {
            Group::Manifests => vec![named(&self.manifests, Shape::Tree)],
            Group::Pki => vec![named(&self.pki, Shape::Tree)],
            Group::Kubeconfigs => vec![named(&self.kubernetes, Shape::ConfFiles)],
            Group::Kubeadm => ["kubeadm-config.yaml", "kubeadm.yaml", "kubeadm-init.yaml", "patches"]
                .iter()
                .map(|name| self.kubernetes.join(name))
                .chain(["/etc/kubeadm.yaml".into(), "/etc/kubeadm".into()])
                .chain(extra.iter().cloned())
                .map(|path| Source::by_path(group, path))
                .collect(),
            // kubernetes `cmd/kubeadm/app/constants/constants.go` (`KubeletConfigurationFileName`,
            // `KubeletEnvFileName`) and the packages' drop-in `10-kubeadm.conf`.
            Group::Kubelet => ["config.yaml", "instance-config.yaml", "kubeadm-flags.env"]
                .iter()
                .map(|name| self.kubelet.join(name))
                .chain(
                    [
                        "/etc/default/kubelet",
                        "/etc/sysconfig/kubelet",
                        "/etc/systemd/system/kubelet.service.d",
                        "/usr/lib/systemd/system/kubelet.service.d",
                    ]
                    .map(PathBuf::from),
                )
                .map(|path| Source::by_path(group, path))
                .collect(),
            Group::Other => extra.iter().map(|path| Source::by_path(group, path.clone())).collect(),
        }
    }

    /// Returns the group that a file of the node belongs to; [`Group::Other`] when to none.
    pub(super) fn group_of(&self, path: &Path) -> Group {
        let conf = path.parent() == Some(&self.kubernetes) && path.extension() == Some("conf".as_ref());
        let named = [Group::Manifests, Group::Pki, Group::Kubeadm, Group::Kubelet].into_iter();
        let mut found = named
            .filter(|group| self.sources(*group, &[]).iter().any(|source| path.starts_with(&source.path)));
        if conf { Group::Kubeconfigs } else { found.next().unwrap_or(Group::Other) }
    }
}

impl Source {
    fn by_path(group: Group, path: PathBuf) -> Self {
        let below = path.strip_prefix("/").unwrap_or(&path);
        let stored = Path::new(group.as_str()).join(below);
        Self { group, path, stored, shape: Shape::Tree }
    }
}
