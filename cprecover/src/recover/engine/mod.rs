//! The loop: one observation, one decision, at most one effect, and again.

mod choose;
mod journal;
mod options;
mod stage;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod undo_tests;
mod undoing;

use std::time::{Duration, Instant};

use self::choose::{Looks, Next, State};
pub use self::options::{Progress, RecoverOptions};
#[cfg(test)]
pub(super) use self::undoing::UNDO_TIMEOUT;
use super::audit::{AuditLog, Entry, Event, history};
use super::bundle::by_looks;
use super::observation::Observation;
use super::plan::{Plan, Step};
use super::report::{DoneStep, Ending, Report, RoundTimes, escalations};
use super::undo::UndoOutcome;
use super::verification::Verification;
use super::view::policy_view;
use super::world::{Prepared, World};
use crate::diagnose::{Diagnosis, diagnose};
use crate::error::{ErrorKind, Result};
use crate::policy::contract;
use crate::policy::guard::{self, Guarded};
use crate::policy::{Action, Decision, Outcome};
use crate::sys::{Clock, Deadline, millis};

/// How many past effects a policy gets to see.
const MAX_HISTORY: usize = 128;

/// How long the look after an undo may take.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// Recovers a node, one proven step at a time.
pub struct Engine<'a> {
    world: &'a mut dyn World,
    decide: &'a dyn Fn(&contract::Observation) -> Outcome,
    clock: &'a dyn Clock,
    log: Option<&'a mut AuditLog>,
    options: &'a RecoverOptions,
    past: Vec<contract::PastAction>,
    /// The policy's waits since the last effect of this run; they are in no log.
    waits: Vec<contract::PastAction>,
    guard: Guard,
}

/// Rules on what a policy decided.
type Guard = fn(&contract::Observation, &[Decision]) -> Vec<Guarded>;

/// What one round decided.
struct Round {
    observation: Observation,
    view: contract::Observation,
    diagnosis: Diagnosis,
    verification: Verification,
    guarded: Vec<Guarded>,
    plan: Plan,
    /// The first thing that this look could not read.
    unread: Option<String>,
    policy: String,
    times: RoundTimes,
}

impl<'a> Engine<'a> {
    /// Puts an engine together. Without `log` nothing is written, so it can only make plans.
    pub fn new(
        world: &'a mut dyn World,
        decide: &'a dyn Fn(&contract::Observation) -> Outcome,
        clock: &'a dyn Clock,
        log: Option<&'a mut AuditLog>,
        options: &'a RecoverOptions,
    ) -> Self {
        Self { world, decide, clock, log, options, past: Vec::new(), waits: Vec::new(), guard: guard::check }
    }

    /// Lets an engine without a log know what was done to the node before, so that its plan is the one that
    /// a run would carry out: tries and pauses count.
    #[must_use]
    pub fn with_past(mut self, entries: &[Entry]) -> Self {
        let mut past = history(entries);
        self.past = past.split_off(past.len().saturating_sub(MAX_HISTORY));
        self
    }

