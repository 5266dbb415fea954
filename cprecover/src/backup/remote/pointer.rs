//! The small object that names a snapshot's index.

use serde::{Deserialize, Serialize};

use super::RemoteObjects;
use crate::backup::{Snapshot, SnapshotId};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

const SCHEMA: &str = "cprecover.dev/remote-snapshot/v1";
/// The largest one that is read.
pub(super) const MAX_POINTER_BYTES: u64 = 64 * 1024;
/// Snapshots of one remote, at most.
const MAX_LISTED: usize = 100_000;
const SNAPSHOTS: &str = "snapshots";

/// A snapshot of a remote, by its name alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RemoteSnapshot {
    /// The node that it is of, as the remote writes it.
    pub node: String,
    /// Its id.
    pub id: SnapshotId,
}

/// Lists the snapshots that a remote holds, by node and age.
///
/// Their age is told by their times: numbers begin again where a node lost its store.
///
/// # Errors
/// The kinds of a failed call of the remote.
pub fn list_remote(remote: &dyn RemoteObjects, deadline: &Deadline) -> Result<Vec<RemoteSnapshot>> {
    let names = remote.list(SNAPSHOTS, MAX_LISTED, deadline).map_err(|e| e.context("list the remote"))?;
    let mut found: Vec<RemoteSnapshot> = names.iter().filter_map(|name| parse_name(name)).collect();
    found.sort_by(|a, b| (&a.node, a.id.time(), &a.id).cmp(&(&b.node, b.id.time(), &b.id)));
    Ok(found)
}

/// What the remote says about a snapshot before its index is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::backup) struct Pointer {
    schema: String,
    id: SnapshotId,
    /// The digest of the index, and so its name.
    pub(super) index_sha256: Digest,
    pub(super) index_bytes: u64,
    /// So that the last known good is found without reading every index.
    pub(super) health_verified: bool,
}

impl Pointer {
    pub(super) fn new(snapshot: &Snapshot, index: &[u8]) -> Self {
        Self {
            schema: SCHEMA.into(),
            id: snapshot.id.clone(),
            index_sha256: Digest::of(index),
            index_bytes: index.len() as u64,
            health_verified: snapshot.health_verified,
        }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|source| {
            Error::with_source(ErrorKind::Internal, "remote snapshot does not serialise", source)
        })
    }

    pub(in crate::backup) fn parse(of: &RemoteSnapshot, bytes: &[u8]) -> Result<Self> {
        let name = name_of(of);
        let pointer: Self = serde_json::from_slice(bytes).map_err(|source| {
            Error::with_source(ErrorKind::Corrupt, format!("remote object {name} is malformed"), source)
        })?;
        if pointer.schema != SCHEMA {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "remote object {name} has schema {:?}, this version reads {SCHEMA:?}",
                    pointer.schema
                ),
            ));
        }
        if pointer.id != of.id {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("remote object {name} is that of snapshot {}", pointer.id),
            ));
        }
        Ok(pointer)
    }
}

/// Returns the node's part of names: what is in doubt in an object's name becomes `_`.
pub(super) fn node_part(node: Option<&str>) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    let name: String = node.unwrap_or_default().chars().map(safe).take(253).collect();
    if name.trim_matches('.').is_empty() { "unknown-node".into() } else { name }
}

pub(super) fn name_of(snapshot: &RemoteSnapshot) -> String {
    format!("{SNAPSHOTS}/{}/{}.json", snapshot.node, snapshot.id)
}

fn parse_name(name: &str) -> Option<RemoteSnapshot> {
    let (node, file) = name.strip_prefix(SNAPSHOTS)?.strip_prefix('/')?.split_once('/')?;
    let id = file.strip_suffix(".json")?.parse().ok()?;
    (node == node_part(Some(node))).then(|| RemoteSnapshot { node: node.to_owned(), id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_cannot_name_an_object_elsewhere() {
        for (node, part) in [
            (Some("cp1.example.org"), "cp1.example.org"),
            (Some("../../etc"), ".._.._etc"),
            (Some(".."), "unknown-node"),
            (Some(""), "unknown-node"),
            (None, "unknown-node"),
            (Some("a b\n"), "a_b_"),
        ] {
            assert_eq!(node_part(node), part);
        }
    }

    #[test]
    fn only_well_formed_names_are_snapshots() {
        let id: SnapshotId = "000001-20261124T081357Z".parse().expect("an id");
        let good = RemoteSnapshot { node: "cp1".into(), id };
        assert_eq!(parse_name(&name_of(&good)), Some(good));
        for bad in ["snapshots/cp1/x.json", "snapshots/a/b/000001-20261124T081357Z.json", "snapshots/", "x"] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
