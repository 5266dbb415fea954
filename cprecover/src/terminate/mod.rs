//! Ends one process, or one orphaned cgroup, and only that one.
//!
//! A pidfd (pidfd_open(2)) is held from the start, so that a reused pid is never signalled; who the
//! process is gets read again right before each signal.

mod end;
mod guard;
mod handle;

pub use end::{EndOptions, EtcdVersion, Outcome, Release, Step, Target, end};
pub use guard::Protection;
pub use handle::ProcessHandle;