    /// Puts another guard in place, so that the simulation can show that a broken one is noticed.
    #[cfg(test)]
    pub(super) fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Runs until the node is verified healthy, or nothing more may be done, or the time is up.
    ///
    /// The work has an order (runtime, certificates, manifest lint, port holders, manifests, kubelet),
    /// whatever order a policy decides in: a step that is refused, or that failed and waits for its next
    /// try, stops all that come after it.
    ///
    /// An approved plan of another node or another policy is refused before anything is done, also before
    /// what an earlier run left half done is taken back.
    ///
    /// # Errors
    /// The kinds of a failed write to the audit log: an effect that cannot be recorded is not begun.
    /// Everything else is an [`Ending`].
    pub fn run(&mut self, deadline: &Deadline, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Report> {
        let started = self.clock.now();
        let looked = match self.options.approved {
            Some(_) => Some(self.round(deadline)?),
            None => None,
        };
        if let Some(round) = &looked
            && let Some(reason) = choose::another_plan(&round.plan, self.options)
        {
            progress(Progress::Diagnosed(&round.diagnosis));
            progress(Progress::Planned(&round.plan));
            // Nothing was begun, so nothing of an earlier run is taken back for it, and no line of the log
            // stands between that run and the next one.
            let mut report = begun_report(round);
            report.ending = Ending::Refused { reason };
            report.total_ms = millis(self.clock.now().duration_since(started));
            return Ok(report);
        }
        let resumed = self.close_interrupted(deadline)?;
        let undone = if self.options.dry_run { Vec::new() } else { self.resume_undo(deadline)? };
        let mut round = match looked {
            Some(round) if resumed.is_empty() && undone.is_empty() => round,
            _ => self.round(deadline)?,
        };
        progress(Progress::Diagnosed(&round.diagnosis));
        progress(Progress::Planned(&round.plan));
        let mut report = Report { resumed, undone, ..begun_report(&round) };
        let mut last_effect: Option<Instant> = None;
        let mut met_others = false;
        let mut looks = Looks::default();
        let mut ending = loop {
            if deadline.is_cancelled() && !round.verification.healthy {
                // What a cancelled look did not see must not be acted on, nor reported as seen.
                break Ending::Cancelled;
            }
            looks = looks.and(round.unread.is_some(), &round.guarded, self.options);
            match self.next(&round, &report.steps, met_others, last_effect, looks) {
                Next::Stop(ending) => break ending,
                Next::Wait(pause) => {
                    progress(Progress::Waiting(&round.verification));
                    let is_settling = self.is_settling(last_effect);
                    let began_ms = millis(self.clock.unix());
                    self.clock.sleep(pause.min(deadline.remaining()));
                    if !is_settling {
                        self.remember_wait(&round, began_ms);
                    }
                }
                Next::Do(decision) => {
                    let (done, met) = self.act(&decision, &round, deadline, progress)?;
                    met_others = met;
                    progress(Progress::Ended(&done));
                    last_effect = Some(self.clock.now());
                    self.waits.clear();
                    looks = Looks::default();
                    report.steps.push(done);
                }
            }
            if deadline.check("recover").is_err() {
                // A look after the deadline could only say that there was no time to look.
                break if deadline.is_cancelled() { Ending::Cancelled } else { Ending::TimedOut };
            }
            round = self.round(deadline)?;
            report.rounds.push(round.times);
        };
        let undone = if self.options.dry_run { Vec::new() } else { self.undo_run(&ending, deadline)? };
        if undone.iter().any(|undone| undone.outcome == UndoOutcome::Done) {
            round = self.round(&deadline.renewed(LAST_LOOK))?;
            report.rounds.push(round.times);
            if round.verification.healthy {
                ending = Ending::Healthy;
            }
        }
        report.undone.extend(undone);
        self.record_ending(&ending)?;
        if !matches!(ending, Ending::Healthy) {
            report.escalations = escalations(&round.view, &round.guarded);
        }
        report.ending = ending;
        report.verification = round.verification;
        report.total_ms = millis(self.clock.now().duration_since(started));
        Ok(report)
    }

    /// Looks at the node once and decides; changes nothing.
    fn round(&mut self, deadline: &Deadline) -> Result<Round> {
        let started = self.clock.now();
        let observation = self.world.observe(deadline);
        let observed = self.clock.now();
        let diagnosis = diagnose(&observation.facts);
        let verification = Verification::of(&observation);
        let mut history = self.log.as_ref().map_or_else(|| self.past.clone(), |log| log.history(MAX_HISTORY));
        history.extend(self.waits.iter().cloned());
        let view = policy_view(&observation, &diagnosis, history, &self.options.consents);
        let mut outcome = (self.decide)(&view);
        outcome.decisions = stage::in_order(outcome.decisions);
        let guarded = (self.guard)(&view, &outcome.decisions);
        let plan = Plan::new(&observation, &outcome, &guarded)?;
        let times = RoundTimes {
            observe_ms: millis(observed.duration_since(started)),
            decide_ms: millis(self.clock.now().duration_since(observed)),
        };
        let policy = outcome.policy.to_string();
        let unread = observation.unobserved.first().map(|part| format!("{}: {}", part.what, part.reason));
        Ok(Round { observation, view, diagnosis, verification, guarded, plan, unread, policy, times })
    }

    fn is_settling(&self, last_effect: Option<Instant>) -> bool {
        last_effect.is_some_and(|at| self.clock.now().duration_since(at) < self.options.settle)
    }

    /// Lets the policy know in the next round that it waited, so that its patience can end; pauses of the
    /// engine's own are none of its waits.
    fn remember_wait(&mut self, round: &Round, started_ms: u64) {
        let decisions = round.guarded.iter().map(|guarded| &guarded.decision);
        let mut waits = decisions.filter(|decision| matches!(decision.action, Action::Wait { .. }));
        let Some(wait) = waits.next() else { return };
        if self.waits.len() >= MAX_HISTORY {
            self.waits.remove(0);
        }
        self.waits.push(contract::PastAction {
            kind: wait.action.kind(),
            target: wait.action.target(),
            rule_id: wait.rule_id.clone(),
            started_ms,
            ended_ms: Some(millis(self.clock.unix())),
            outcome: contract::Outcome::Done,
        });
    }

    fn next(
        &self,
        round: &Round,
        steps: &[DoneStep],
        met_others: bool,
        last_effect: Option<Instant>,
        looks: Looks,
    ) -> Next {
        let state = State {
            verification: &round.verification,
            guarded: &round.guarded,
            steps,
            met_others,
            since_effect: last_effect.map(|at| self.clock.now().duration_since(at)),
            unread: round.unread.as_deref(),
            looks,
            may_act: self.log.is_some(),
        };
        choose::next(&state, self.options)
    }

    /// Records, prepares, does, records; tells also whether somebody else was at work.
    fn act(
        &mut self,
        decision: &Decision,
        round: &Round,
        deadline: &Deadline,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(DoneStep, bool)> {
        let step = Step::of(&decision.action, &decision.rule_id, &decision.reason);
        progress(Progress::Begins(&step));
        let undo = self.world.undo_of(&decision.action, &round.observation);
        let begin = Event::Begin {
            undo,
            action: decision.action.clone(),
            rule: decision.rule_id.clone(),
            reason: decision.reason.clone(),
            policy: round.policy.clone(),
        };
        let begun = self.append(begin)?;
        let started = self.clock.now();
        let seen = &round.observation;
        let (mut saved, mut not_saved) = (None, None);
        let result = match self.world.prepare(&decision.action, seen, deadline) {
            Ok(prepared) => {
                match prepared {
                    Some(Prepared::Saved(detail)) => {
                        progress(Progress::Saved(&detail));
                        self.append(Event::Saved { begun, detail: detail.clone() })?;
                        saved = Some(detail);
                    }
                    Some(Prepared::NotSaved(detail)) => {
                        progress(Progress::NotSaved(&detail));
                        self.append(Event::NotSaved { begun, detail: detail.clone() })?;
                        not_saved = Some(detail);
                    }
                    None => {}
                }
                let limit = deadline.at_most(Duration::from_millis(step.deadline_ms));
                self.world.perform(&decision.action, seen, &limit)
            }
            Err(error) => Err(error),
        };
        let took_ms = millis(self.clock.now().duration_since(started));
        let met_others = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Busy);
        let (outcome, detail, undo) = match result {
            Ok(performed) => (contract::Outcome::Done, performed.detail, performed.undo),
            // Somebody else works on the cluster; trying again would only use up the tries.
            Err(error) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::Busy) => {
                (contract::Outcome::Refused, error.to_string(), None)
            }
            Err(error) => (contract::Outcome::Failed, error.to_string(), None),
        };
        // It may hold what a program printed.
        let detail = by_looks(&detail);
        self.append(Event::End { begun, outcome, detail: detail.clone() })?;
        let Step { action, rule, reason, .. } = step;
        Ok((DoneStep { action, rule, reason, outcome, saved, not_saved, detail, undo, took_ms }, met_others))
    }
}

/// The report of a run that has done nothing yet.
fn begun_report(round: &Round) -> Report {
    Report {
        node: round.observation.node.clone(),
        ending: Ending::TimedOut,
        diagnosis: round.diagnosis.clone(),
        plan: Some(round.plan.clone()),
        resumed: Vec::new(),
        steps: Vec::new(),
        undone: Vec::new(),
        escalations: Vec::new(),
        verification: round.verification.clone(),
        rounds: vec![round.times],
        total_ms: 0,
    }
}
