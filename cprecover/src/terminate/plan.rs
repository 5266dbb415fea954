//! What is ended, how, and what came of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::guard::Protection;
use super::handle::ProcessHandle;
use super::release::Release;
use super::version::EtcdVersion;
use crate::model::ProcessId;
use crate::node::NodeOptions;
use crate::ports::{Class, Evidence, Holder, Listener, Query, Verdict};

/// The process to end, with what identifies it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Target {
    /// Pid and start time.
    pub process: ProcessId,
    /// Its pidfd from the lookup; without one, [`end`](super::end()) opens one and compares everything else.
    pub handle: Option<ProcessHandle>,
    /// Its program at the time of the judgement; `None` where it was unreadable.
    pub exe: Option<PathBuf>,
    /// Its cgroup at that time; `None` where it was unreadable.
    pub cgroup: Option<String>,
    /// Its listening sockets; one of them must still be its own and listen when it is signalled.
    pub listeners: Vec<Listener>,
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
        let own_cgroup = matches!(&verdict.class, Class::Orphan { container: Some(_), .. });
        let lifted = if own_cgroup { [Protection::NamespaceInit].into() } else { BTreeSet::new() };
        Self {
            process: holder.process,
            handle: holder.handle.clone(),
            exe: evidence.exe.present().map(|exe| exe.path.clone()),
            cgroup: evidence.cgroup.present().map(|cgroup| cgroup.path.clone()),
            listeners: holder.listeners.clone(),
            own_cgroup,
            lifted,
        }
    }

    /// Takes a holder that nobody judged: the caller knows what it is. Program and cgroup are not
    /// compared again; start time and sockets are.
    #[must_use]
    pub fn unjudged(holder: &Holder) -> Self {
        Self {
            process: holder.process,
            handle: holder.handle.clone(),
            exe: None,
            cgroup: None,
            listeners: holder.listeners.clone(),
            own_cgroup: false,
            lifted: BTreeSet::new(),
        }
    }

    /// Lifts a protection by naming it; those that nothing lifts stay.
    #[must_use]
    pub fn lift(mut self, protection: Protection) -> Self {
        self.lifted.insert(protection);
        self
    }

    /// Returns the inodes of its listening sockets.
    pub(super) fn sockets(&self) -> Vec<u64> {
        self.listeners.iter().map(|listener| listener.inode).collect()
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
    /// Where the cgroup v2 hierarchy may be mounted.
    pub cgroup_dirs: Vec<PathBuf>,
}

impl EndOptions {
    /// The shortest grace time for an etcd that SIGKILL may corrupt.
    pub const RISKY_GRACE: Duration = Duration::from_mins(1);

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
            cgroup_dirs: vec!["/sys/fs/cgroup".into(), "/sys/fs/cgroup/unified".into()],
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
    /// It let go of port and lock after SIGTERM but has not ended within the grace time; SIGKILL would
    /// have gained nothing and was not sent.
    LetGo {
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
