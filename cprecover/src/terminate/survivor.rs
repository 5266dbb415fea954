//! Says why a process outlives SIGKILL.

use crate::model::Pid;
use crate::ports::ProcessState;
use crate::ports::procdir::ProcDir;

/// Threads that are looked at.
const MAX_THREADS: usize = 4096;

/// Puts the state of a process that should have ended into words.
pub(super) fn describe(proc: &ProcDir, pid: Pid) -> String {
    let state = |task: &str| {
        let text = proc.read(&format!("{task}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        // The command name before it may hold anything (proc(5)).
        let letter = text.rsplit_once(") ")?.1.chars().next()?;
        Some(ProcessState::of_letter(letter))
    };
    let own = state(&pid.to_string());
    let mut tasks = vec![pid];
    tasks.extend(proc.other_threads(pid).unwrap_or_default().into_iter().take(MAX_THREADS));
    let blocked = tasks
        .iter()
        .map(|thread| format!("{pid}/task/{thread}"))
        .find(|task| state(task) == Some(ProcessState::Uninterruptible));
    let waits = |task: &str| {
        let channel = proc.read(&format!("{task}/wchan")).unwrap_or_default();
        let channel = String::from_utf8_lossy(&channel).into_owned();
        if matches!(channel.as_str(), "" | "0") { String::new() } else { format!(" in {channel}") }
    };
    match (own, blocked) {
        (Some(ProcessState::Zombie), Some(task)) => format!(
            "pid {pid} is a zombie, but its thread {task} waits for the kernel{} (D): storage or a driver hangs; \
             only that, or a reboot, ends it",
            waits(&task)
        ),
        (_, Some(task)) => format!(
            "pid {pid} waits for the kernel{} (D): storage or a driver hangs; only that, or a reboot, ends it",
            waits(&task)
        ),
        (Some(ProcessState::Zombie), None) if tasks.len() > 1 => {
            format!("pid {pid} is a zombie with {} threads that have not ended", tasks.len() - 1)
        }
        (Some(state), None) => format!("pid {pid} is {} after SIGKILL", state.as_str()),
        (None, None) => format!("the state of pid {pid} is unreadable"),
    }
}
