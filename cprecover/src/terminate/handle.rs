//! A process, held by a pidfd.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::model::ProcessId;

/// A process beyond pid reuse: its pidfd, and the pid and start time that were read while it lived.
#[derive(Debug, Clone)]
pub struct ProcessHandle {
    id: ProcessId,
    #[expect(dead_code, reason = "used by the implementation that follows")]
    pidfd: Arc<OwnedFd>,
}

impl ProcessHandle {
    /// Returns pid and start time.
    #[must_use]
    pub const fn id(&self) -> ProcessId {
        self.id
    }
}
