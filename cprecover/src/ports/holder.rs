//! What a lookup found.

use std::net::IpAddr;

use serde::Serialize;

use super::listener::Listener;
use crate::model::ProcessId;
use crate::terminate::ProcessHandle;

/// A process that owns at least one listener of the port.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Holder {
    /// The process.
    pub process: ProcessId,
    /// Its command name, `/proc/PID/comm`.
    pub comm: String,
    /// The listeners of the port that it owns.
    pub listeners: Vec<Listener>,
    /// The process itself, beyond pid reuse: opened before its ownership was confirmed. `None` when
    /// the kernel has no pidfds (before Linux 5.3) or the procfs is not of our pid namespace.
    #[serde(skip)]
    pub handle: Option<ProcessHandle>,
}

/// A listener for which no process was found, and what kept us from finding it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Unowned {
    /// The listener.
    pub listener: Listener,
    /// Why its owner is not known, in words.
    pub reason: String,
}

/// The answer to a [`Query`](super::Query).
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Lookup {
    /// Every listener has an owner.
    Found {
        /// The owners, by pid.
        holders: Vec<Holder>,
    },
    /// Somebody listens, but the owner of at least one listener cannot be read: not free.
    OwnerUnknown {
        /// The owners that were found, by pid.
        holders: Vec<Holder>,
        /// The listeners without one.
        unowned: Vec<Unowned>,
    },
    /// Nothing listens.
    Free,
    /// The asked address is on no interface: bind fails with `cannot assign requested address`, and
    /// there is no holder to look for.
    AddressNotOnHost {
        /// The address.
        address: IpAddr,
    },
}

impl Lookup {
    /// Returns the owners that were found.
    #[must_use]
    pub fn holders(&self) -> &[Holder] {
        match self {
            Self::Found { holders } | Self::OwnerUnknown { holders, .. } => holders,
            Self::Free | Self::AddressNotOnHost { .. } => &[],
        }
    }
}
