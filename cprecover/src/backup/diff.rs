//! What differs between two snapshots, in the terms of Kubernetes where there are any.

use serde::Serialize;

use super::{Group, NodePath};
use crate::model::Component;

/// The difference between two snapshots, or between one and the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SnapshotDiff {
    /// The changes, by path.
    pub changes: Vec<Change>,
}

/// What happened to one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Change {
    /// It is only in the newer one.
    Added {
        /// The file on the node.
        path: NodePath,
        /// Its group.
        group: Group,
    },
    /// It is only in the older one.
    Removed {
        /// The file on the node.
        path: NodePath,
        /// Its group.
        group: Group,
    },
    /// Its content differs.
    Content {
        /// The file on the node.
        path: NodePath,
        /// Its group.
        group: Group,
        /// The component, for a manifest of one.
        #[serde(skip_serializing_if = "Option::is_none")]
        component: Option<Component>,
        /// The image, when it changed: from, to.
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<(String, String)>,
        /// The flags that changed; empty when something else did.
        flags: Vec<FlagChange>,
        /// Changed lines of a manifest (`-old`, `+new`), at most 200; never for secret groups.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        lines: Vec<String>,
    },
    /// Only owner, mode or extended attributes differ.
    Attributes {
        /// The file on the node.
        path: NodePath,
        /// Its group.
        group: Group,
        /// What differs, as `mode 0600 -> 0644`.
        what: Vec<String>,
    },
}

/// A flag of a component that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FlagChange {
    /// The flag, without dashes.
    pub flag: String,
    /// Its value before; none when it was not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// Its value now; none when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}
