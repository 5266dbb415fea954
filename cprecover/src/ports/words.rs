//! Puts evidence into words, one fact a line.

use super::evidence::{DataDirLock, Evidence};
use crate::model::Observed;

/// Characters of a command line that are shown.
const MAX_COMMAND_LINE: usize = 300;

/// Names a holder's program for a message: `nginx (pid 7, /usr/sbin/nginx)`.
pub(super) fn program(evidence: &Evidence) -> String {
    let pid = evidence.process.pid;
    match &evidence.exe {
        Observed::Present(exe) => format!("{} (pid {pid}, {})", evidence.comm, exe.path.display()),
        _ => format!("{} (pid {pid})", evidence.comm),
    }
}

/// Says what was read about a holder.
pub(super) fn describe(evidence: &Evidence) -> Vec<String> {
    let mut words = vec![format!("{} is {}, {}", evidence.process, evidence.comm, evidence.state.as_str())];
    words.push(match &evidence.exe {
        Observed::Present(exe) if exe.deleted => {
            format!("its program {} was removed or replaced since", exe.path.display())
        }
        Observed::Present(exe) => format!("its program is {}", exe.path.display()),
        Observed::Absent => "it has no program: a kernel thread or a zombie".to_owned(),
        Observed::Unknown(why) => format!("its program is unreadable: {why}"),
    });
    if let Some(line) = evidence.command_line.present() {
        let mut text = line.0.join(" ");
        if text.chars().count() > MAX_COMMAND_LINE {
            text = text.chars().take(MAX_COMMAND_LINE).chain("…".chars()).collect();
        }
        words.push(format!("its command line is {text:?}"));
    }
    if let Some(uid) = evidence.uid.present() {
        words.push(format!("it runs as uid {uid}"));
    }
    words.extend(
        evidence
            .listeners
            .iter()
            .map(|listener| format!("it listens on {} (socket {})", listener.address, listener.inode)),
    );
    if let Some(cgroup) = evidence.cgroup.present() {
        words.push(match cgroup.pod() {
            Some(pod) => format!(
                "its cgroup {} is that of pod {}, container {}",
                cgroup.path,
                pod.uid,
                pod.container.as_ref().map_or("none", |id| id.as_str())
            ),
            None => format!("its cgroup is {}", cgroup.path),
        });
    }
    words.extend(lock(evidence));
    if evidence.is_namespace_init() {
        words
            .push("it is the first process of a pid namespace, as a container's first process is".to_owned());
    }
    match &evidence.healthy {
        Observed::Present(true) => words.push("it answers that it is healthy".to_owned()),
        Observed::Present(false) => words.push("it answers that it is not healthy".to_owned()),
        Observed::Absent => words.push("it does not answer a health question".to_owned()),
        Observed::Unknown(why) => words.push(format!("whether it is healthy is not known: {why}")),
    }
    words
}

fn lock(evidence: &Evidence) -> Option<String> {
    match &evidence.data_dir_lock {
        Observed::Present(DataDirLock { db, last_copy: Some(last), .. }) => Some(format!(
            "its database {} was deleted; {} is the last copy of it",
            db.display(),
            last.display()
        )),
        Observed::Present(lock) if lock.held => Some(format!("it holds the lock on {}", lock.db.display())),
        Observed::Present(lock) => Some(format!("it has {} open without its lock", lock.db.display())),
        Observed::Absent => {
            evidence.data_dir.as_ref().map(|dir| format!("it has no database below {} open", dir.display()))
        }
        Observed::Unknown(why) => Some(format!("whether it has a database open is unreadable: {why}")),
    }
}
