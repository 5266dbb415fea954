//! What state an etcd member is in: offline from its data directory, online over its HTTP gateway,
//! and whether a step may be taken on it at all.
//!
//! - [`check()`] reads a data directory and never starts etcd, never writes and holds no lock while it reads.
//! - [`Client`] (feature `probe`) asks a running member; it spawns no thread and every wait has an end.
//! - [`project()`] says what a step would leave of the quorum; it is pure.
//! - [`snapshot()`] and [`copy_member`] are the two ways to save a member before anything destructive.
//!
//! The formats are etcd's own: WAL and snapshot files (etcd `server/storage/wal`, `server/etcdserver/api/snap`)
//! and bbolt (go.etcd.io/bbolt `internal/common/{page,meta,bucket}.go`). They did not change between etcd
//! 3.3 and 3.6; what 3.5 and 3.6 added are keys in the bucket `meta` and fields that older readers skip.

mod bolt;
mod check;
mod copy;
mod fuzzing;
mod ids;
mod lock;
mod project;
mod snap;
mod unfinished;
mod verdict;
mod wal;
mod wire;

#[cfg(feature = "probe")]
mod client;
#[cfg(feature = "probe")]
mod gateway;
#[cfg(feature = "probe")]
pub(crate) mod http;
#[cfg(feature = "probe")]
mod snapshot;
#[cfg(feature = "probe")]
mod status;

#[cfg(test)]
pub(crate) use bolt::build::database_listing;
pub use check::{CheckOptions, Expected, check, check_node, check_with};
pub use copy::{CopiedFile, CopyReceipt, copy_member};
pub use ids::{ClusterId, MemberId};
pub use lock::{DataLock, LockHolder};
pub use project::{
    ClusterView, Effect, MemberHealth, MemberView, Projection, Refusal, Step, ViewSource, project,
};
pub use unfinished::remove_unfinished;
pub use verdict::{
    AlarmKind, DataReport, DataState, DataVerdict, DbReport, Finding, FindingKind, MemberRecord, SnapFile,
    Space, Startup, WalFile, WalReport,
};

#[cfg(feature = "probe")]
pub(crate) use client::tls_of;
#[cfg(feature = "probe")]
pub use client::{Client, ClientOptions, ClientTls};
pub(crate) use fuzzing::read_files;
#[cfg(feature = "probe")]
pub(crate) use fuzzing::read_gateway;
#[cfg(feature = "probe")]
pub use gateway::{Alarm, Health, Member, MemberList, Status, Version};
#[cfg(feature = "probe")]
pub use snapshot::{SnapshotReceipt, snapshot};
#[cfg(feature = "probe")]
pub use status::{ClusterStatus, status};
