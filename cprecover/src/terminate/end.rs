//! Ending a process: what, how, and what came of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::guard::Protection;
use super::handle::ProcessHandle;
use crate::error::Result;
use crate::model::ProcessId;
use crate::node::NodeOptions;
use crate::ports::{Evidence, Holder, Query, Verdict};
use crate::sys::Deadline;

/// The process to end, with what identifies it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Target {
    /// Pid and start time.
    pub process: ProcessId,
    /// Its pidfd from the lookup; without one, [`end`] opens one and compares everything else.
    pub handle: Option<ProcessHandle>,
    /// Its program at the time of the judgement; `None` where it was unreadable.
    pub exe: Option<PathBuf>,
    /// Its cgroup at that time; `None` where it was unreadable.
    pub cgroup: Option<String>,
    /// The inodes of its listening sockets.
    pub sockets: Vec<u64>,
    /// Whether its whole cgroup holds nothing but the same orphaned container.
    pub own_cgroup: bool,
    /// Protections that the caller lifts by naming them.
    pub lifted: BTreeSet<Protection>,
}

impl Target {
    /// Takes a judged holder. For a [`Class::Orphan`](crate::ports::Class::Orphan) in a container's
    /// cgroup, [`Protection::NamespaceInit`] is lifted: a container's first process is its pid
    /// namespace's init.
    #[must_use]
    pub fn judged(holder: &Holder, evidence: &Evidence, verdict: &Verdict) -> Self {
        let _ = (holder, evidence, verdict);
        todo!()
    }
}

/// An etcd release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EtcdVersion(pub u32, pub u32, pub u32);

impl EtcdVersion {
    /// Reads the version from an image reference such as `registry.k8s.io/etcd:3.5.1-0`.
    #[must_use]
    pub fn of_image(image: &str) -> Option<Self> {
        let _ = image;
        todo!()
    }

    /// Reports whether SIGKILL under load corrupted data in this release (etcd issues 13766, 13894;
    /// 3.5.0 to 3.5.2, fixed in 3.5.3).
    #[must_use]
    pub fn corrupts_on_kill(self) -> bool {
        (Self(3, 5, 0)..=Self(3, 5, 2)).contains(&self)
    }
}

/// How to end a process.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndOptions {
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Time for the process to vanish after SIGKILL.
    pub kill_wait: Duration,
    /// Time for port and lock to become free after the process ended.
    pub release_wait: Duration,
    /// The port that has to be bindable afterwards.
    pub port: Option<Query>,
    /// The database (`member/snap/db`) whose lock has to be free afterwards, a path for us.
    pub database: Option<PathBuf>,
    /// The etcd release, where it is known; [`EtcdVersion::corrupts_on_kill`] ones get at least
    /// [`EndOptions::RISKY_GRACE`] and a note.
    pub etcd_version: Option<EtcdVersion>,
    /// Whether SIGKILL goes to the whole cgroup (`cgroup.kill`, Linux 5.14, v2 only) where
    /// [`Target::own_cgroup`] allows.
    pub whole_cgroup: bool,
    /// Whether nothing is signalled; the outcome says what would be.
    pub dry_run: bool,
    /// Where procfs is mounted.
    pub proc_dir: PathBuf,
}

impl EndOptions {
    /// The shortest grace time for an etcd that SIGKILL may corrupt.
    pub const RISKY_GRACE: Duration = Duration::from_secs(60);

    /// Returns the node's grace time and procfs, and the waits of this crate.
    #[must_use]
    pub fn on_node(node: &NodeOptions) -> Self {
        Self {
            grace: node.grace(),
            kill_wait: Duration::from_secs(5),
            release_wait: Duration::from_secs(5),
            port: None,
            database: None,
            etcd_version: None,
            whole_cgroup: false,
            dry_run: false,
            proc_dir: node.proc_dir.clone(),
        }
    }
}

/// One thing that was done or, in a dry run, would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Step {
    /// SIGTERM was sent; a stopped process gets SIGCONT too, so that it can obey.
    Terminate,
    /// The process had this long to end.
    Wait {
        /// Milliseconds waited, in a dry run the longest wait.
        waited_ms: u64,
    },
    /// SIGKILL was sent.
    Kill,
    /// `cgroup.kill` was written.
    KillCgroup {
        /// The cgroup.
        cgroup: String,
    },
    /// Port and lock were waited for.
    Release,
}

/// Whether port and lock are free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Release {
    /// Whether the port can be bound; `None` when none was asked about.
    pub port_bindable: Option<bool>,
    /// Whether the lock is free; `None` when none was asked about.
    pub lock_free: Option<bool>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Outcome {
    /// A dry run: all checks passed, these steps would follow.
    WouldEnd {
        /// The steps.
        steps: Vec<Step>,
        /// What the operator should know.
        notes: Vec<String>,
    },
    /// It had ended before anything was signalled.
    AlreadyGone {
        /// Port and lock.
        release: Release,
    },
    /// It ended.
    Ended {
        /// What was done.
        steps: Vec<Step>,
        /// Port and lock.
        release: Release,
        /// What the operator should know.
        notes: Vec<String>,
    },
    /// It still exists after SIGKILL: in D state, or a zombie with living threads.
    Survived {
        /// What was done.
        steps: Vec<Step>,
        /// Its state, in words, with what it waits for.
        state: String,
    },
}

/// Ends a process: SIGTERM, the grace time, SIGKILL, then waits for port and lock.
///
/// Before each signal the process is identified again through its pidfd: start time, program, cgroup,
/// and the same listening socket (for SIGKILL after it closed the socket: the lock that it still holds).
///
/// # Errors
/// [`Refused`](crate::ErrorKind::Refused) for a protected process, [`Changed`](crate::ErrorKind::Changed)
/// when it is not the judged process any more (nothing was signalled since the last check),
/// [`PermissionDenied`](crate::ErrorKind::PermissionDenied), and the deadline's kinds.
pub fn end(target: &Target, options: &EndOptions, deadline: &Deadline) -> Result<Outcome> {
    let _ = (target, options, deadline);
    todo!()
}
