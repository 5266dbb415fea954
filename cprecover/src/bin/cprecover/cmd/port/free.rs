//! `cprecover port free`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use cprecover::model::{Component, Port, SandboxId};
use cprecover::node::MAX_GRACE_SECONDS;
use cprecover::ports::{self, Action, DATABASE, Lookup, PodFacts, Query};
use cprecover::recover::{ByHand, Host};
use cprecover::sys::Deadline;
use cprecover::terminate::{EndOptions, EtcdVersion, Freed, Outcome, Target, end};
use cprecover::{Error, ErrorKind, NodeOptions, Result};
use serde::Serialize;

use super::Place;
use super::court::{self, Judged};
use crate::{Context, Exit};

/// How long the port may take to become free after a sandbox was removed.
const RELEASE_WAIT: Duration = Duration::from_secs(10);
/// How long an etcd member may take to be looked at and saved before it is ended.
const PREPARE_WAIT: Duration = Duration::from_mins(3);

/// Arguments of `cprecover port free`.
#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// The component that should hold it; anything else is refused.
    #[arg(long, value_name = "COMPONENT")]
    expect: Option<Component>,
    /// Time between SIGTERM and SIGKILL [default: the node's graceSeconds].
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    grace: Option<Duration>,
    /// SIGKILL everything in the orphan's container cgroup, not the holder alone (cgroup v2, Linux 5.14).
    #[arg(long)]
    whole_cgroup: bool,
    /// End an etcd member also where that leaves its cluster without a quorum, where the quorum is not known,
    /// or where its data cannot be saved first (`cprecover etcd snapshot` saves those of one that answers).
    #[arg(long)]
    without_quorum: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Do it; without this, nothing is done.
    #[arg(long)]
    yes: bool,
}

/// What was done about one holder.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    holder: court::Printed,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed_sandbox: Option<SandboxId>,
    summary: String,
    /// What went wrong; what was done to holders before this one stays true.
    #[serde(skip)]
    error: Option<Error>,
}

impl Done {
    fn new(holder: court::Printed, summary: String) -> Self {
        Self { holder, outcome: None, removed_sandbox: None, summary, error: None }
    }
}

/// What is the same for every holder.
struct Work<'a> {
    node: &'a NodeOptions,
    args: &'a Args,
    query: &'a Query,
    pods: &'a [PodFacts],
    grace: Duration,
    /// Does it; a dry run has none.
    hand: Option<ByHand<'a>>,
    deadline: &'a Deadline,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    port: Port,
    dry_run: bool,
    free: bool,
    holders: Vec<Done>,
    summary: String,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let query = args.place.query(ctx);
    let grace = args.grace.unwrap_or_else(|| ctx.node.grace());
    let deadline = super::deadline(ctx, grace.max(EndOptions::RISKY_GRACE) + PREPARE_WAIT);
    let dry_run = args.dry_run || !args.yes;
    let mut node = ctx.node.clone();
    // The runtime's unit; a grace of less than a second must not become none.
    node.grace_seconds = grace.as_secs().saturating_add(u64::from(grace.subsec_nanos() > 0));
    let host = Host::new(&node);
    // Held from before the judgement, so that nobody else changes what is judged.
    let hand = if dry_run { None } else { Some(ByHand::begin(&host)?.without_quorum(args.without_quorum)) };
    let court::Hearing { lookup, judged, pods } = court::hear(&node, &query, args.expect, &deadline)?;
    if let Some((free, summary, exit)) = nobody(&lookup, query.port) {
        return print(ctx, &Answer { port: query.port, dry_run, free, holders: Vec::new(), summary }, exit);
    }
    // All or nothing: one holder that has to stay keeps the port anyway.
    let refused = judged
        .iter()
        .any(|judged| !matches!(judged.verdict.action, Action::Terminate | Action::RemoveSandbox { .. }));
    let mut work = Work { node: &node, args, query: &query, pods: &pods, grace, hand, deadline: &deadline };
    let mut holders: Vec<Done> = Vec::new();
    for judged in &judged {
        let stopped = refused || holders.last().is_some_and(|done| done.error.is_some());
        holders.push(if stopped {
            Done::new(judged.printed(), "nothing was done".into())
        } else if went_with_a_sandbox(judged, &holders) {
            Done::new(judged.printed(), "went with its sandbox".into())
        } else {
            work.act(judged)
        });
    }
    let free = !dry_run && !refused && matches!(ports::find(&query, &deadline)?, Lookup::Free);
    let (summary, exit) = match (refused, dry_run, args.dry_run) {
        (true, ..) => ("refused: a holder is not an orphan and in no stale sandbox", Exit::Refused),
        (false, true, true) => ("dry run: nothing was done", Exit::Done),
        (false, true, false) => ("nothing was done: say --yes to do it", Exit::Refused),
        _ if free => ("the port is free", Exit::Done),
        _ => ("somebody listens on the port (again)", Exit::Done),
    };
    let error = holders.iter().find_map(|done| done.error.as_ref());
    let (summary, exit) = match error {
        Some(error) => ("not everything was done", Exit::of(error)),
        None if holders.iter().any(|done| failed(done.outcome.as_ref())) => (summary, Exit::Error),
        None => (summary, exit),
    };
    print(ctx, &Answer { port: query.port, dry_run, free, holders, summary: summary.into() }, exit)
}

/// What is said where there is nobody to be ended: whether the port is free, and how the program ends.
fn nobody(lookup: &Lookup, port: Port) -> Option<(bool, String, Exit)> {
    Some(match lookup {
        Lookup::Free => (true, format!("nothing listens on port {port}"), Exit::Done),
        Lookup::AddressNotOnHost { address } => {
            let summary =
                format!("address {address} is on no interface of this host: nobody has to be ended");
            (false, summary, Exit::Refused)
        }
        Lookup::Found { .. } => return None,
        _ => {
            let summary = format!("port {port} has an owner that cannot be read: nothing is ended");
            (false, summary, Exit::Refused)
        }
    })
}

