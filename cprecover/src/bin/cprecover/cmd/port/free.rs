//! `cprecover port free`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use cprecover::cri;
use cprecover::model::{Component, Port, SandboxId};
use cprecover::ports::{self, Action, DATABASE, Lookup, Query};
use cprecover::sys::{Deadline, SystemCommands};
use cprecover::terminate::{EndOptions, EtcdVersion, Freed, Outcome, Target, end};
use cprecover::{Error, ErrorKind, Result};
use serde::Serialize;

use super::Place;
use super::court::{self, Judged};
use crate::{Context, Exit};

/// How long the port may take to become free after a sandbox was removed.
const RELEASE_WAIT: Duration = Duration::from_secs(10);

/// Arguments of `cprecover port free`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// The component that should hold it; anything else is refused.
    #[arg(long, value_name = "COMPONENT")]
    expect: Option<Component>,
    /// Time between SIGTERM and SIGKILL [default: the node's graceSeconds].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    grace: Option<Duration>,
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
    let deadline = super::deadline(ctx, grace.max(EndOptions::RISKY_GRACE));
    let dry_run = args.dry_run || !args.yes;
    let (lookup, judged) = court::hear(&ctx.node, &query, args.expect, &deadline)?;
    let nothing =
        |free, summary: String| Answer { port: query.port, dry_run, free, holders: Vec::new(), summary };
    match &lookup {
        Lookup::Free => {
            return print(ctx, &nothing(true, format!("nothing listens on port {}", query.port)), Exit::Done);
        }
        Lookup::AddressNotOnHost { address } => {
            let summary =
                format!("address {address} is on no interface of this host: nobody has to be ended");
            return print(ctx, &nothing(false, summary), Exit::Refused);
        }
        Lookup::Found { .. } => {}
        _ => {
            let summary = format!("port {} has an owner that cannot be read: nothing is ended", query.port);
            return print(ctx, &nothing(false, summary), Exit::Refused);
        }
    }
    // All or nothing: one holder that has to stay keeps the port anyway.
    let refused = judged
        .iter()
        .any(|judged| !matches!(judged.verdict.action, Action::Terminate | Action::RemoveSandbox { .. }));
    let mut holders = Vec::new();
    for judged in &judged {
        holders.push(if refused {
            Done {
                holder: judged.printed(),
                outcome: None,
                removed_sandbox: None,
                summary: "nothing was done".into(),
            }
        } else {
            act(ctx, args, &query, judged, grace, dry_run, &deadline)?
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
    let exit = if holders.iter().any(|done| failed(done.outcome.as_ref())) { Exit::Error } else { exit };
    print(ctx, &Answer { port: query.port, dry_run, free, holders, summary: summary.into() }, exit)
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

fn act(
    ctx: &Context,
    args: &Args,
    query: &Query,
    judged: &Judged,
    grace: Duration,
    dry_run: bool,
    deadline: &Deadline,
) -> Result<Done> {
    let holder = judged.printed();
    if let Action::RemoveSandbox { sandbox } = &judged.verdict.action {
        if dry_run {
            let summary = format!("would stop and remove sandbox {sandbox} through the runtime");
            return Ok(Done { holder, outcome: None, removed_sandbox: None, summary });
        }
        remove_sandbox(ctx, query, judged, sandbox, args.expect, deadline)?;
        let summary = format!("sandbox {sandbox} was stopped and removed through the runtime");
        return Ok(Done { holder, outcome: None, removed_sandbox: Some(sandbox.clone()), summary });
    }
    let mut options = EndOptions::on_node(&ctx.node);
    options.grace = grace;
    options.dry_run = dry_run;
    options.port = Some(query.clone());
    let pods = court::pods(&ctx.node);
    if let Some(etcd) = pods.iter().find(|pod| pod.component == Component::Etcd && holder.name == pod.program)
    {
        options.database = etcd.data_dir.as_ref().map(|dir| ctx.node.resolve(dir).join(DATABASE));
        options.etcd_version = etcd.image.as_deref().and_then(EtcdVersion::of_image);
    }
    let outcome =
        end(&Target::judged(&judged.holder, &judged.evidence, &judged.verdict), &options, deadline)?;
    let summary = summary(&outcome);
    Ok(Done { holder, outcome: Some(outcome), removed_sandbox: None, summary })
}

/// Removes a stale sandbox, after a second look says that it still is the same one, and waits for the
/// port.
fn remove_sandbox(
    ctx: &Context,
    query: &Query,
    judged: &Judged,
    sandbox: &SandboxId,
    expected: Option<Component>,
    deadline: &Deadline,
) -> Result<()> {
    let (_, again) = court::hear(&ctx.node, query, expected, deadline)?;
    let same = again.iter().any(|now| {
        now.holder.process == judged.holder.process && now.verdict.action == judged.verdict.action
    });
    if !same {
        return Err(Error::new(
            ErrorKind::Changed,
            format!("sandbox {sandbox} is not the port's holder any more"),
        ));
    }
    let runtime = cri::connect(&ctx.node, &SystemCommands, deadline)?;
    runtime.stop_sandbox(sandbox, deadline)?;
    runtime.remove_sandbox(sandbox, deadline)?;
    let end = Instant::now() + RELEASE_WAIT;
    let own = &judged.holder.listeners;
    while ports::listeners(query)?.iter().any(|now| own.iter().any(|own| own.inode == now.inode)) {
        deadline.check("wait for the port to become free")?;
        if Instant::now() > end {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("port {} is still held after its sandbox was removed", query.port),
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
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

/// Reads a duration such as `10s` or `1m`; a bare number is seconds.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let read: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(read).map_err(|_| "a duration is not negative".to_owned())
}
