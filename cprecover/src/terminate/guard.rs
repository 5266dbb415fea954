//! Processes that are not ended.

use serde::{Deserialize, Serialize};

/// Why a process is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Protection {
    /// PID 1. No option lifts this.
    Init,
    /// The caller itself. No option lifts this.
    Caller,
    /// An ancestor of the caller. No option lifts this.
    CallersAncestor,
    /// A kernel thread. No option lifts this.
    KernelThread,
    /// kubelet, or a distribution's program with kubelet inside.
    Kubelet,
    /// A container runtime's daemon.
    Runtime,
    /// A shim with living children.
    ShimWithChildren,
    /// The init of another pid namespace: all processes in there end with it.
    NamespaceInit,
}
