//! Checking a snapshot against its index, and the index against the chain.

use serde::Serialize;

use super::{NodePath, SnapshotId};

/// One thing that is wrong with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Damage {
    /// The file's bytes do not have the recorded digest: bit rot or an edit.
    Content {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
    },
    /// A recorded file is not there.
    Missing {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
    },
    /// There is a file that the index does not record.
    Extra {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
    },
    /// Owner, mode, time, extended attributes or link target differ from the index.
    Attributes {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
        /// What differs.
        what: String,
    },
    /// A file no longer shares its inode with the earlier snapshot's; its content is right.
    Link {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
        /// The earlier snapshot.
        snapshot: SnapshotId,
    },
    /// `SHA256SUMS` does not say what the index says.
    Sums {
        /// What differs.
        what: String,
    },
    /// The previous snapshot is not the one that this one names.
    Chain {
        /// What does not fit.
        what: String,
    },
    /// Something could not be read; that is not "missing".
    Unreadable {
        /// The file, relative to the snapshot's folder.
        stored: NodePath,
        /// Why.
        what: String,
    },
}

impl Damage {
    /// Reports whether a restore from the snapshot would still give the right bytes.
    #[must_use]
    pub const fn is_harmless(&self) -> bool {
        matches!(
            self,
            Self::Link { .. }
                | Self::Extra { .. }
                | Self::Attributes { .. }
                | Self::Sums { .. }
                | Self::Chain { .. }
        )
    }
}

/// The result of checking one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VerifyReport {
    /// The snapshot.
    pub id: SnapshotId,
    /// Files whose bytes were read.
    pub files: usize,
    /// Bytes that were read.
    pub size_bytes: u64,
    /// What is wrong; empty when nothing is.
    pub damage: Vec<Damage>,
}

impl VerifyReport {
    /// Reports whether nothing is wrong.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.damage.is_empty()
    }
}
