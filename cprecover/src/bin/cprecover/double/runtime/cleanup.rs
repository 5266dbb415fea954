//! Ends everything that a stand-in runtime ever started below one root.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use cprecover::model::ProcessId;
use cprecover::{Error, ErrorKind, Result};
use rustix::process::{Pid as RawPid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::cgroup::Cgroups;
use super::record::{Folder, Role, Started, is_alive, read_json};
use crate::double::daemon::start_ticks;

/// How long all of it may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Kills the runtime, its shims, its containers and their children, orphans too, and removes the cgroups.
///
/// Processes are told by pid and start time, so that a pid in other hands is safe.
pub(crate) fn cleanup(root: &Path) -> Result<()> {
    let folder = Folder::of(root);
    let noted = folder.noted()?;
    let cgroups: Option<Cgroups> = read_json(&folder.cgroups())?;
    let until = Instant::now() + TIMEOUT;
    // Whoever could start more goes first.
    for role in [Role::Runtime, Role::Shim, Role::Container] {
        let sessions = sessions(&noted);
        loop {
            let mut left = noted.iter().filter(|started| started.role == role && is_alive(started.process));
            let first = left.next();
            for started in first.iter().copied().chain(left) {
                kill(started.process);
            }
            let members = if role == Role::Container { kill_sessions(&sessions) } else { 0 };
            if first.is_none() && members == 0 {
                break;
            }
            if Instant::now() > until {
                let message = format!("processes of {} do not end", root.display());
                return Err(Error::new(ErrorKind::Timeout, message));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    if let Some(cgroups) = cgroups {
        cgroups.destroy().map_err(|reason| Error::new(ErrorKind::Busy, reason))?;
    }
    match std::fs::remove_dir_all(&folder.0) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::path("remove", &folder.0, source))
        }
        _ => Ok(()),
    }
}

fn kill(process: ProcessId) {
    let Some(pid) = RawPid::from_raw(process.pid.get()) else { return };
    // The descriptor first, then the check: the pid cannot change hands in between unnoticed.
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
        && is_alive(process)
    {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

/// Every container leads a session. Its number is not given to a new process while a member lives, so it
/// is still the container's unless another process has the leader's pid now.
fn sessions(noted: &[Started]) -> HashSet<i32> {
    noted
        .iter()
        .filter(|started| started.role == Role::Container)
        .filter(|started| {
            start_ticks(started.process.pid.get()).is_none_or(|ticks| ticks == started.process.start_ticks)
        })
        .map(|started| started.process.pid.get())
        .collect()
}

/// Kills the members of sessions; returns how many there were.
fn kill_sessions(sessions: &HashSet<i32>) -> usize {
    let Ok(processes) = procfs::process::all_processes() else { return 0 };
    let mut found = 0;
    for process in processes.filter_map(std::result::Result::ok) {
        let Ok(stat) = process.stat() else { continue };
        if stat.state == 'Z' || !sessions.contains(&stat.session) {
            continue;
        }
        found += 1;
        if let Some(pid) = cprecover::model::Pid::new(stat.pid) {
            kill(ProcessId { pid, start_ticks: stat.starttime });
        }
    }
    found
}