/// Reports whether a holder's sandbox was removed because of a holder before it.
fn went_with_a_sandbox(judged: &Judged, before: &[Done]) -> bool {
    let Action::RemoveSandbox { sandbox } = &judged.verdict.action else { return false };
    before.iter().any(|done| done.removed_sandbox.as_ref() == Some(sandbox))
}

/// Reports whether the holder still holds something.
fn failed(outcome: Option<&Outcome>) -> bool {
    match outcome {
        Some(Outcome::Survived { .. }) => true,
        Some(
            Outcome::Ended { release, .. }
            | Outcome::AlreadyGone { release }
            | Outcome::LetGo { release, .. },
        ) => [release.port, release.lock].contains(&Some(Freed::StillHeld)),
        _ => false,
    }
}

impl Work<'_> {
    /// Does what the verdict asks for; an error is part of the answer, for others may have been ended.
    fn act(&mut self, judged: &Judged) -> Done {
        let mut done = Done::new(judged.printed(), String::new());
        let result = match &judged.verdict.action {
            Action::RemoveSandbox { sandbox } if self.hand.is_none() => {
                done.summary = format!("would stop and remove sandbox {sandbox} through the runtime");
                Ok(())
            }
            Action::RemoveSandbox { sandbox } => self.remove_sandbox(judged, sandbox).map(|()| {
                done.summary = format!("sandbox {sandbox} was stopped and removed through the runtime");
                done.removed_sandbox = Some(sandbox.clone());
            }),
            _ => self.end(judged).map(|outcome| {
                done.summary = summary(&outcome);
                done.outcome = Some(outcome);
            }),
        };
        if let Err(error) = result {
            done.summary = format!("failed: {error}");
            done.error = Some(error);
        }
        done
    }

    fn end(&mut self, judged: &Judged) -> Result<Outcome> {
        let mut options = EndOptions::on_node(self.node);
        options.grace = self.grace;
        options.dry_run = self.hand.is_none();
        options.whole_cgroup = self.args.whole_cgroup;
        options.port = Some(self.query.clone());
        let etcd = self.pods.iter().find(|pod| pod.component == Component::Etcd);
        if let Some(etcd) = etcd.filter(|pod| judged.holder.comm == pod.program) {
            let database = etcd.data_dir.as_ref().map(|dir| self.node.resolve(dir).join(DATABASE));
            options.database = database.filter(|path| ports::lock_is_free(path).is_ok());
            options.etcd_version = etcd.image.as_deref().and_then(EtcdVersion::of_image);
        }
        let Judged { holder, evidence, verdict } = judged;
        match &mut self.hand {
            Some(hand) => hand.end(holder, evidence, verdict, &options, self.deadline),
            None => end(&Target::judged(holder, evidence, verdict), &options, self.deadline),
        }
    }

    /// Removes a stale sandbox, after a second look says that it still is the same one, and waits for
    /// the port.
    fn remove_sandbox(&mut self, judged: &Judged, sandbox: &SandboxId) -> Result<()> {
        let again = court::hear(self.node, self.query, self.args.expect, self.deadline)?;
        let same = again.judged.iter().any(|now| {
            now.holder.process == judged.holder.process && now.verdict.action == judged.verdict.action
        });
        if !same {
            return Err(Error::new(
                ErrorKind::Changed,
                format!("sandbox {sandbox} is not the port's holder any more"),
            ));
        }
        if let Some(hand) = &mut self.hand {
            hand.remove_sandbox(sandbox, self.deadline)?;
        }
        let end = Instant::now() + RELEASE_WAIT;
        let own = &judged.holder.listeners;
        while ports::listeners(self.query)?.iter().any(|now| own.iter().any(|own| own.inode == now.inode)) {
            self.deadline.check("wait for the port to become free")?;
            if Instant::now() > end {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("port {} is still held after its sandbox was removed", self.query.port),
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::WouldEnd { notes, .. } => {
            with("would get SIGTERM, then SIGKILL after the grace time", notes)
        }
        Outcome::AlreadyGone { .. } => "had ended already".into(),
        Outcome::Ended { notes, .. } => with("ended", notes),
        Outcome::LetGo { notes, .. } => with("let go of the port", notes),
        Outcome::Survived { state, .. } => format!("was not ended: {state}"),
        _ => "unknown outcome".into(),
    }
}

fn with(text: &str, notes: &[String]) -> String {
    if notes.is_empty() { text.to_owned() } else { format!("{text} ({})", notes.join("; ")) }
}

fn print(ctx: &Context, answer: &Answer, exit: Exit) -> Result<Exit> {
    ctx.emit("cprecover.dev/port-free/v1", answer, || {
        let mut text = String::new();
        for done in &answer.holders {
            text.push_str(&done.holder.lines());
            let _ = writeln!(text, "pid {}: {}", done.holder.pid, done.summary);
        }
        text.push_str(&answer.summary);
        text
    })?;
    Ok(exit)
}

/// Reads a grace time such as `10s` or `1m`; a bare number is seconds.
fn grace(text: &str) -> std::result::Result<Duration, String> {
    let grace = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let read: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
        Duration::try_from(read).map_err(|_| "a duration is not negative".to_owned())?
    };
    if grace > Duration::from_secs(MAX_GRACE_SECONDS) {
        return Err(format!("a grace time is at most {MAX_GRACE_SECONDS} s"));
    }
    Ok(grace)
}
