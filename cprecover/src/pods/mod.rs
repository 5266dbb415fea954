//! Folders of pods that nobody knows any more: the safe form of `rm -rf /var/lib/kubelet/pods/*`.
//!
//! [`survey`] looks at every folder below `<kubelet_dir>/pods` and says of each who knows the pod, or what
//! stands in the way, or that it is a leftover. [`quarantine`] moves leftovers aside on the same
//! mount, with an index; [`undo`] moves them back. Nothing is ever deleted: `rm -rf` there has followed
//! mounts into the data of volumes (kubernetes issue 60987). The rules are stricter than kubelet's own
//! (`pkg/kubelet/kubelet_volumes.go`, `cleanupOrphanedPodDirs`): no mount, one file system, no content in
//! a volume.
//!
//! kubelet should be stopped meanwhile: it makes folders here at any time.

mod known;
mod mounts;
mod quarantine;
mod survey;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::PodUid;

pub use known::KnownPods;
pub(crate) use mounts::read_any as read_mountinfo;
pub use quarantine::{Moved, Quarantine, judge, quarantine, quarantine_in, quarantines, undo};
pub use survey::survey;

/// What is below kubelet's `pods` folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// The folder, with links resolved.
    pub folder: PathBuf,
    /// Its entries, by name.
    pub pods: Vec<PodFolder>,
}

/// One entry of the `pods` folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodFolder {
    /// Its name, which is the pod's UID.
    pub uid: PodUid,
    /// What may be done with it.
    pub standing: Standing,
}

/// What may be done with a pod's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "standing")]
#[non_exhaustive]
pub enum Standing {
    /// Nothing: the runtime has a sandbox of this UID.
    KnownToRuntime,
    /// Nothing: it may be the folder of this manifest's pod.
    KnownToManifest {
        /// `namespace/name` of the manifest.
        manifest: String,
    },
    /// Nothing: something is in the way.
    Blocked {
        /// What it is.
        obstacle: Obstacle,
    },
    /// Nobody knows it, and nothing is in the way.
    Leftover,
}

/// Why a folder cannot be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "obstacle")]
#[non_exhaustive]
pub enum Obstacle {
    /// A file system is mounted on it or below it.
    Mount {
        /// Where.
        at: PathBuf,
    },
    /// Something below it is on another file system, though no mount is listed.
    OtherFileSystem {
        /// What.
        path: PathBuf,
    },
    /// A volume has content, which may be the only copy.
    VolumeContent {
        /// The first entry that was found.
        path: PathBuf,
    },
    /// It is not a folder, or its name is not a UID.
    NotAPod,
    /// It could not be looked at.
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { at } => write!(f, "a file system is mounted at {}", at.display()),
            Self::OtherFileSystem { path } => write!(f, "{} is on another file system", path.display()),
            Self::VolumeContent { path } => write!(f, "a volume has content: {}", path.display()),
            Self::NotAPod => f.write_str("it is not the folder of a pod"),
            Self::Unreadable { reason } => write!(f, "it cannot be looked at: {reason}"),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KnownToRuntime => f.write_str("the runtime has a sandbox of this pod"),
            Self::KnownToManifest { manifest } => write!(f, "it may belong to manifest {manifest}"),
            Self::Blocked { obstacle } => obstacle.fmt(f),
            Self::Leftover => f.write_str("nobody knows it"),
        }
    }
}
