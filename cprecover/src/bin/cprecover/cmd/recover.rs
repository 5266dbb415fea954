//! `cprecover recover`: the whole street, on any root.

use std::io::IsTerminal as _;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use cprecover::recover::{self, Ending, Host, Progress, RecoverOptions, Report};
use cprecover::sys::{CancelToken, Deadline};
use cprecover::{Error, ErrorKind, NodeOptions, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::policy_args::LoadedPolicy;
use super::{ConsentArgs, PolicyArgs};
use crate::console::{say, say_on};
use crate::{Context, Exit, present};

/// Finds out what is wrong, decides, acts, and verifies.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Args {
    /// Print the plan and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before the first effect.
    #[arg(long, short)]
    yes: bool,
    /// End after so many seconds, healthy or not.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    #[command(flatten)]
    consent: ConsentArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// What the caller agreed to, and how long it may take.
pub(crate) struct Consented {
    pub(crate) timeout: Duration,
    pub(crate) options: RecoverOptions,
}

impl Consented {
    /// What a drill agrees to: its node is its own.
    pub(crate) fn drill(dry_run: bool) -> Self {
        let mut options = RecoverOptions::default();
        options.dry_run = dry_run;
        Self { timeout: Duration::from_mins(1), options }
    }
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let mut options = args.consent.options();
    options.dry_run = args.dry_run;
    let policy = args.policy.load(&ctx.node)?;
    let timeout = Duration::from_secs(args.timeout);
    if !args.dry_run && !args.yes {
        // What is shown is what is applied: the plan's digest binds the run that follows.
        let mut shown = options.clone();
        shown.dry_run = true;
        let shown = Consented { timeout, options: shown };
        let preview = recover_node(&ctx.node, &policy, &shown, &ctx.cancel)?;
        let is_empty = preview.plan.as_ref().is_none_or(|plan| plan.steps.is_empty());
        if preview.ending != Ending::Healthy && is_empty {
            // There is nothing to agree to; the exit code says that the node is not well.
            ctx.emit("cprecover.dev/recovery/v1", &preview, || present::report(&preview))?;
            return Ok(Exit::Unhealthy);
        }
        if preview.ending != Ending::Healthy {
            confirm(&preview, &ctx.cancel)?;
            options.approved.clone_from(&preview.plan);
        }
    }
    let consented = Consented { timeout, options };
    let report = recover_node(&ctx.node, &policy, &consented, &ctx.cancel)?;
    ctx.emit("cprecover.dev/recovery/v1", &report, || present::report(&report))?;
    Ok(exit(&report))
}

/// How often a prompt looks whether Ctrl-C was pressed.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 150_000_000 };

fn confirm(preview: &Report, cancel: &CancelToken) -> Result<()> {
    say(format_args!("{}", present::report(preview)));
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(ErrorKind::Refused, "nobody to ask on this terminal; run again with --yes"));
    }
    say_on(format_args!("Apply this plan? [y/N] "));
    wait_for_input(std::io::stdin(), cancel)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|source| Error::io("read the answer", source))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::new(ErrorKind::Refused, "not agreed to; nothing was changed")),
    }
}

/// Waits until there is something to read.
///
/// The signal handlers restart a read (`SA_RESTART`, signal(7)), so a read alone would outlast Ctrl-C.
fn wait_for_input(from: impl AsFd, cancel: &CancelToken) -> Result<()> {
    loop {
        if cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled; nothing was changed"));
        }
        match poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&LOOK_EVERY)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(source) => return Err(Error::io("wait for the answer", source)),
        }
    }
}

/// Returns how the program ends after a recovery.
pub(crate) fn exit(report: &Report) -> Exit {
    match &report.ending {
        Ending::Healthy => Exit::Done,
        Ending::DryRun if report.verification.healthy => Exit::Done,
        Ending::Refused { .. } => Exit::Refused,
        Ending::Busy { .. } => Exit::Busy,
        Ending::Failed { .. } | Ending::Cancelled => Exit::Error,
        _ => Exit::Unhealthy,
    }
}

/// Runs the engine on a node, with progress on stderr.
pub(crate) fn recover_node(
    node: &NodeOptions,
    policy: &LoadedPolicy,
    consented: &Consented,
    cancel: &CancelToken,
) -> Result<Report> {
    let deadline = Deadline::after(consented.timeout).with_cancel(cancel.clone());
    let decide = |observation: &cprecover::policy::Observation| policy.decide(observation);
    let mut shown = Shown::new();
    let mut show = |progress: Progress<'_>| shown.show(&progress);
    recover::recover(&Host::new(node), &decide, &consented.options, &deadline, &mut show)
}

/// The progress display: one line an event, a status line while waiting.
pub(crate) struct Shown {
    started: Instant,
    terminal: bool,
    waiting: Option<String>,
}

impl Shown {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), terminal: std::io::stderr().is_terminal(), waiting: None }
    }

    pub(crate) fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Planned(plan) if !plan.steps.is_empty() => {
                self.line(&format!("{} step(s) decided by policy {}", plan.steps.len(), plan.policy.name));
            }
            Progress::Begins(step) => self.line(&format!("{} …", step.action)),
            Progress::Saved(detail) => self.line(&format!("first: {detail}")),
            Progress::NotSaved(detail) => self.line(&format!("NOT saved: {detail}")),
            Progress::Ended(done) => self.line(&format!("{}: {}", done.action, done.detail)),
            Progress::Waiting(verification) => {
                let open: Vec<&str> = verification.failed().map(|check| check.what.as_str()).collect();
                let text =
                    format!("waiting for {} check(s): {}", open.len(), open.first().unwrap_or(&"none"));
                if self.waiting.as_ref() != Some(&text) {
                    self.status(&text);
                    self.waiting = Some(text);
                }
            }
            _ => {}
        }
    }

    /// Ends a status line and prints one that stays.
    fn line(&mut self, text: &str) {
        if self.terminal && self.waiting.take().is_some() {
            say_on(format_args!("\r\x1b[K"));
        }
        say(format_args!("recover: {:5.1} s  {text}", self.started.elapsed().as_secs_f64()));
    }

    /// Prints a line that the next one replaces on a terminal.
    fn status(&self, text: &str) {
        let (start, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        say_on(format_args!("{start}recover: {:5.1} s  {text}{end}", self.started.elapsed().as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_prompt_ends_with_an_answer_or_a_cancel() {
        let (nobody_writes, _silent) = std::io::pipe().expect("a pipe");
        let cancel = CancelToken::default();
        let later = cancel.clone();
        let presses = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            later.cancel();
        });
        let error = wait_for_input(&nobody_writes, &cancel).expect_err("cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        presses.join().expect("no panic");

        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"y\n").expect("room");
        wait_for_input(&reader, &CancelToken::default()).expect("an answer");
        // Whoever would answer is gone; the read that follows says so.
        drop(writer);
        wait_for_input(&reader, &CancelToken::default()).expect("an end");
    }
}
