//! `cprecover audit`: what was done to this node, and whether the record is whole.

use std::fmt::Write as _;

use cprecover::recover::{AuditLog, CheckedLog, Entry, Event, LogEnd};
use cprecover::{ErrorKind, Result};

use crate::{Context, Exit, present};

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
    /// Checks that no line was changed, added or removed, or cut off the end.
    Verify,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    entries: usize,
    intact: bool,
    /// What is known of where it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<LogEnd>,
    /// A part of a line at its end, as a crash leaves it.
    #[serde(skip_serializing_if = "is_none")]
    torn_bytes: u64,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let read = AuditLog::check(&ctx.node.store());
    match args.verb {
        Verb::Show => {
            let entries = match read {
                // One that is gone is another error: a file beside it tells that it was there.
                Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
                read => read?.entries,
            };
            ctx.emit("cprecover.dev/audit/v1", &entries, || table(&entries))?;
            Ok(Exit::Done)
        }
        Verb::Verify => verify(ctx, read),
    }
}

/// A log that was meddled with is what this is for, and no failure of it; one that cannot be read is.
fn verify(ctx: &Context, read: Result<CheckedLog>) -> Result<Exit> {
    let verified = match read {
        Ok(log) => Verified {
            entries: log.entries.len(),
            intact: true,
            end: Some(log.end),
            torn_bytes: log.torn_bytes,
            problem: None,
        },
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            Verified { entries: 0, intact: false, end: None, torn_bytes: 0, problem: Some(error.to_string()) }
        }
        Err(error) => return Err(error),
    };
    ctx.emit("cprecover.dev/audit-verification/v1", &verified, || match &verified.problem {
        Some(problem) => format!("NOT INTACT: {problem}"),
        None => whole(&verified),
    })?;
    Ok(if verified.intact { Exit::Done } else { Exit::Unhealthy })
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

fn whole(verified: &Verified) -> String {
    let mut text = format!("{} entries, the chain is intact", verified.entries);
    match verified.end {
        Some(LogEnd::OneMore) => text += "; the last one was written right before a crash",
        Some(LogEnd::NotKept) => {
            text += "; where it ends was not noted, as by older versions: lines cut off the end would not be seen";
        }
        _ => {}
    }
    if verified.torn_bytes > 0 {
        let _ = write!(text, "; {} bytes of a torn last line were passed over", verified.torn_bytes);
    }
    text
}

fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nothing was done to this node yet".into();
    }
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
            Event::NotSaved { begun, detail } => format!("before {begun}, NOT saved: {detail}"),
            Event::End { begun, outcome, detail } => {
                format!("end of {begun}: {}, {detail}", present::outcome(*outcome))
            }
            Event::Undoing { effects } => {
                let effects: Vec<String> = effects.iter().map(ToString::to_string).collect();
                format!("taking back, in this order: {}", effects.join(", "))
            }
            Event::Undone { begun, outcome, detail } => {
                format!("undo of {begun}: {}, {detail}", present::undo_outcome(*outcome))
            }
            Event::Healthy => "verified healthy".into(),
            Event::Escalated { summary } => format!("a person was called: {summary}"),
            Event::TornTail { bytes } => format!("{bytes} bytes of a torn line were cut off"),
            other => format!("{other:?}"),
        };
        let _ = writeln!(text, "{:>5} {at} {what}", entry.sequence);
    }
    text
}
