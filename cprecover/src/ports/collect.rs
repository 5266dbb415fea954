//! Reads the evidence about one port holder from procfs.

use std::path::PathBuf;

use rustix::io::Errno;

use super::cgroup::CgroupPath;
use super::evidence::{Ancestor, CommandLine, Evidence, Executable, ProcessState, Shim};
use super::holder::Holder;
use super::lock;
use super::procdir::ProcDir;
use super::query::Query;
use crate::error::{ErrorKind, Result};
use crate::model::{Observed, Pid, ProcessId};
use crate::sys::Deadline;

/// Longest chain of parents that is followed.
const MAX_ANCESTORS: usize = 64;

/// Why it is not known whether a holder is healthy, until somebody asks it.
const NOT_ASKED: &str = "it was not asked";

/// Reads what there is to know about a holder.
///
/// Facts that cannot be read become [`Observed::Unknown`]; a process that is gone, or whose pid belongs
/// to another process by the end of the reading, gives [`Evidence::gone`].
///
/// # Errors
/// [`Timeout`](ErrorKind::Timeout) and [`Cancelled`](ErrorKind::Cancelled) by the deadline, and the kinds
/// of a failed open of procfs.
pub fn collect(holder: &Holder, query: &Query, deadline: &Deadline) -> Result<Evidence> {
    deadline.check(&format!("collect evidence about {}", holder.process))?;
    let proc = ProcDir::open(&query.proc_dir)?;
    let pid = holder.process.pid;
    let status = proc.status(pid).ok();
    let command_line = command_line(&proc, pid);
    let data_dir = command_line.present().and_then(|line| line.flag("data-dir")).map(PathBuf::from);
    let mut evidence = Evidence {
        process: holder.process,
        gone: false,
        comm: holder.comm.clone(),
        exe: executable(&proc, pid),
        command_line,
        uid: status.as_ref().map_or_else(
            || Observed::Unknown(format!("status of pid {pid} is unreadable")),
            |status| Observed::Present(status.euid),
        ),
        state: ProcessState::Other('?'),
        cgroup: cgroup(&proc, pid),
        ancestors: ancestors(&proc, pid),
        namespace_pids: status
            .and_then(|status| status.nspid)
            .unwrap_or_default()
            .into_iter()
            .filter_map(Pid::new)
            .collect(),
        listeners: holder.listeners.clone(),
        data_dir,
        data_dir_lock: lock::of_process(&proc, pid),
        healthy: Observed::Unknown(NOT_ASKED.into()),
    };
    // Read last: only a process that still is the same one has said all of the above.
    match proc.stat(pid) {
        Ok(stat) => {
            evidence.state = ProcessState::of_letter(stat.state);
            evidence.gone = stat.starttime != holder.process.start_ticks;
        }
        Err(error) => evidence.gone = error.kind() == ErrorKind::NotFound,
    }
    evidence.gone |= holder.handle.as_ref().is_some_and(crate::terminate::ProcessHandle::has_ended);
    Ok(evidence)
}

/// Returns the program of a process; absent for a kernel thread, which has none.
pub(crate) fn executable(proc: &ProcDir, pid: Pid) -> Observed<Executable> {
    match proc.link(&format!("{pid}/exe")) {
        Ok(text) => {
            let path = text.strip_suffix(" (deleted)");
            Observed::Present(Executable {
                deleted: path.is_some(),
                path: PathBuf::from(path.unwrap_or(&text)),
            })
        }
        // The folder exists and the link does not: a kernel thread, or a zombie.
        Err(Errno::NOENT) if proc.owner(pid).is_ok() => Observed::Absent,
        Err(errno) => Observed::Unknown(proc.process_error(pid, "exe", errno).to_string()),
    }
}

/// Returns the cgroup of a process.
pub(crate) fn cgroup(proc: &ProcDir, pid: Pid) -> Observed<CgroupPath> {
    let read =
        proc.read_of(pid, "cgroup").and_then(|text| CgroupPath::parse(&String::from_utf8_lossy(&text)));
    match read {
        Ok(path) => Observed::Present(path),
        // Every process has a cgroup: a missing file says nothing.
        Err(error) => Observed::Unknown(error.to_string()),
    }
}

fn command_line(proc: &ProcDir, pid: Pid) -> Observed<CommandLine> {
    match proc.read_of(pid, "cmdline") {
        Ok(bytes) if bytes.is_empty() => Observed::Absent,
        Ok(bytes) => {
            let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
            let args = bytes.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned());
            Observed::Present(CommandLine(args.collect()))
        }
        Err(error) => Observed::Unknown(error.to_string()),
    }
}

fn ancestors(proc: &ProcDir, pid: Pid) -> Vec<Ancestor> {
    let mut found = Vec::new();
    let mut next = proc.stat(pid).ok().and_then(|stat| Pid::new(stat.ppid));
    while let Some(pid) = next.filter(|_| found.len() < MAX_ANCESTORS) {
        let Ok(stat) = proc.stat(pid) else { break };
        found.push(Ancestor {
            process: ProcessId { pid, start_ticks: stat.starttime },
            shim: shim(proc, pid, &stat.comm),
            comm: stat.comm,
            cgroup: cgroup(proc, pid),
        });
        next = Pid::new(stat.ppid);
    }
    found
}

/// Recognises a runtime's shim by its command name, and whom it serves by its arguments.
///
/// containerd: `containerd-shim-runc-v2 -namespace k8s.io -id <sandbox> …` (`core/runtime/v2/shim.go`);
/// CRI-O: `conmon … -c <container> …` (conmon(8)).
pub(crate) fn shim(proc: &ProcDir, pid: Pid, comm: &str) -> Option<Shim> {
    let flags: &[&str] = match comm {
        // `containerd-shim-runc-v2` is cut to 15 bytes.
        comm if comm.starts_with("containerd-shim") || comm.starts_with("docker-containe") => &["id"],
        "conmon" | "conmonrs" => &["cid", "c"],
        _ => return None,
    };
    let line = command_line(proc, pid);
    let told = |flag: &str| line.present()?.flag(flag).map(str::to_owned);
    Some(Shim { serves: flags.iter().find_map(|flag| told(flag)), namespace: told("namespace") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_tells_whom_it_serves_and_in_which_namespace() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pid = Pid::new(42).expect("positive");
        std::fs::create_dir(dir.path().join("42")).expect("mkdir");
        let told = |comm: &str, line: &str| {
            std::fs::write(dir.path().join("42/cmdline"), line.replace(' ', "\0")).expect("write");
            let shim = shim(&ProcDir::open(dir.path()).expect("opens"), pid, comm)?;
            Some((shim.serves, shim.namespace))
        };
        let texts = |serves: &str, namespace: &str| {
            Some((Some(serves.to_owned()), Some(namespace.to_owned()).filter(|text| !text.is_empty())))
        };
        let line =
            "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id 7a76 -address /run/containerd/c.sock";
        assert_eq!(told("containerd-shim", line), texts("7a76", "k8s.io"));
        let line = "/usr/bin/containerd-shim-runc-v2 -namespace moby -id 7a76";
        assert_eq!(told("containerd-shim", line), texts("7a76", "moby"));
        assert_eq!(told("conmon", "/usr/bin/conmon -b /run/x -c 0f3e -n k8s_etcd"), texts("0f3e", ""));
        assert_eq!(told("bash", "bash -c x"), None);
    }
}
