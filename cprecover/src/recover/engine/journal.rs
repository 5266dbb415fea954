//! What the engine writes down, and what it finds left open by an earlier run.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::contract;
use crate::recover::audit::Event;
use crate::recover::report::Ending;
use crate::recover::undo::TakenBack;
use crate::sys::{Deadline, millis};

/// How long taking back one interrupted effect may take.
const RESUME_TIMEOUT: Duration = Duration::from_secs(30);

impl Engine<'_> {
    /// Ends what a crash of an earlier run left open: takes back what must not stay half done; all else
    /// is observed and decided anew.
    pub(super) fn close_interrupted(&mut self, deadline: &Deadline) -> Result<Vec<String>> {
        let Some(log) = &self.log else { return Ok(Vec::new()) };
        if self.options.dry_run {
            return Ok(Vec::new());
        }
        let ended: BTreeSet<u64> = log
            .entries()
            .iter()
            .filter_map(|entry| match entry.event {
                Event::End { begun, .. } => Some(begun),
                _ => None,
            })
            .collect();
        let open: Vec<_> = log
            .entries()
            .iter()
            .filter_map(|entry| match &entry.event {
                Event::Begin { action, undo, .. } if !ended.contains(&entry.sequence) => {
                    Some((entry.sequence, entry.at_unix_ms, action.clone(), undo.clone()))
                }
                _ => None,
            })
            .collect();
        let mut resumed = Vec::new();
        for (begun, at_unix_ms, action, undo) in open {
            let limit = deadline.at_most(RESUME_TIMEOUT);
            let did = match undo.map(|undo| self.world.undo(&undo, at_unix_ms, &limit)) {
                Some(Ok(TakenBack::Done(did))) => format!("; {did}"),
                None | Some(Ok(TakenBack::Kept(_))) => String::new(),
                Some(Err(error)) => format!("; taking it back failed: {error}"),
            };
            let detail = format!("the engine ended before the effect did; observed anew{did}");
            self.append(Event::End { begun, outcome: contract::Outcome::Running, detail })?;
            resumed.push(format!("an earlier run was interrupted in: {action}{did}"));
        }
        Ok(resumed)
    }

    pub(super) fn record_ending(&mut self, ending: &Ending) -> Result<()> {
        if self.options.dry_run || self.log.is_none() {
            return Ok(());
        }
        let already = self.log.as_ref().and_then(|log| log.entries().last()).map(|entry| &entry.event);
        match ending {
            // A healthy node is looked at without leaving a trace.
            Ending::Healthy if matches!(already, None | Some(Event::Healthy)) => {}
            Ending::Healthy => {
                self.append(Event::Healthy)?;
            }
            Ending::Escalated { reason } | Ending::Refused { reason } | Ending::Failed { reason } => {
                self.append(Event::Escalated { summary: reason.clone() })?;
            }
            Ending::DryRun | Ending::TimedOut | Ending::Cancelled | Ending::Busy { .. } => {}
        }
        Ok(())
    }

    pub(super) fn append(&mut self, event: Event) -> Result<u64> {
        let now = millis(self.clock.unix());
        match &mut self.log {
            Some(log) => log.append(now, event),
            None => Err(Error::new(ErrorKind::Internal, "an effect without an audit log")),
        }
    }
}
