//! Ends a process, step by step.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use super::cgroup::{self, Checked};
use super::handle::ProcessHandle;
use super::identity::{self, Seen, changed};
use super::plan::{EndOptions, Outcome, Step, Target};
use super::release::{self, Freed};
use super::{guard, survivor};
use crate::error::{Error, ErrorKind, Result};
use crate::ports::ProcessState;
use crate::ports::procdir::ProcDir;
use crate::sys::{Deadline, millis};

/// Ends a process: SIGTERM, the grace time, SIGKILL, then waits for port and lock.
///
/// Before each signal the process is identified again through its pidfd: start time, program, cgroup,
/// and the same listening socket. A process that closed its socket on SIGTERM but keeps the lock on its
/// data directory is killed all the same; one that keeps neither is left to end by itself.
///
/// # Errors
/// [`Refused`](ErrorKind::Refused) for a protected process, [`Changed`](ErrorKind::Changed) when it is
/// not the judged process any more (it was not signalled after that was seen),
/// [`PermissionDenied`](ErrorKind::PermissionDenied), [`Unsupported`](ErrorKind::Unsupported) for a
/// procfs of another pid namespace or a kernel without pidfds (before Linux 5.3), and the deadline's
/// kinds; the message says when SIGTERM was sent before.
pub fn end(target: &Target, options: &EndOptions, deadline: &Deadline) -> Result<Outcome> {
    let doing = format!("end {}", target.process);
    deadline.check(&doing)?;
    let proc = ProcDir::open(&options.proc_dir)?;
    if !proc.is_own_namespace() {
        let what = format!("{doing}: {} is of another pid namespace", options.proc_dir.display());
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let handle = match &target.handle {
        Some(handle) => handle.clone(),
        None => match ProcessHandle::open(&proc, target.process.pid) {
            Ok(handle) => handle,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return already_gone(target, options, deadline);
            }
            Err(error) => return Err(error.context(doing)),
        },
    };
    let mut ending =
        Ending { proc, handle, target, options, deadline, steps: Vec::new(), notes: notes(options) };
    let signalled_before = |error: Error, steps: &[Step]| {
        let sent = if steps.is_empty() { "" } else { " (SIGTERM was sent)" };
        error.context(format!("{doing}{sent}"))
    };
    ending.run().map_err(|error| signalled_before(error, &ending.steps))
}

fn already_gone(target: &Target, options: &EndOptions, deadline: &Deadline) -> Result<Outcome> {
    Ok(Outcome::AlreadyGone { release: release::wait(target, options, deadline)? })
}

fn notes(options: &EndOptions) -> Vec<String> {
    options
        .etcd_version
        .filter(|version| version.corrupts_on_kill())
        .map(|version| {
            format!(
                "etcd {version} may corrupt its data when it is killed under load (etcd issue 13766, fixed in \
                 3.5.3): it gets at least {} s after SIGTERM; check the data and upgrade",
                EndOptions::RISKY_GRACE.as_secs()
            )
        })
        .into_iter()
        .collect()
}

struct Ending<'a> {
    proc: ProcDir,
    handle: ProcessHandle,
    target: &'a Target,
    options: &'a EndOptions,
    deadline: &'a Deadline,
    steps: Vec<Step>,
    notes: Vec<String>,
}

