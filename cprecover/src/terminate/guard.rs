//! Processes that are not ended.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::model::Pid;
use crate::ports::procdir::ProcDir;
use crate::ports::{executable, shim};

/// `PF_KTHREAD`, kernel `include/linux/sched.h`.
const KERNEL_THREAD: u32 = 0x0020_0000;
/// Longest chain of parents that is followed.
const MAX_ANCESTORS: usize = 64;

/// Why a process is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Protection {
    /// PID 1. Nothing lifts this.
    Init,
    /// The caller itself. Nothing lifts this.
    Caller,
    /// An ancestor of the caller. Nothing lifts this.
    CallersAncestor,
    /// A kernel thread. Nothing lifts this.
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

impl Protection {
    /// Reports whether a caller may lift it by naming it.
    #[must_use]
    pub const fn can_be_lifted(self) -> bool {
        !matches!(self, Self::Init | Self::Caller | Self::CallersAncestor | Self::KernelThread)
    }

    /// Returns what is protected, in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "PID 1",
            Self::Caller => "the calling process",
            Self::CallersAncestor => "an ancestor of the calling process",
            Self::KernelThread => "a kernel thread",
            Self::Kubelet => "kubelet",
            Self::Runtime => "a container runtime",
            Self::ShimWithChildren => "a shim with living children",
            Self::NamespaceInit => "the init of another pid namespace",
        }
    }
}

/// Programs with kubelet inside: kubelet, and the distributions that link it in.
const KUBELETS: [&str; 5] = ["kubelet", "k3s", "k3s-server", "rke2", "k0s"];
/// Daemons that speak CRI, and those behind them.
const RUNTIMES: [&str; 6] = ["containerd", "crio", "dockerd", "cri-dockerd", "podman", "rootlesskit"];

/// What the protections are decided from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) pid: i32,
    pub(super) own_pid: i32,
    pub(super) own_ancestors: BTreeSet<i32>,
    pub(super) parent: i32,
    pub(super) flags: u32,
    /// Command name and last part of the program's path.
    pub(super) names: Vec<String>,
    pub(super) is_shim: bool,
    pub(super) living_children: usize,
    pub(super) namespace_pids: Vec<i32>,
}

impl Subject {
    /// Reads a process.
    pub(super) fn read(proc: &ProcDir, pid: Pid) -> Result<Self> {
        let stat = proc.stat(pid)?;
        let is_shim = shim(proc, pid, &stat.comm).is_some();
        let mut names = vec![stat.comm];
        names.extend(executable(proc, pid).present().and_then(|exe| exe.name().map(str::to_owned)));
        let own = Pid::new(rustix::process::getpid().as_raw_nonzero().get());
        Ok(Self {
            pid: pid.get(),
            own_pid: own.map_or(0, Pid::get),
            own_ancestors: own.map(|own| ancestors(proc, own)).unwrap_or_default(),
            parent: stat.ppid,
            flags: stat.flags,
            living_children: if is_shim { living_children(proc, pid)? } else { 0 },
            names,
            is_shim,
            namespace_pids: proc.status(pid)?.nspid.unwrap_or_default(),
        })
    }

    /// Returns every protection of this process.
    pub(super) fn protections(&self) -> BTreeSet<Protection> {
        let named = |names: &[&str]| self.names.iter().any(|name| names.contains(&name.as_str()));
        let inner = self.namespace_pids.get(1..).unwrap_or_default();
        [
            (Protection::Init, self.pid == 1),
            (Protection::Caller, self.pid == self.own_pid),
            (Protection::CallersAncestor, self.own_ancestors.contains(&self.pid)),
            (Protection::KernelThread, self.flags & KERNEL_THREAD != 0 || self.pid == 2 && self.parent == 0),
            (Protection::Kubelet, named(&KUBELETS)),
            (Protection::Runtime, named(&RUNTIMES)),
            (Protection::ShimWithChildren, self.is_shim && self.living_children > 0),
            (Protection::NamespaceInit, inner.last() == Some(&1)),
        ]
        .into_iter()
        .filter_map(|(protection, holds)| holds.then_some(protection))
        .collect()
    }
}

/// Refuses a protected process, unless each of its protections is lifted by name.
pub(super) fn check(proc: &ProcDir, pid: Pid, lifted: &BTreeSet<Protection>) -> Result<()> {
    refuse(pid, &Subject::read(proc, pid)?, lifted)
}

