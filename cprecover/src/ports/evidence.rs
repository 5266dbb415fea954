//! What can be read about one port holder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::CgroupPath;
use super::listener::Listener;
use crate::model::{Component, Observed, Pid, ProcessId};

/// The program behind a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Executable {
    /// Its path in the process' own mount namespace, without ` (deleted)`.
    pub path: PathBuf,
    /// Whether the file was removed or replaced since.
    pub deleted: bool,
}

impl Executable {
    /// Returns the last part of the path.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.path.file_name().and_then(|name| name.to_str())
    }
}

/// The arguments of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandLine(pub Vec<String>);

impl ProcessState {
    /// Reads the letter.
    #[must_use]
    pub const fn of_letter(letter: char) -> Self {
        match letter {
            'R' | 'S' | 'I' => Self::Alive,
            'T' | 't' => Self::Stopped,
            'D' => Self::Uninterruptible,
            'Z' => Self::Zombie,
            other => Self::Other(other),
        }
    }

    /// Returns the state in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Stopped => "stopped",
            Self::Uninterruptible => "in uninterruptible sleep (D)",
            Self::Zombie => "a zombie",
            Self::Other(_) => "in an unknown state",
        }
    }
}

impl CommandLine {
    /// Returns the value of `--name=value` or `--name value` (also with one dash); the last one wins,
    /// as in Go's `flag`.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&str> {
        let mut found = None;
        let mut args = self.0.iter().skip(1).peekable();
        while let Some(arg) = args.next() {
            let Some(body) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else { continue };
            match body.split_once('=') {
                Some((key, value)) if key == name => found = Some(value),
                None if body == name => found = args.peek().map(|value| value.as_str()),
                _ => {}
            }
        }
        found
    }
}

/// The state letter of `/proc/PID/stat` (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProcessState {
    /// `R`, `S`, `I`: runs or waits for something that a signal ends.
    Alive,
    /// `T`, `t`: stopped by a signal or a debugger; SIGTERM waits until it goes on.
    Stopped,
    /// `D`: waits for the kernel; no signal reaches it.
    Uninterruptible,
    /// `Z`: ended, not yet reaped by its parent.
    Zombie,
    /// `X` or unknown to this version.
    Other(char),
}

/// A process that a container runtime puts between itself and a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Shim {
    /// The sandbox (containerd) or container (CRI-O's conmon, docker) that it serves, by its arguments.
    pub serves: Option<String>,
    /// containerd's namespace, by its arguments: `k8s.io` for CRI, `moby` for Docker.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// One process on the way from the holder to PID 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Ancestor {
    /// The process.
    pub process: ProcessId,
    /// Its command name.
    pub comm: String,
    /// Its cgroup.
    pub cgroup: Observed<CgroupPath>,
    /// Set when it is a runtime's shim.
    pub shim: Option<Shim>,
}

/// Whether a process holds the lock on an etcd data directory.
///
/// etcd opens `member/snap/db` and keeps flock(2) on it as long as it lives (bbolt `bolt_unix.go`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DataDirLock {
    /// The database as the process sees it.
    pub db: PathBuf,
    /// Device and inode of the database that it has open.
    pub file: (u64, u64),
    /// Whether it holds the lock on that file.
    pub held: bool,
    /// Where the bytes can still be copied from when the file was deleted (`/proc/PID/fd/N`, proc(5)): they
    /// are gone with the process. `None` while the file has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_copy: Option<PathBuf>,
}

/// What was read about a port holder; nothing here is a conclusion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Evidence {
    /// The process.
    pub process: ProcessId,
    /// Whether it was gone, or another process had its pid, when the evidence was complete.
    pub gone: bool,
    /// Its command name.
    pub comm: String,
    /// Its program; absent for a kernel thread.
    pub exe: Observed<Executable>,
    /// Its arguments.
    pub command_line: Observed<CommandLine>,
    /// Its effective user.
    pub uid: Observed<u32>,
    /// Its state.
    pub state: ProcessState,
    /// Its cgroup.
    pub cgroup: Observed<CgroupPath>,
    /// Its parent, its parent's parent, … up to PID 1.
    pub ancestors: Vec<Ancestor>,
    /// Its pid in each pid namespace from ours inwards; ends with 1 when it is a namespace's init.
    pub namespace_pids: Vec<Pid>,
    /// The listeners of the looked-up port that it owns.
    pub listeners: Vec<Listener>,
    /// `--data-dir`, as the process sees it.
    pub data_dir: Option<PathBuf>,
    /// The lock on the database below its `--data-dir`; absent when it has no such file open.
    pub data_dir_lock: Observed<DataDirLock>,
    /// What it answers to a health question: absent when it does not answer at all, unknown until an
    /// [`AskHealth`](super::AskHealth) was asked, which the caller does.
    pub healthy: Observed<bool>,
}

impl Evidence {
    /// Reports whether it is the init of a pid namespace below ours.
    #[must_use]
    pub fn is_namespace_init(&self) -> bool {
        self.namespace_pids.len() > 1 && self.namespace_pids.last().is_some_and(|pid| pid.get() == 1)
    }

    /// Returns the control-plane component whose program it runs, by the program's name.
    #[must_use]
    pub fn component(&self) -> Option<Component> {
        let name = self.exe.present()?.name()?;
        Component::ALL.into_iter().find(|component| component.as_str() == name)
    }
}
