//! The JSON of etcd's HTTP gateway: 64-bit numbers are strings, zero fields are left out.

use serde::{Deserialize, Serialize};

use super::ids::{ClusterId, MemberId};
use super::verdict::AlarmKind;

/// A member as a running member lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it is a learner, which does not vote.
    pub learner: bool,
}

/// The members, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MemberList {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member that answered.
    pub member_id: MemberId,
    /// All members.
    pub members: Vec<Member>,
}

/// How one member is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Status {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member that answered.
    pub member_id: MemberId,
    /// Its version, as `3.4.23`.
    pub version: String,
    /// Size of its database file.
    pub db_size_bytes: u64,
    /// What of it is in use (etcd 3.4 and newer).
    pub db_size_in_use_bytes: Option<u64>,
    /// The leader it follows; `None` when it knows none.
    pub leader: Option<MemberId>,
    /// The raft term.
    pub raft_term: u64,
    /// The last committed raft entry.
    pub raft_index: u64,
    /// The last applied raft entry (etcd 3.4 and newer).
    pub raft_applied_index: Option<u64>,
    /// The newest revision of the key space.
    pub revision: u64,
    /// Whether it is a learner.
    pub learner: bool,
    /// What it complains about (`etcdserver: no leader`, alarms).
    pub errors: Vec<String>,
}

/// An alarm that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Alarm {
    /// The member it is about.
    pub member_id: MemberId,
    /// What it says.
    pub kind: AlarmKind,
}

/// The answer of `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Health {
    /// Whether it says that it is healthy.
    pub healthy: bool,
    /// Why not (etcd 3.5 and newer): `ALARM NOSPACE`, `RAFT NO LEADER`, ….
    pub reason: String,
}

/// The answer of `/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Version {
    /// The server's version.
    pub server: String,
    /// The cluster's version.
    pub cluster: String,
}
