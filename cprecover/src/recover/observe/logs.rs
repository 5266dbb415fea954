//! What kubelet and the components' last containers logged, cut to a bounded tail.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cri::RuntimeState;
use crate::error::{Error, Result};
use crate::logs::{LogMatch, ScanOptions, scan_bytes};
use crate::model::{Component, Observed};
use crate::node::{NodeOptions, ServiceControl};
use crate::sys::{CommandSpec, Commands, Deadline, find_program};

/// How much of kubelet's log is read, in bytes.
const KUBELET_TAIL_BYTES: u64 = 1 << 20;
/// How much of a container's log is read, in bytes.
const CONTAINER_TAIL_BYTES: u64 = 256 << 10;

/// What the logs say and which were read; a log that could not be read is returned as text.
#[derive(Default)]
pub(super) struct Logs {
    pub(super) matches: Vec<LogMatch>,
    pub(super) read: Vec<String>,
    pub(super) unread: Vec<(String, String)>,
}

/// Reads the logs that tell why components do not run.
pub(super) fn read(
    node: &NodeOptions,
    runtime: &Observed<RuntimeState>,
    commands: &dyn Commands,
    deadline: &Deadline,
) -> Logs {
    let (texts, unread) = texts(node, runtime, commands, deadline);
    let mut logs = Logs { unread, ..Logs::default() };
    for (name, bytes) in texts {
        logs.matches.extend(scan_bytes(&name, &bytes, &ScanOptions::default()).matches);
        logs.read.push(name);
    }
    logs
}

/// Names of logs, and their ends.
pub(in crate::recover) type Texts = Vec<(String, Vec<u8>)>;
/// What could not be read, and why.
pub(in crate::recover) type Unread = Vec<(String, String)>;

/// The ends of those logs by name, and what could not be read.
pub(in crate::recover) fn texts(
    node: &NodeOptions,
    runtime: &Observed<RuntimeState>,
    commands: &dyn Commands,
    deadline: &Deadline,
) -> (Texts, Unread) {
    let mut found = Vec::new();
    let mut unread = Vec::new();
    let mut take = |name: String, bytes: Result<Vec<u8>>| match bytes {
        Ok(bytes) => found.push((name, bytes)),
        Err(error) => unread.push((format!("log of {name}"), error.to_string())),
    };
    take("kubelet".to_owned(), kubelet(node, commands, deadline));
    if let Observed::Present(state) = runtime {
        for component in Component::ALL {
            if let Some(path) = newest_container_log(node, state, component) {
                take(path.display().to_string(), tail(&node.resolve(&path), CONTAINER_TAIL_BYTES));
            }
        }
    }
    (found, unread)
}

fn kubelet(node: &NodeOptions, commands: &dyn Commands, deadline: &Deadline) -> Result<Vec<u8>> {
    if let Some(path) = &node.kubelet_log {
        return tail(&node.resolve(path), KUBELET_TAIL_BYTES);
    }
    let unit = match &node.kubelet {
        ServiceControl::Systemd(unit) => unit.as_str(),
        ServiceControl::Commands { .. } => "kubelet",
    };
    let journalctl = find_program(&node.root, "journalctl")?;
    let mut spec = CommandSpec::new(journalctl)
        .args(["--no-pager", "--output=short", "--lines=4000", "--since=-15min", "--unit", unit])
        .timeout(Duration::from_secs(10));
    if node.root != Path::new("/") {
        spec = spec.args(["--root".as_ref(), node.root.as_os_str()]);
    }
    Ok(commands.run(&spec, deadline)?.stdout)
}

/// The log of a component's newest container: `<ns>_<pod>_<uid>/<container>/<attempt>.log` (kubernetes
/// `pkg/kubelet/kuberuntime/helpers.go`, `BuildContainerLogsDirectory`).
fn newest_container_log(node: &NodeOptions, state: &RuntimeState, component: Component) -> Option<PathBuf> {
    let container = state.component_containers(component).into_iter().next()?;
    let sandbox = state.sandbox_of(container)?;
    let folder = format!("{}_{}_{}", sandbox.namespace, sandbox.pod_name, sandbox.uid);
    let log = node.pod_logs_dir.join(folder).join(&container.name).join(format!("{}.log", container.attempt));
    // An attempt that has not logged yet has no file; the one before it says why it ended.
    if node.resolve(&log).exists() || container.attempt == 0 {
        return Some(log);
    }
    Some(log.with_file_name(format!("{}.log", container.attempt - 1)))
}

fn tail(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |op: &'static str| move |source| Error::path(op, path, source);
    let mut file = File::open(path).map_err(failed("open"))?;
    let length = file.metadata().map_err(failed("stat"))?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit))).map_err(failed("seek"))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(failed("read"))?;
    if length > limit {
        // The first line is cut; a half line must not match.
        let start = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
        bytes.drain(..start);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_begins_with_a_whole_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("log");
        std::fs::write(&path, "first line\nsecond\nthird\n").expect("write");
        assert_eq!(tail(&path, 10).expect("read"), b"third\n");
        assert_eq!(tail(&path, 1000).expect("read").len(), 24);
    }
}
