//! Whether a process still is the judged one.

use super::handle::ProcessHandle;
use super::plan::{EndOptions, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Observed, Pid};
use crate::ports::procdir::ProcDir;
use crate::ports::{self, ProcessState};

/// What a look at the process found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) state: ProcessState,
    /// Whether it still has one of the target's listening sockets.
    pub(super) listens: bool,
}

/// Reads who the process is and compares it with the target; `None` when it has ended.
///
/// The pidfd is looked at last: only if the process still lives then, all that was read is its own.
pub(super) fn check(
    proc: &ProcDir,
    handle: &ProcessHandle,
    target: &Target,
    options: &EndOptions,
) -> Result<Option<Seen>> {
    let seen = compare(proc, handle, target, options);
    if handle.has_ended() {
        return Ok(None);
    }
    seen.map(Some)
}

fn compare(proc: &ProcDir, handle: &ProcessHandle, target: &Target, options: &EndOptions) -> Result<Seen> {
    let pid = target.process.pid;
    if handle.id() != target.process {
        return Err(changed(pid, format!("the pid belongs to {} now", handle.id())));
    }
    let stat = proc.stat(pid)?;
    if stat.starttime != target.process.start_ticks {
        return Err(changed(pid, format!("it was started at tick {} now", stat.starttime)));
    }
    if let Some(exe) = &target.exe {
        match ports::executable(proc, pid) {
            Observed::Present(now) if now.path == *exe => {}
            Observed::Present(now) => {
                return Err(changed(
                    pid,
                    format!("it runs {} now, not {}", now.path.display(), exe.display()),
                ));
            }
            Observed::Absent => {
                return Err(changed(pid, format!("it has no program now, not {}", exe.display())));
            }
            Observed::Unknown(why) => return Err(unreadable(pid, &why)),
        }
    }
    if let Some(cgroup) = &target.cgroup {
        match ports::cgroup(proc, pid) {
            Observed::Present(now) if now.path == *cgroup => {}
            Observed::Present(now) => {
                return Err(changed(pid, format!("it is in cgroup {} now, not {cgroup}", now.path)));
            }
            Observed::Absent => return Err(unreadable(pid, "no cgroup")),
            Observed::Unknown(why) => return Err(unreadable(pid, &why)),
        }
    }
    Ok(Seen { state: ProcessState::of_letter(stat.state), listens: listens(proc, pid, target, options)? })
}

/// Reports whether a socket of the target's still listens and still is the process' own.
fn listens(proc: &ProcDir, pid: Pid, target: &Target, options: &EndOptions) -> Result<bool> {
    let Some(query) = &options.port else {
        // No port was asked about: the descriptor alone has to tell.
        return ports::owns(proc, pid, &target.sockets());
    };
    let mut still: Vec<u64> = ports::listeners(query)?.iter().map(|listener| listener.inode).collect();
    still.retain(|inode| target.sockets().contains(inode));
    if still.is_empty() { Ok(false) } else { ports::owns(proc, pid, &still) }
}

pub(super) fn changed(pid: Pid, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Changed, format!("pid {pid} is not the judged process any more: {what}"))
}

fn unreadable(pid: Pid, why: &str) -> Error {
    Error::new(ErrorKind::Changed, format!("pid {pid} cannot be identified again: {why}"))
}
