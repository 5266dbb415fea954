//! Taking back what a run that failed has left: in reverse order, written down, resumed after a crash.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Engine;
use crate::error::Result;
use crate::policy::contract;
use crate::recover::audit::{Entry, Event};
use crate::recover::bundle::by_looks;
use crate::recover::report::Ending;
use crate::recover::undo::{TakenBack, Undo, UndoOutcome, Undone};
use crate::sys::Deadline;

/// How long all undos of a run may take together, after the run's own time.
pub(in crate::recover) const UNDO_TIMEOUT: Duration = Duration::from_secs(45);

/// An effect to be taken back.
struct Pending {
    begun: u64,
    at_unix_ms: u64,
    undo: Undo,
}

impl Engine<'_> {
    /// Takes back what of the effects since the last ending has to be, after `ending`; also those of a run
    /// that a crash ended before it could.
    pub(super) fn undo_run(&mut self, ending: &Ending, deadline: &Deadline) -> Result<Vec<Undone>> {
        let Some(log) = &self.log else { return Ok(Vec::new()) };
        let pending = since_the_last_ending(log.entries(), ending);
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let effects = pending.iter().map(|pending| pending.begun).collect();
        self.append(Event::Undoing { effects })?;
        self.undo_all(pending, deadline)
    }

    /// Goes on with the undos that a crash interrupted.
    pub(super) fn resume_undo(&mut self, deadline: &Deadline) -> Result<Vec<Undone>> {
        let Some(log) = &self.log else { return Ok(Vec::new()) };
        let pending = interrupted(log.entries());
        self.undo_all(pending, deadline)
    }

    fn undo_all(&mut self, pending: Vec<Pending>, deadline: &Deadline) -> Result<Vec<Undone>> {
        let deadline = deadline.renewed(UNDO_TIMEOUT);
        let mut all = Vec::with_capacity(pending.len());
        for Pending { begun, at_unix_ms, undo } in pending {
            let (outcome, detail) = match self.world.undo(&undo, at_unix_ms, &deadline) {
                Ok(TakenBack::Done(detail)) => (UndoOutcome::Done, detail),
                Ok(TakenBack::Kept(why)) => (UndoOutcome::Kept, why),
                Err(error) => (UndoOutcome::Failed, error.to_string()),
            };
            let detail = by_looks(&detail);
            self.append(Event::Undone { begun, outcome, detail: detail.clone() })?;
            all.push(Undone { undo, outcome, detail });
        }
        Ok(all)
    }
}

/// The effects since the last ending that this one takes back, the last one first.
///
/// A run that failed, was refused or called a person did not help, so what it moved away goes back too. One
/// that ran out of time, was cancelled or met somebody else may go on: only what it left half done is taken
/// back.
fn since_the_last_ending(entries: &[Entry], ending: &Ending) -> Vec<Pending> {
    let failed = match ending {
        Ending::Healthy | Ending::DryRun => return Vec::new(),
        Ending::Failed { .. } | Ending::Refused { .. } | Ending::Escalated { .. } => true,
        Ending::TimedOut | Ending::Cancelled | Ending::Busy { .. } => false,
    };
    let proven: BTreeSet<u64> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::End { begun, outcome: contract::Outcome::Done, .. } => Some(*begun),
            _ => None,
        })
        .collect();
    let of_entry = |entry: &Entry| match &entry.event {
        Event::Begin { undo: Some(undo), .. } => {
            let half_done = !proven.contains(&entry.sequence);
            (half_done || (failed && undo.of_proven_effects())).then(|| Pending {
                begun: entry.sequence,
                at_unix_ms: entry.at_unix_ms,
                undo: undo.clone(),
            })
        }
        _ => None,
    };
    let is_ending =
        |event: &Event| matches!(event, Event::Healthy | Event::Escalated { .. } | Event::Undoing { .. });
    entries.iter().rev().take_while(|entry| !is_ending(&entry.event)).filter_map(of_entry).collect()
}

/// What the last undo has not come to, in its order.
fn interrupted(entries: &[Entry]) -> Vec<Pending> {
    let last = entries.iter().rposition(|entry| matches!(entry.event, Event::Undoing { .. }));
    let Some((entry, after)) = last.and_then(|at| entries.get(at..)?.split_first()) else {
        return Vec::new();
    };
    let Event::Undoing { effects } = &entry.event else { return Vec::new() };
    let is_over = |begun: u64| {
        after.iter().any(|entry| matches!(entry.event, Event::Undone { begun: over, .. } if over == begun))
    };
    let open = effects.iter().filter(|begun| !is_over(**begun));
    open.filter_map(|begun| {
        let begin = entries.iter().find(|entry| entry.sequence == *begun)?;
        let Event::Begin { undo: Some(undo), .. } = &begin.event else { return None };
        Some(Pending { begun: *begun, at_unix_ms: begin.at_unix_ms, undo: undo.clone() })
    })
    .collect()
}
