//! What the stand-in runtime remembers, on disk as in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cprecover::model::{Pid, ProcessId};
use cprecover::sys::read_bounded;
use cprecover::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::double::daemon::start_ticks;

/// Folder of the runtime's state, below the node's root; gone after a reboot on a real node.
pub(super) const FOLDER: &str = "run/cprecover-runtime";

/// All that is remembered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    pub(super) sandboxes: BTreeMap<String, SandboxRecord>,
    pub(super) containers: BTreeMap<String, ContainerRecord>,
}

/// A sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SandboxRecord {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) attempt: u32,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// A path on the node.
    pub(super) log_directory: String,
    /// The pod's cgroup, from the root of the hierarchy.
    pub(super) cgroup: String,
    pub(super) created_at_ns: i64,
    pub(super) shim: ProcessId,
    pub(super) stopped: bool,
}

/// A container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) sandbox: String,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) image: String,
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: String,
    /// (path in the container, path on the node).
    pub(super) mounts: Vec<(String, String)>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// A path on the node.
    pub(super) log_path: String,
    pub(super) created_at_ns: i64,
    pub(super) started_at_ns: i64,
    pub(super) process: Option<ProcessId>,
    pub(super) exit: Option<ExitRecord>,
}

/// How a container ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ExitRecord {
    /// The exit code; 128 and the signal's number when a signal ended it.
    pub(super) code: i32,
    pub(super) finished_at_ns: i64,
    pub(super) reason: String,
    pub(super) message: String,
}

impl ContainerRecord {
    /// Reports whether it was started and is not known to have ended.
    pub(super) fn is_running(&self) -> bool {
        self.process.is_some() && self.exit.is_none()
    }
}

/// A process that was started for this node, for the clean-up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Started {
    pub(super) process: ProcessId,
    pub(super) role: Role,
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Runtime,
    Shim,
    Container,
}

/// The files of the runtime below one root.
#[derive(Debug, Clone)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn of(root: &Path) -> Self {
        Self(root.join(FOLDER))
    }

    pub(super) fn memory(&self) -> PathBuf {
        self.0.join("state.json")
    }

    pub(super) fn cgroups(&self) -> PathBuf {
        self.0.join("cgroups.json")
    }

    pub(super) fn shim_socket(&self, sandbox: &str) -> PathBuf {
        self.0.join(sandbox).join("shim.sock")
    }

    pub(super) fn exit_file(&self, sandbox: &str, container: &str) -> PathBuf {
        self.0.join(sandbox).join(format!("{container}.exit"))
    }

    /// Adds a process to the list that the clean-up reads. Nothing is ever taken off it: an orphan
    /// outlives the records of its container.
    pub(super) fn note(&self, process: ProcessId, role: Role) -> Result<()> {
        let path = self.0.join("processes");
        let mut line = serde_json::to_vec(&Started { process, role })
            .map_err(|source| Error::with_source(ErrorKind::Internal, "serialise a process", source))?;
        line.push(b'\n');
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(&line))
            .map_err(|source| Error::path("write", &path, source))
    }

    /// Returns all processes that were ever noted.
    pub(super) fn noted(&self) -> Result<Vec<Started>> {
        let bytes = match read_bounded(&self.0.join("processes"), 16 << 20) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// Returns who a process is; one that ended and is not waited for yet has a name too.
pub(super) fn identify(pid: u32) -> Option<ProcessId> {
    let pid = Pid::new(i32::try_from(pid).ok()?)?;
    let stat = procfs::process::Process::new(pid.get()).and_then(|process| process.stat()).ok()?;
    Some(ProcessId { pid, start_ticks: stat.starttime })
}

/// Reports whether this very process runs; a zombie does not.
pub(super) fn is_alive(process: ProcessId) -> bool {
    start_ticks(process.pid.get()) == Some(process.start_ticks)
}

/// Returns the wall clock in CRI's unit.
pub(super) fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Writes a file that is either the old or the new one, never half.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|source| {
        Error::with_source(ErrorKind::Internal, format!("serialise {}", path.display()), source)
    })?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|source| Error::path("write", path, source))
}

/// Reads such a file; `None` when it is not there.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match read_bounded(path, 64 << 20) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| Error::with_source(ErrorKind::Corrupt, format!("read {}", path.display()), source))
}
