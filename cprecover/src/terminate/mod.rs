//! Ends one process, or one orphaned cgroup, and only that one.
//!
//! A pidfd (`pidfd_open(2)`) is held from the start, so that a reused pid is never signalled; who the
//! process is gets read again right before each signal.

mod cgroup;
mod end;
mod guard;
mod handle;
mod identity;
mod plan;
mod release;
mod survivor;
mod version;

pub use end::end;
pub use guard::Protection;
pub use handle::ProcessHandle;
pub use plan::{EndOptions, Outcome, Step, Target};
pub use release::{Freed, Release};
pub use version::EtcdVersion;
