//! `cprecover audit`: what was done to this node, and whether the record is whole.

use std::fmt::Write as _;

use cprecover::recover::{AuditLog, Entry, Event};
use cprecover::{ErrorKind, Result};

use crate::{Context, Exit};

/// Shows or checks the audit log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Prints every effect, oldest first.
    Show,
    /// Checks that no line was changed, added or removed.
    Verify,
}

#[derive(serde::Serialize)]
struct Verified {
    entries: usize,
    intact: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let read = AuditLog::read(&ctx.node.store());
    match args.verb {
        Verb::Show => {
            let entries = read?;
            ctx.emit("cprecover.dev/audit/v1", &entries, || table(&entries))?;
            Ok(Exit::Done)
        }
        Verb::Verify => verify(ctx, read),
    }
}

/// A log that was meddled with is what this is for, and no failure of it; one that cannot be read is.
fn verify(ctx: &Context, read: Result<Vec<Entry>>) -> Result<Exit> {
    let verified = match read {
        Ok(entries) => Verified { entries: entries.len(), intact: true, problem: None },
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            Verified { entries: 0, intact: false, problem: Some(error.to_string()) }
        }
        Err(error) => return Err(error),
    };
    ctx.emit("cprecover.dev/audit-verification/v1", &verified, || match &verified.problem {
        Some(problem) => format!("NOT INTACT: {problem}"),
        None => format!("{} entries, the chain is intact", verified.entries),
    })?;
    Ok(if verified.intact { Exit::Done } else { Exit::Unhealthy })
}

fn table(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let at =
            i64::try_from(entry.at_unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let at = at.map_or_else(|| entry.at_unix_ms.to_string(), |at| at.to_string());
        let what = match &entry.event {
            Event::Begin { action, reason, rule, policy, .. } => {
                format!("begin {action} ({reason}; rule {rule} of {policy})")
            }
            Event::Saved { begun, detail } => format!("before {begun}: {detail}"),
            Event::End { begun, outcome, detail } => format!("end of {begun}: {outcome:?}, {detail}"),
            Event::Undoing { effects } => format!("taking back, in this order: {effects:?}"),
            Event::Undone { begun, outcome, detail } => format!("undo of {begun}: {outcome:?}, {detail}"),
            Event::Healthy => "verified healthy".into(),
            Event::Escalated { summary } => format!("a person was called: {summary}"),
            Event::TornTail { bytes } => format!("{bytes} bytes of a torn line were cut off"),
            other => format!("{other:?}"),
        };
        let _ = writeln!(text, "{:>5} {at} {what}", entry.sequence);
    }
    text
}
