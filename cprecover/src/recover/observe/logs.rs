//! What kubelet and the components' last containers logged, cut to a bounded tail.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cri::RuntimeState;
use crate::error::{Error, ErrorKind, Result};
use crate::logs::{LogMatch, ScanOptions, scan_bytes};
use crate::model::{Component, Observed};
use crate::node::{NodeOptions, ServiceControl};
use crate::sys::{CommandOutput, CommandSpec, Commands, Deadline, find_program};

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
        // What is over the limit of the output is dropped at its end, which has to be the oldest.
        .args(["--no-pager", "--output=short", "--reverse", "--lines=4000", "--since=-15min", "--unit", unit])
        .timeout(Duration::from_secs(10));
    if node.root != Path::new("/") {
        spec = spec.args(["--root".as_ref(), node.root.as_os_str()]);
    }
    in_order_of_time(&commands.run(&spec, deadline)?)
}

/// Turns what `journalctl --reverse` printed, the newest line first, into a log.
fn in_order_of_time(output: &CommandOutput) -> Result<Vec<u8>> {
    let failed = |how: String| {
        let said = output.stderr_tail().replace('\n', " | ");
        Error::new(ErrorKind::Peer, format!("journalctl {how}: {said}"))
    };
    if !output.is_success() {
        let code = output.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        return Err(failed(format!("ended with {code}")));
    }
    let mut lines: Vec<&[u8]> = output.stdout.split_inclusive(|byte| *byte == b'\n').collect();
    // The last line is cut; a half line must not match.
    if output.truncated && lines.pop_if(|line| !line.ends_with(b"\n")).is_some() {
        tracing::info!(
            lines = lines.len(),
            "kubelet's journal is longer than what is read of it: the newest lines"
        );
    }
    // journalctl exits with 0 when there is no journal at all (systemd `src/journal/journalctl.c`).
    if lines.iter().all(|line| line.starts_with(b"-- ")) && !output.stderr.is_empty() {
        return Err(failed("printed no line".to_owned()));
    }
    Ok(lines.into_iter().rev().collect::<Vec<_>>().concat())
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
    use crate::logs::SignatureId;

    /// A journal, oldest line first, that is printed as journalctl prints it within the limits of the call.
    struct Journal(Vec<String>, CommandOutput);

    impl Commands for Journal {
        fn run(&self, spec: &CommandSpec, _: &Deadline) -> Result<CommandOutput> {
            let mut output = self.1.clone();
            let mut lines = self.0.clone();
            if spec.args.iter().any(|arg| arg == "--reverse") {
                lines.reverse();
            }
            output.stdout.extend(lines.concat().into_bytes());
            output.truncated = output.stdout.len() > spec.output_limit;
            output.stdout.truncate(spec.output_limit);
            Ok(output)
        }
    }

    fn look(lines: Vec<String>, output: CommandOutput) -> Logs {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir_all(dir.path().join("usr/bin")).expect("mkdir");
        std::fs::write(dir.path().join("usr/bin/journalctl"), "").expect("write");
        let node = NodeOptions::at(dir.path()).expect("absolute");
        let journal = Journal(lines, output);
        let unknown = Observed::Unknown("not asked".to_owned());
        read(&node, &unknown, &journal, &Deadline::after(Duration::from_secs(5)))
    }

    #[test]
    fn of_a_long_journal_the_newest_lines_are_read() {
        let line = |what: &str| format!("Jun 10 14:06:40 cp1 kubelet[1]: {what}\n");
        let old = line("open /old: no space left on device");
        let new = line("open /new: no space left on device");
        let between = vec![line(&"x".repeat(1000)); 3000];
        let lines = [vec![old], between, vec![line("open /late: no space left on device"), new]].concat();
        let logs = look(lines, CommandOutput::exited(0, "", ""));
        assert_eq!(logs.read, ["kubelet"]);
        let full = logs.matches.iter().filter(|found| found.signature == SignatureId::DiskFull);
        let paths: Vec<_> = full.filter_map(|found| found.param("path")).collect();
        assert_eq!(paths, ["/late", "/new"], "the newest, in the order of time");
    }

    #[test]
    fn a_journal_that_cannot_be_read_is_no_log_that_was_read() {
        let no_files = CommandOutput::exited(0, "-- No entries --\n", "No journal files were found.\n");
        let failed = CommandOutput::exited(1, "", "Failed to add match: Invalid argument\n");
        let cases =
            [(no_files, "No journal files were found."), (failed, "exit code 1: Failed to add match")];
        for (output, said) in cases {
            let logs = look(Vec::new(), output);
            assert!(logs.read.is_empty() && logs.matches.is_empty(), "{:?}", logs.read);
            assert!(logs.unread.iter().any(|(what, why)| what == "log of kubelet" && why.contains(said)));
        }
        // An empty journal was read.
        let logs = look(Vec::new(), CommandOutput::exited(0, "-- No entries --\n", ""));
        assert_eq!((logs.read.as_slice(), logs.unread.len()), (&["kubelet".to_owned()][..], 0));
    }

    #[test]
    fn a_tail_begins_with_a_whole_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("log");
        std::fs::write(&path, "first line\nsecond\nthird\n").expect("write");
        assert_eq!(tail(&path, 10).expect("read"), b"third\n");
        assert_eq!(tail(&path, 1000).expect("read").len(), 24);
    }
}