impl Ending<'_> {
    fn run(&mut self) -> Result<Outcome> {
        let Some(seen) = self.identify()? else {
            return already_gone(self.target, self.options, self.deadline);
        };
        if !self.target.listeners.is_empty() && !seen.listens {
            return Err(changed(self.target.process.pid, "none of its sockets listens on the port any more"));
        }
        if let Err(error) = guard::check(&self.proc, self.target.process.pid, &self.target.lifted) {
            // What could not be read because the process ended is no refusal.
            return if self.handle.has_ended() {
                already_gone(self.target, self.options, self.deadline)
            } else {
                Err(error)
            };
        }
        let group = if self.options.whole_cgroup { Some(self.check_cgroup()?) } else { None };
        if self.options.dry_run {
            return Ok(self.rehearse(group.as_ref()));
        }
        self.terminate(&seen)?;
        if !self.wait(self.grace())? {
            match self.kill()? {
                Killing::Needless => return self.let_go(),
                Killing::Sent => {}
            }
            if !self.wait(self.options.kill_wait)? {
                let state = survivor::describe(&self.proc, self.target.process.pid);
                return Ok(Outcome::Survived { steps: std::mem::take(&mut self.steps), state });
            }
        }
        self.kill_rest()?;
        self.finish()
    }

    fn identify(&self) -> Result<Option<Seen>> {
        identity::check(&self.proc, &self.handle, self.target, self.options)
    }

    fn grace(&self) -> Duration {
        let risky = self.options.etcd_version.is_some_and(super::EtcdVersion::corrupts_on_kill);
        if risky { self.options.grace.max(EndOptions::RISKY_GRACE) } else { self.options.grace }
    }

    fn check_cgroup(&self) -> Result<Checked> {
        cgroup::check(&self.proc, self.target, &self.options.cgroup_dirs)
    }

    fn rehearse(&self, group: Option<&Checked>) -> Outcome {
        let kill = match group {
            Some(group) => Step::KillCgroup { cgroup: group.path.clone() },
            None => Step::Kill,
        };
        let mut notes = self.notes.clone();
        if let Some(group) = group {
            let pids: Vec<String> = group.processes.iter().map(|process| process.pid.to_string()).collect();
            notes.push(format!("{} holds pids {}", group.path, pids.join(" ")));
        }
        let wait = Step::Wait { waited_ms: millis(self.grace()) };
        Outcome::WouldEnd { steps: vec![Step::Terminate, wait, kill, Step::Release], notes }
    }

    fn terminate(&mut self, seen: &Seen) -> Result<()> {
        self.deadline.check("before SIGTERM")?;
        self.signal(Signal::TERM)?;
        self.steps.push(Step::Terminate);
        if seen.state == ProcessState::Stopped {
            // A stopped process acts on SIGTERM only when it goes on.
            self.signal(Signal::CONT)?;
            self.notes.push("it was stopped; SIGCONT let it act on SIGTERM".to_owned());
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<Killing> {
        let Some(seen) = self.identify()? else { return Ok(Killing::Sent) };
        let release = release::look(self.target, self.options)?;
        let holds_lock = release.lock == Some(Freed::StillHeld);
        if !self.target.listeners.is_empty() && !seen.listens && !holds_lock {
            return Ok(Killing::Needless);
        }
        self.deadline.check("before SIGKILL")?;
        guard::check(&self.proc, self.target.process.pid, &self.target.lifted)?;
        if self.options.whole_cgroup {
            let group = self.check_cgroup()?;
            group.kill()?;
            self.steps.push(Step::KillCgroup { cgroup: group.path });
        } else {
            self.signal(Signal::KILL)?;
            self.steps.push(Step::Kill);
        }
        Ok(Killing::Sent)
    }

    /// Kills what a process that obeyed SIGTERM left behind in its cgroup.
    fn kill_rest(&mut self) -> Result<()> {
        if !self.options.whole_cgroup || self.steps.iter().any(|step| matches!(step, Step::KillCgroup { .. }))
        {
            return Ok(());
        }
        let group = match self.check_cgroup() {
            // An empty cgroup is removed by whoever made it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
                return Ok(());
            }
            other => other?,
        };
        if !group.processes.is_empty() {
            self.deadline.check("before killing the rest of the cgroup")?;
            group.kill()?;
            self.steps.push(Step::KillCgroup { cgroup: group.path });
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        tracing::info!(process = %self.target.process, ?signal, "signal");
        match self.handle.signal(signal) {
            // It ended in the meantime: that is what was wanted.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(source) => Err(Error::io(format!("signal {}", self.target.process), source)),
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let start = Instant::now();
        let ended = self.handle.wait(timeout, self.deadline)?;
        self.steps.push(Step::Wait { waited_ms: millis(start.elapsed()) });
        Ok(ended)
    }

    fn let_go(&mut self) -> Result<Outcome> {
        let release = release::wait(self.target, self.options, self.deadline)?;
        self.steps.push(Step::Release);
        self.notes.push("it let go of everything but has not ended".to_owned());
        Ok(Outcome::LetGo {
            steps: std::mem::take(&mut self.steps),
            release,
            notes: std::mem::take(&mut self.notes),
        })
    }

    fn finish(&mut self) -> Result<Outcome> {
        let release = release::wait(self.target, self.options, self.deadline)?;
        self.steps.push(Step::Release);
        if release.port == Some(Freed::StillHeld) {
            self.notes.push("another process shares the listening socket: look the port up again".to_owned());
        }
        Ok(Outcome::Ended {
            steps: std::mem::take(&mut self.steps),
            release,
            notes: std::mem::take(&mut self.notes),
        })
    }
}

/// Whether SIGKILL was sent.
enum Killing {
    Sent,
    /// The process holds nothing any more.
    Needless,
}
