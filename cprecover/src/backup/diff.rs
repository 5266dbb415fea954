//! What differs between two snapshots, in the terms of Kubernetes where there are any.

use std::collections::BTreeMap;

use serde::Serialize;

use super::snapshot::{ComponentView, Entry, EntryKind, Snapshot};
use super::{Group, NodePath};
use crate::model::Component;

/// Changed lines that are shown of one file.
const MAX_LINES: usize = 200;

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

/// Compares two snapshots; `lines` gives the changed lines of a manifest.
pub(super) fn compare(
    old: &Snapshot,
    new: &Snapshot,
    mut lines: impl FnMut(&Entry, &Entry) -> Vec<String>,
) -> SnapshotDiff {
    // A group that only one of the two covers says nothing about the other's files.
    let covered = |entry: &&Entry| old.groups.contains(&entry.group) && new.groups.contains(&entry.group);
    let by_path = |snapshot: &'_ Snapshot| -> BTreeMap<NodePath, Entry> {
        let entries = snapshot.entries.iter().filter(covered);
        entries.map(|entry| (entry.path.clone(), entry.clone())).collect()
    };
    let (before, after) = (by_path(old), by_path(new));
    let mut changes = Vec::new();
    for (path, was) in &before {
        match after.get(path) {
            None => changes.push(Change::Removed { path: path.clone(), group: was.group }),
            Some(is) => changes.extend(change(was, is, &mut lines)),
        }
    }
    let added = after.iter().filter(|(path, _)| !before.contains_key(path));
    changes.extend(added.map(|(path, is)| Change::Added { path: path.clone(), group: is.group }));
    changes.sort_by(|a, b| a.path().cmp(b.path()));
    SnapshotDiff { changes }
}

impl Change {
    /// Returns the file that changed.
    #[must_use]
    pub const fn path(&self) -> &NodePath {
        match self {
            Self::Added { path, .. }
            | Self::Removed { path, .. }
            | Self::Content { path, .. }
            | Self::Attributes { path, .. } => path,
        }
    }
}

fn change(was: &Entry, is: &Entry, lines: &mut impl FnMut(&Entry, &Entry) -> Vec<String>) -> Option<Change> {
    let (path, group) = (is.path.clone(), is.group);
    if (was.kind, was.sha256, &was.target) != (is.kind, is.sha256, &is.target) {
        let (old, new) = (was.view.as_ref(), is.view.as_ref());
        let image = |view: Option<&ComponentView>| view.map(|view| view.image.clone()).unwrap_or_default();
        let component = new.or(old).and_then(|view| view.component);
        let shown = if group.is_secret() { Vec::new() } else { lines(was, is) };
        return Some(Change::Content {
            path,
            group,
            component,
            image: Some((image(old), image(new))).filter(|(old, new)| old != new),
            flags: flag_changes(old, new),
            lines: shown,
        });
    }
    let what = attribute_changes(was, is);
    (!what.is_empty()).then_some(Change::Attributes { path, group, what })
}

fn attribute_changes(was: &Entry, is: &Entry) -> Vec<String> {
    let mut what = Vec::new();
    if was.mode != is.mode {
        what.push(format!("mode {:04o} -> {:04o}", was.mode, is.mode));
    }
    if (was.uid, was.gid) != (is.uid, is.gid) {
        what.push(format!("owner {}:{} -> {}:{}", was.uid, was.gid, is.uid, is.gid));
    }
    let names = was.xattrs.keys().chain(is.xattrs.keys());
    let mut changed: Vec<&NodePath> =
        names.filter(|name| was.xattrs.get(*name) != is.xattrs.get(*name)).collect();
    changed.sort();
    changed.dedup();
    what.extend(changed.into_iter().map(|name| format!("extended attribute {name}")));
    what
}

/// Compares flags by name; a flag that is given several times is compared as its list of values.
fn flag_changes(old: Option<&ComponentView>, new: Option<&ComponentView>) -> Vec<FlagChange> {
    let (Some(old), Some(new)) = (old, new) else { return Vec::new() };
    let by_name = |view: &ComponentView| {
        let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &view.flags {
            flags.entry(name.clone()).or_default().push(value.clone());
        }
        flags
    };
    let (was, is) = (by_name(old), by_name(new));
    let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
    names.sort();
    names.dedup();
    let value =
        |flags: &BTreeMap<String, Vec<String>>, name: &String| flags.get(name).map(|values| values.join(" "));
    names
        .into_iter()
        .map(|name| FlagChange { flag: name.clone(), old: value(&was, name), new: value(&is, name) })
        .filter(|change| change.old != change.new)
        .collect()
}

/// Returns the lines that differ, as `-old` and `+new`.
pub(super) fn changed_lines(old: &[u8], new: &[u8]) -> Vec<String> {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let diff = similar::TextDiff::from_lines(old.as_ref(), new.as_ref());
    diff.iter_all_changes()
        .filter(|change| change.tag() != similar::ChangeTag::Equal)
        .take(MAX_LINES)
        .map(|change| format!("{}{}", change.tag(), change.value().trim_end_matches(['\n', '\r'])))
        .collect()
}

/// Reports whether an entry's text may be shown.
pub(super) fn has_text(entry: &Entry) -> bool {
    entry.kind == EntryKind::File && !entry.group.is_secret() && entry.size <= 1 << 20
}
