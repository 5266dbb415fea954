//! A process, held by a pidfd.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid as RawPid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Pid, ProcessId};
use crate::ports::procdir::ProcDir;
use crate::sys::{Deadline, later};

/// Longest sleep between two looks at the cancel flag.
const SLICE: Duration = Duration::from_millis(50);

/// A process beyond pid reuse: its pidfd, and the pid and start time that were read while it lived.
#[derive(Debug, Clone)]
pub struct ProcessHandle {
    id: ProcessId,
    pidfd: Arc<OwnedFd>,
}

impl ProcessHandle {
    /// Opens the process that has `pid` now.
    ///
    /// What is read from procfs after the pidfd was opened, with the process still alive afterwards, is
    /// of the same process: a pid is not given out again while its process lives.
    pub(crate) fn open(proc: &ProcDir, pid: Pid) -> Result<Self> {
        let failed = |source: Errno| {
            let kind = if source == Errno::SRCH { ErrorKind::NotFound } else { Error::io("", source).kind() };
            Error::with_source(kind, format!("open pid {pid}"), std::io::Error::from(source))
        };
        let raw = RawPid::from_raw(pid.get()).ok_or_else(|| failed(Errno::SRCH))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(failed)?;
        let handle = Self { id: proc.process_id(pid)?, pidfd: Arc::new(pidfd) };
        if handle.has_ended() {
            return Err(failed(Errno::SRCH));
        }
        Ok(handle)
    }

    /// Returns pid and start time.
    #[must_use]
    pub const fn id(&self) -> ProcessId {
        self.id
    }

    /// Reports whether the process, all its threads, has ended; its parent may not have reaped it yet.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.poll(Duration::ZERO)
    }

    /// Waits until the process has ended, at most `timeout`; reports whether it has.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout) and [`Cancelled`](ErrorKind::Cancelled) by the deadline.
    pub fn wait(&self, timeout: Duration, deadline: &Deadline) -> Result<bool> {
        let end = later(std::time::Instant::now(), timeout);
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if self.poll(left.min(SLICE)) {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
            deadline.check(&format!("wait for {} to end", self.id))?;
        }
    }

    /// Sends a signal to this process and no other.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        pidfd_send_signal(&self.pidfd, signal)
    }

    fn poll(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // A pidfd becomes readable when the process ends (pidfd_open(2)); an interrupted poll is no end.
        poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }
}
