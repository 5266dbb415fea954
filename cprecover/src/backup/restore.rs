//! Putting files in place, all or nothing.

use std::path::PathBuf;

use serde::Serialize;

use super::{Group, NodePath, SnapshotId};
use crate::model::Component;

/// Says what of a snapshot is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// Everything in it.
    All,
    /// These groups.
    Groups(Vec<Group>),
    /// The manifests of these components.
    Components(Vec<Component>),
    /// These files, absolute on the node.
    Files(Vec<PathBuf>),
}

/// Says how a restore is done.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "switches that have nothing to do with each other")]
pub struct RestoreOptions {
    /// Also removes files of the selected groups that the snapshot does not have.
    pub exact: bool,
    /// Says what would change and changes nothing.
    pub dry_run: bool,
    /// Restores below this folder (absolute on the node) instead of to where the files were.
    pub below: Option<PathBuf>,
    /// Also restores manifests that are held, and ends their hold.
    pub replace_held: bool,
    /// Restores in place what is of another node, whose name and addresses it holds, or has another cluster CA than
    /// the node: that of another cluster, or the one from before it was replaced.
    pub other_node: bool,
}

/// A file to put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewFile {
    /// Where it goes, absolute on the node.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its permission bits; owner and extended attributes are those of the file that it replaces.
    pub mode: u32,
    /// When given, the file must have this digest now (or not exist, when `Some(None)`).
    pub expects: Option<Option<crate::model::Digest>>,
}

impl NewFile {
    /// Describes a file with mode 0600, as kubeadm writes manifests.
    pub fn new(path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: bytes.into(), mode: 0o600, expects: None }
    }
}

/// Says how new files are put in place.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct InstallOptions {
    /// Why; goes into the label of the snapshot that is taken first.
    pub reason: String,
    /// Says what would change and changes nothing.
    pub dry_run: bool,
    /// Also installs manifests that are held, and ends their hold.
    pub replace_held: bool,
}

/// What a restore or an install changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RestoreReport {
    /// The snapshot of what stood there before; none when nothing stood there or nothing changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<SnapshotId>,
    /// Files that did not exist.
    pub created: Vec<NodePath>,
    /// Files that were replaced.
    pub replaced: Vec<NodePath>,
    /// Files that were removed.
    pub removed: Vec<NodePath>,
    /// Files that were right already and were not touched.
    pub unchanged: Vec<NodePath>,
}

/// Something that a crash had left half done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Recovered {
    /// What it was: `restore`, `install`, `hold`, `snapshot`, `prune`.
    pub what: String,
    /// How it ended.
    pub outcome: RecoveredOutcome,
    /// The files or the snapshot concerned.
    pub paths: Vec<NodePath>,
    /// More, for people.
    pub detail: String,
}

/// How a half-done change was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RecoveredOutcome {
    /// It was finished: all new.
    Finished,
    /// It was taken back: all old.
    TakenBack,
    /// Someone else had changed the files since; they were left as they are.
    LeftAlone,
}