fn refuse(pid: Pid, subject: &Subject, lifted: &BTreeSet<Protection>) -> Result<()> {
    let standing = |protection: &Protection| !protection.can_be_lifted() || !lifted.contains(protection);
    match subject.protections().into_iter().find(standing) {
        Some(protection) => Err(Error::new(
            ErrorKind::Refused,
            format!("pid {pid} ({}) is {}", subject.names.join(", "), protection.as_str()),
        )),
        None => Ok(()),
    }
}

fn ancestors(proc: &ProcDir, pid: Pid) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next.filter(|_| found.len() < MAX_ANCESTORS) {
        let Ok(stat) = proc.stat(pid) else { break };
        found.insert(stat.ppid);
        next = Pid::new(stat.ppid);
    }
    found.remove(&0);
    found
}

fn living_children(proc: &ProcDir, pid: Pid) -> Result<usize> {
    let mut count = 0;
    // The whole table, because a kernel may list no children (`CONFIG_PROC_CHILDREN`).
    for other in proc.pids()? {
        match proc.stat(other) {
            Ok(stat) if stat.ppid == pid.get() && !matches!(stat.state, 'Z' | 'X') => count += 1,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            pid: 700,
            own_pid: 900,
            own_ancestors: [1, 800].into(),
            parent: 1,
            names: vec!["etcd".into(), "etcd".into()],
            namespace_pids: vec![700],
            ..Subject::default()
        }
    }

    fn refused(subject: &Subject, lifted: &[Protection]) -> bool {
        let pid = Pid::new(subject.pid).expect("positive");
        match refuse(pid, subject, &lifted.iter().copied().collect()) {
            Ok(()) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Refused);
                true
            }
        }
    }

    #[test]
    fn an_ordinary_process_is_not_protected() {
        assert_eq!(subject().protections(), BTreeSet::new());
        // Its pid in nested namespaces, without being the first there.
        assert_eq!(Subject { namespace_pids: vec![700, 12], ..subject() }.protections(), BTreeSet::new());
        let lonely_shim = Subject { is_shim: true, living_children: 0, ..subject() };
        assert_eq!(lonely_shim.protections(), BTreeSet::new());
    }

    #[test]
    fn what_nothing_lifts() {
        let all: Vec<Protection> =
            [Protection::Init, Protection::Caller, Protection::CallersAncestor, Protection::KernelThread]
                .into();
        for subject in [
            Subject { pid: 1, ..subject() },
            Subject { pid: 900, ..subject() },
            Subject { pid: 800, ..subject() },
            Subject { flags: KERNEL_THREAD, ..subject() },
            Subject { pid: 2, parent: 0, ..subject() },
        ] {
            assert!(refused(&subject, &[]), "{subject:?}");
            assert!(refused(&subject, &all), "{subject:?}");
        }
    }

    #[test]
    fn what_the_caller_lifts_by_naming_it() {
        let cases = [
            (Protection::Kubelet, Subject { names: vec!["kubelet".into()], ..subject() }),
            (Protection::Kubelet, Subject { names: vec!["k3s-server".into(), "k3s".into()], ..subject() }),
            (Protection::Runtime, Subject { names: vec!["x".into(), "containerd".into()], ..subject() }),
            (Protection::ShimWithChildren, Subject { is_shim: true, living_children: 1, ..subject() }),
            (Protection::NamespaceInit, Subject { namespace_pids: vec![700, 1], ..subject() }),
        ];
        for (protection, subject) in cases {
            assert!(refused(&subject, &[]), "{subject:?}");
            assert!(!refused(&subject, &[protection]), "{subject:?}");
            let others: Vec<Protection> = [
                Protection::Kubelet,
                Protection::Runtime,
                Protection::ShimWithChildren,
                Protection::NamespaceInit,
            ]
            .into_iter()
            .filter(|other| *other != protection)
            .collect();
            assert!(refused(&subject, &others), "{subject:?}");
        }
    }

    #[test]
    fn we_and_our_parent_are_protected_as_read_from_procfs() {
        let proc = ProcDir::open(std::path::Path::new("/proc")).expect("procfs");
        let own = Pid::new(i32::try_from(std::process::id()).expect("small")).expect("positive");
        assert!(Subject::read(&proc, own).expect("reads").protections().contains(&Protection::Caller));
        let parent = Pid::new(proc.stat(own).expect("stat").ppid).expect("a parent");
        let protections = Subject::read(&proc, parent).expect("reads").protections();
        assert!(protections.contains(&Protection::CallersAncestor), "{protections:?}");
        let init = Pid::new(1).expect("positive");
        assert!(Subject::read(&proc, init).expect("reads").protections().contains(&Protection::Init));
    }
}
