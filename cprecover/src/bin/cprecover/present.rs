//! Results as text for a person at a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use cprecover::model::Observed;
use cprecover::policy::contract;
use cprecover::recover::{Ending, Observation, Plan, Report, UndoOutcome, Verification};

use crate::cmd::diagnose::{table, table_of_the_mended};

/// The longest evidence line, in characters.
const MAX_LINE: usize = 160;

/// A recovery's report: what was wrong and why, what was done, how it is now.
pub(crate) fn report(report: &Report) -> String {
    let mut text = String::new();
    // What is to be done is not said of what has just been done.
    let is_mended = report.ending == Ending::Healthy && !report.steps.is_empty();
    text += &if is_mended { table_of_the_mended(&report.diagnosis) } else { table(&report.diagnosis) };
    if report.ending == Ending::DryRun {
        if let Some(shown) = &report.plan {
            text += &plan(shown);
        }
    } else {
        text += &done(report);
    }
    text += &verified(&report.verification);
    for escalation in &report.escalations {
        let _ = writeln!(text, "\nFOR A PERSON: {}", escalation.summary);
        for line in escalation.hints.iter().chain(&escalation.evidence) {
            let _ = writeln!(text, "  {}", cut(line));
        }
    }
    let _ = write!(text, "\nRESULT\n  {}\n", ending(&report.ending));
    text
}

/// What would be done.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut text = format!("\nPLAN {}\n  policy {}\n", plan.digest, plan.policy);
    if plan.steps.is_empty() {
        text += "  nothing to do\n";
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(text, "  {}. {}", index + 1, step.action);
        let _ = writeln!(text, "     why: {}", step.reason);
        let _ = writeln!(text, "     only if: {}", step.precondition);
        let _ = writeln!(text, "     proven by: {}", step.expected);
        let _ = writeln!(text, "     undo: {}", step.undo);
    }
    for refusal in &plan.refused {
        let _ = writeln!(text, "  refused: {} ({})", refusal.action, refusal.reason);
    }
    for escalation in &plan.escalations {
        let _ = writeln!(text, "  a person is needed: {escalation}");
    }
    text
}

fn done(report: &Report) -> String {
    let mut text = String::from("\nWHAT WAS DONE\n");
    for resumed in &report.resumed {
        let _ = writeln!(text, "  resumed: {resumed}");
    }
    if report.steps.is_empty() {
        text += "  nothing\n";
    }
    for (index, step) in report.steps.iter().enumerate() {
        let took = Duration::from_millis(step.took_ms).as_secs_f64();
        let mark = outcome(step.outcome);
        let _ = writeln!(text, "  {}. {} [{mark}, {took:.2} s]", index + 1, step.action);
        let _ = writeln!(text, "     why: {}", step.reason);
        if let Some(saved) = &step.saved {
            let _ = writeln!(text, "     saved first: {saved}");
        }
        let _ = writeln!(text, "     {}", step.detail);
        if let Some(undo) = &step.undo {
            let _ = writeln!(text, "     undo: {undo}");
        }
    }
    for undone in &report.undone {
        let outcome = undo_outcome(undone.outcome);
        let _ = writeln!(text, "  taken back: {} [{outcome}] {}", undone.undo, undone.detail);
    }
    let looks = report.rounds.iter().map(|round| round.observe_ms).sum::<u64>();
    let count = report.rounds.len();
    let _ = writeln!(
        text,
        "  {count} look{} at the node took {:.2} s; in all {:.2} s",
        if count == 1 { "" } else { "s" },
        Duration::from_millis(looks).as_secs_f64(),
        Duration::from_millis(report.total_ms).as_secs_f64()
    );
    text
}

/// How an effect ended, in a word.
pub(crate) const fn outcome(outcome: contract::Outcome) -> &'static str {
    match outcome {
        contract::Outcome::Done => "ok",
        contract::Outcome::Refused => "REFUSED",
        _ => "FAILED",
    }
}

/// How an undo ended, in a word.
pub(crate) const fn undo_outcome(outcome: UndoOutcome) -> &'static str {
    match outcome {
        UndoOutcome::Done => "ok",
        UndoOutcome::Kept => "left as it is",
        _ => "FAILED",
    }
}

fn verified(verification: &Verification) -> String {
    let mut text = String::from("\nCHECKS\n");
    for check in &verification.checks {
        let mark = if check.holds { "+" } else { "-" };
        let _ = writeln!(text, "  [{mark}] {}: {}", check.what, cut(&check.seen));
    }
    text
}

fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Healthy => "the node is verified healthy".into(),
        Ending::DryRun => "dry run: nothing was changed".into(),
        Ending::Escalated { reason } => format!("a person is needed: {reason}"),
        Ending::Refused { reason } => format!("refused: {reason}"),
        Ending::TimedOut => "the time was up before the node was healthy".into(),
        Ending::Cancelled => "cancelled".into(),
        Ending::Failed { reason } => format!("failed: {reason}"),
        other => format!("{other:?}"),
    }
}

/// What was seen, in short.
pub(crate) fn observation(seen: &Observation) -> String {
    let mut text = format!("node {}\n", seen.node);
    text += &verified(&Verification::of(seen));
    text += "\nPORTS\n";
    for holder in &seen.holders {
        let _ = writeln!(
            text,
            "  {} for {}: {} ({})",
            holder.address, holder.wanted_by, holder.evidence.process, holder.evidence.comm
        );
        for evidence in &holder.verdict.evidence {
            let _ = writeln!(text, "      {}", cut(evidence));
        }
    }
    text += "\nBACKUPS\n";
    for backup in seen.backups.present().into_iter().flatten() {
        let good = if backup.last_known_good { ", taken while healthy" } else { "" };
        let state = said(&backup.verified, "intact", "DAMAGED");
        let whose = said(&backup.same_node, "of this node", "of ANOTHER NODE");
        let _ =
            writeln!(text, "  {}: snapshot {}{good}, {state}, {whose}", backup.component, backup.snapshot);
    }
    if !seen.unobserved.is_empty() {
        text += "\nCOULD NOT BE READ\n";
    }
    for unread in &seen.unobserved {
        let _ = writeln!(text, "  {}: {}", unread.what, cut(&unread.reason));
    }
    text
}

fn said(observed: &Observed<bool>, yes: &str, no: &str) -> String {
    match observed {
        Observed::Present(true) => yes.to_owned(),
        Observed::Present(false) => no.to_owned(),
        Observed::Absent => "unknown".to_owned(),
        Observed::Unknown(why) => format!("unknown ({})", cut(why)),
    }
}

fn cut(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE).collect();
    if text.chars().count() > MAX_LINE { line + "…" } else { line }
}
