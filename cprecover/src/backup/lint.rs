//! What in a manifests folder kubelet would read otherwise than its owner meant; reads only.

use std::path::Path;

use serde::Serialize;

use super::NodePath;
use crate::error::Result;
use crate::node::NodeOptions;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will bite later.
    Warning,
    /// kubelet does not run what was meant.
    Error,
}

/// The rule that a finding comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LintRule {
    /// A copy (`.bak`, `~`, `.orig`, …) that kubelet runs too.
    BackupCopy,
    /// Two files with the same pod.
    DuplicatePod,
    /// An empty file.
    Empty,
    /// Not a pod that kubelet could parse.
    Unparsable,
    /// A symbolic link.
    Symlink,
    /// A folder; kubelet does not look into it.
    Subfolder,
    /// Neither file, folder nor link.
    Special,
    /// Larger than kubelet reads (10 MiB).
    TooLarge,
    /// A second YAML document, which kubelet ignores.
    SecondDocument,
    /// A key that is there twice.
    DuplicateKey,
    /// YAML anchors, aliases or merge keys.
    Anchor,
    /// A host path that does not exist.
    MissingHostPath,
    /// An owner other than root.
    Owner,
    /// Writable for group or others, or readable for others.
    Mode,
    /// A component's manifest under another file name: another pod UID.
    FileName,
    /// Left over by this program.
    Leftover,
    /// It could not be read.
    Unreadable,
}

/// One thing to know about a manifests folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LintFinding {
    /// How bad it is.
    pub severity: Severity,
    /// The rule.
    pub rule: LintRule,
    /// The file concerned.
    pub file: NodePath,
    /// One line for people.
    pub message: String,
}

/// Looks through the node's manifests folder; host paths are looked up below the node's root.
///
/// # Errors
/// The kinds of a failed read of the folder itself; [`crate::ErrorKind::NotFound`] when it is not there.
pub fn lint(_node: &NodeOptions) -> Result<Vec<LintFinding>> {
    todo!()
}

/// Looks through any folder of manifests; host paths are looked up below `root`.
///
/// # Errors
/// As [`lint`].
pub fn lint_dir(_dir: &Path, _root: &Path) -> Result<Vec<LintFinding>> {
    todo!()
}
