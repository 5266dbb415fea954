//! Taking a manifest out of kubelet's sight and putting it back: the safe form of `mv … /tmp`.

use serde::{Deserialize, Serialize};

use super::SnapshotId;
use crate::model::Digest;

/// A manifest that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Held {
    /// Its name in the manifests folder.
    pub file: String,
    /// Its name while it is held: starts with a dot, so that kubelet does not run it.
    pub held_as: String,
    /// Its content's SHA-256.
    pub sha256: Digest,
    /// The snapshot that holds it too.
    pub snapshot: SnapshotId,
    /// Since when: whole seconds since 1970.
    pub since_unix_s: u64,
    /// Why.
    pub reason: String,
    /// What stands in the manifests folder now.
    pub state: HeldState,
}

/// What has become of a held manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HeldState {
    /// It is held.
    Held,
    /// The held file is gone from the folder; releasing takes it from the snapshot.
    OnlyInSnapshot,
    /// It is held, and a file of its name stands in the folder again.
    InPlaceToo,
    /// It is back in place.
    Released,
}
