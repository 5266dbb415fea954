//! How an effect of a run that failed is taken back: which can be, and why the others cannot.
//!
//! | effect | undo | only if |
//! |---|---|---|
//! | bounce | the manifest that it holds is released | this engine holds it, and nothing else stands there |
//! | restore, regenerate over a broken file | the file that stood there, from the snapshot taken before | what stands there now is no pod |
//! | restore, regenerate of a missing file | none: a valid manifest is never taken away again | |
//! | quarantine of a duplicate | it is released | the component's own manifest is gone or broken, and etcd has data |
//! | quarantine of a pod folder | the folder is put back, kubelet is started again | the pod has no new folder |
//! | restart of kubelet, of the runtime | it is started, if it ran before and does not now | kubelet would end nothing that runs |
//! | end of an orphan | none: a process cannot be brought back, and its data stay | |
//! | removal of a sandbox | none: kubelet makes a new one from the manifest | |
//! | renewed certificates | none: installed all or nothing, and the old ones have ended | |

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Component, Digest, PodUid};

/// How an effect is taken back; in the journal before the effect begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Undo {
    /// Releases the manifest that a bounce holds.
    ReleaseManifest {
        /// Whose.
        component: Component,
    },
    /// Puts a broken manifest back that was replaced, where what replaced it is no pod either.
    PutManifestBack {
        /// Whose.
        component: Component,
        /// The SHA-256 of what stood there.
        before: Digest,
    },
    /// Releases a duplicate that was set aside.
    ReleaseDuplicate {
        /// Whose.
        component: Component,
        /// Its name in the manifests folder.
        file: String,
    },
    /// Puts a pod's folder back that was moved into the quarantine.
    PutPodFolderBack {
        /// The pod.
        uid: PodUid,
        /// Whether kubelet ran before and was stopped meanwhile.
        start_kubelet: bool,
    },
    /// Starts kubelet, which ran before.
    StartKubelet,
    /// Starts the container runtime, which ran before.
    StartRuntime,
}

impl Undo {
    /// Reports whether an effect that was done and proven is taken back too when its run did not help;
    /// otherwise only what is left of one that failed.
    pub(super) const fn of_proven_effects(&self) -> bool {
        matches!(self, Self::PutPodFolderBack { .. } | Self::ReleaseDuplicate { .. })
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReleaseManifest { component } => write!(f, "release {}", component.manifest_file()),
            Self::PutManifestBack { component, before } => {
                write!(f, "put {} back as it was, sha256 {before}", component.manifest_file())
            }
            Self::ReleaseDuplicate { file, .. } => write!(f, "release {file}"),
            Self::PutPodFolderBack { uid, .. } => write!(f, "put pod folder {uid} back"),
            Self::StartKubelet => f.write_str("start kubelet"),
            Self::StartRuntime => f.write_str("start the container runtime"),
        }
    }
}

/// What came of an undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum UndoOutcome {
    /// It was taken back, proven.
    Done,
    /// There is nothing to take back, or taking it back would make things worse; nothing was changed.
    Kept,
    /// It failed; what is left is part of the next observation.
    Failed,
}

/// One effect that was to be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Undone {
    /// How it is taken back.
    pub undo: Undo,
    /// What came of it.
    pub outcome: UndoOutcome,
    /// What changed, or why nothing was.
    pub detail: String,
}

/// What an undo did, before the engine writes it down.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakenBack {
    /// It was taken back; what changed.
    Done(String),
    /// Nothing was changed; why.
    Kept(String),
}
