//! Snapshots of a node's recovery set that cannot be lost, and all-or-nothing changes to manifests.
//!
//! A [`Store`] (default `/var/lib/cprecover`, mode 0700) keeps immutable snapshots, each a plain folder
//! that a person can use without this crate: the files as they were, `SHA256SUMS` for `sha256sum -c`,
//! and `index.json`. Files that equal an earlier snapshot's are hard links *inside* the store; a live
//! file is never linked, because an editor may write into its inode.
//!
//! Everything that changes the manifests folder ([`Store::restore`], [`Store::install`],
//! [`Store::hold`], [`Store::release`]) first takes a snapshot of what stands there, and a crash at
//! any point ends, after [`Store::recover_pending`], in all-old or all-new.
//!
//! kubelet runs every file in its manifest folder whose name does not start with a dot (kubernetes
//! `pkg/kubelet/config/file.go`), so names in between start with `.cprecover-`.

mod archive;
mod choice;
mod cluster;
#[cfg(test)]
mod crash_test;
mod create;
mod damage_text;
mod dedup;
mod describe;
mod diff;
mod fs;
mod gather;
mod group;
mod guard;
mod held;
mod hold;
mod import;
mod journal;
mod keep;
#[cfg(test)]
mod keep_test;
mod lint;
mod lint_text;
#[cfg(test)]
mod meddle_test;
#[cfg(all(test, feature = "probe"))]
pub(crate) mod memory;
mod number;
mod opening;
mod plan;
mod proof;
mod prune;
mod pruned;
mod recover;
mod remote;
mod restore;
mod snapshot;
mod source;
mod spool;
mod stage;
mod store;
mod survey;
mod transaction;
#[doc(hidden)]
pub mod untrusted;
mod vault;
mod verify;

pub use choice::Choice;
pub use diff::{Change, FlagChange, SnapshotDiff};
pub use group::Group;
pub use held::UnreadableHold;
pub use hold::{Held, HeldState};
pub use lint::{LintFinding, LintRule, Severity, lint, lint_dir};
pub use prune::{Kept, PruneReport, Retention};
#[cfg(feature = "remote")]
pub use remote::{ObjectStoreRemote, RemoteOptions};
pub use remote::{PushReport, PutOutcome, RemoteObjects, RemoteSnapshot, list_remote};
pub use restore::{
    InstallOptions, NewFile, Recovered, RecoveredOutcome, RestoreOptions, RestoreReport, Selection,
};
pub(crate) use snapshot::rfc3339;
pub use snapshot::{
    ComponentView, CreateOptions, Entry, EntryKind, Link, NodePath, Skipped, Snapshot, SnapshotId,
};
pub use store::{Listed, Store};
pub use verify::{Damage, VerifyReport};
