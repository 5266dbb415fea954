//! Certificates, disks, services and etcd.

use serde::{Deserialize, Serialize};
#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::{Component, Verdict};

/// A certificate's state at the host's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateState {
    /// It could not be read.
    #[cfg_attr(feature = "component", component(name = "unreadable"))]
    #[default]
    Unreadable,
    /// In force.
    #[cfg_attr(feature = "component", component(name = "valid"))]
    Valid,
    /// In force, for less than the warning time.
    #[cfg_attr(feature = "component", component(name = "expiring"))]
    Expiring,
    /// Over.
    #[cfg_attr(feature = "component", component(name = "expired"))]
    Expired,
    /// Not begun; look at the clock first.
    #[cfg_attr(feature = "component", component(name = "not-yet-valid"))]
    NotYetValid,
}

/// A certificate on the node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Certificate {
    /// Where it lies.
    pub path: String,
    /// The static pod that serves it.
    pub component: Option<Component>,
    /// Whether it is in force.
    pub state: CertificateState,
    /// When it ends.
    #[cfg_attr(feature = "component", component(name = "not-after-ms"))]
    pub not_after_ms: u64,
}

/// A file system that the control plane needs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Disk {
    /// The folder that needs it.
    pub path: String,
    /// Its size.
    #[cfg_attr(feature = "component", component(name = "total-bytes"))]
    pub total_bytes: u64,
    /// What is left for us.
    #[cfg_attr(feature = "component", component(name = "available-bytes"))]
    pub available_bytes: u64,
    /// How many files are left.
    #[cfg_attr(feature = "component", component(name = "available-inodes"))]
    pub available_inodes: u64,
    /// Mounted read-only.
    #[cfg_attr(feature = "component", component(name = "read-only"))]
    pub read_only: bool,
}

/// A service of the node that the engine may restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceName {
    /// The kubelet.
    #[cfg_attr(feature = "component", component(name = "kubelet"))]
    Kubelet,
    /// The container runtime.
    #[cfg_attr(feature = "component", component(name = "runtime"))]
    Runtime,
}

/// A service's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Not known.
    #[cfg_attr(feature = "component", component(name = "unknown"))]
    #[default]
    Unknown,
    /// It runs.
    #[cfg_attr(feature = "component", component(name = "active"))]
    Active,
    /// It was stopped.
    #[cfg_attr(feature = "component", component(name = "inactive"))]
    Inactive,
    /// It failed.
    #[cfg_attr(feature = "component", component(name = "failed"))]
    Failed,
}

/// A service of the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Which one.
    pub name: ServiceName,
    /// Whether it runs.
    pub state: ServiceState,
    /// How long a restart of it takes on this node.
    #[cfg_attr(feature = "component", component(name = "restart-ms"))]
    pub restart_ms: u64,
    /// What the service manager says.
    pub detail: String,
}

/// The verdict on etcd's data folder, made without starting etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum EtcdData {
    /// Not looked at, or not readable.
    #[cfg_attr(feature = "component", component(name = "unknown"))]
    #[default]
    Unknown,
    /// Nothing wrong is found.
    #[cfg_attr(feature = "component", component(name = "intact"))]
    Intact,
    /// A process holds the lock on the database.
    #[cfg_attr(feature = "component", component(name = "locked"))]
    Locked,
    /// The folder is empty.
    #[cfg_attr(feature = "component", component(name = "empty"))]
    Empty,
    /// There is no such folder.
    #[cfg_attr(feature = "component", component(name = "missing"))]
    Missing,
    /// The log or the database is torn or corrupt.
    #[cfg_attr(feature = "component", component(name = "damaged"))]
    Damaged,
    /// It belongs to another cluster or member.
    #[cfg_attr(feature = "component", component(name = "foreign"))]
    Foreign,
    /// Writing fails for lack of space.
    #[cfg_attr(feature = "component", component(name = "no-space"))]
    NoSpace,
}

/// A member of the etcd cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EtcdMember {
    /// Its id, in hex.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it answers as healthy.
    pub healthy: Verdict,
    /// It has no vote.
    pub learner: bool,
    /// It leads.
    pub leader: bool,
    /// The member that runs on this node.
    pub local: bool,
}

/// The etcd cluster as far as it can be seen from here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Etcd {
    /// etcd runs outside of this node's static pods.
    pub external: bool,
    /// The state of the local data folder.
    pub data: EtcdData,
    /// Empty when the members are not known.
    pub members: Vec<EtcdMember>,
    /// Votes needed; 0 when unknown.
    pub quorum: u32,
    /// Alarms that are raised.
    pub alarms: Vec<String>,
}
