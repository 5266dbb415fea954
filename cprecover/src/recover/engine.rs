//! The loop: one observation, one decision, at most one effect, and again.

use std::time::{Duration, Instant};

use super::act::{self, Performed};
use super::audit::{AuditLog, Event};
use super::host::Host;
use super::observation::Observation;
use super::observe::observe;
use super::plan::{Plan, Step};
use super::report::{DoneStep, Ending, Report, RoundTimes};
use super::verification::Verification;
use super::view::policy_view;
use crate::diagnose::{Diagnosis, diagnose};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::contract::{self, Consent};
use crate::policy::guard::{self, Guarded, Rail, Ruling};
use crate::policy::{Action, Decision, Outcome};
use crate::sys::{Clock, Deadline};

/// How many effects one run may have, whatever the policy says.
const MAX_EFFECTS: usize = 32;
/// The longest pause between two looks that a policy may ask for; the caller may want longer ones.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How many past effects a policy gets to see.
const MAX_HISTORY: usize = 128;

/// The node, as the loop sees it.
pub trait World {
    /// Looks at the node.
    fn observe(&mut self, deadline: &Deadline) -> Observation;

    /// Does one action.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] when the precondition does not hold any more; nothing was done then.
    fn perform(&mut self, action: &Action, seen: &Observation, deadline: &Deadline) -> Result<Performed>;
}

/// A real node.
pub struct NodeWorld<'a> {
    host: Host<'a>,
    consents: Vec<Consent>,
}

impl<'a> NodeWorld<'a> {
    /// Wraps a node; `consents` are what the caller agreed to beforehand.
    #[must_use]
    pub fn new(host: Host<'a>, consents: Vec<Consent>) -> Self {
        Self { host, consents }
    }
}

impl World for NodeWorld<'_> {
    fn observe(&mut self, deadline: &Deadline) -> Observation {
        observe(&self.host, deadline)
    }

    fn perform(&mut self, action: &Action, seen: &Observation, deadline: &Deadline) -> Result<Performed> {
        act::perform(&self.host, action, seen, &self.consents, deadline)
    }
}

/// How a recovery is done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecoverOptions {
    /// Makes the plan and changes nothing.
    pub dry_run: bool,
    /// How long the node may take to become healthy after the last effect.
    pub settle: Duration,
    /// How long to wait between two looks while it settles.
    pub poll: Duration,
    /// What the caller agreed to beforehand.
    pub consents: Vec<Consent>,
    /// Only steps of this plan are done; a different decision ends the run.
    pub approved: Option<Plan>,
}

impl Default for RecoverOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            settle: Duration::from_secs(90),
            poll: Duration::from_millis(100),
            consents: Vec::new(),
            approved: None,
        }
    }
}

/// What happens, as it happens; for a progress display.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The node was looked at and explained.
    Diagnosed(&'a Diagnosis),
    /// The first plan.
    Planned(&'a Plan),
    /// An effect begins.
    Begins(&'a Step),
    /// It ended.
    Ended(&'a DoneStep),
    /// Nothing to do but wait; what is not healthy yet.
    Waiting(&'a Verification),
}

/// Recovers a node, one proven step at a time.
pub struct Engine<'a> {
    world: &'a mut dyn World,
    decide: &'a dyn Fn(&contract::Observation) -> Outcome,
    clock: &'a dyn Clock,
    log: Option<&'a mut AuditLog>,
    options: &'a RecoverOptions,
    guard: Guard,
}

/// Rules on what a policy decided.
type Guard = fn(&contract::Observation, &[Decision]) -> Vec<Guarded>;

/// What one round decided.
struct Round {
    observation: Observation,
    diagnosis: Diagnosis,
    verification: Verification,
    guarded: Vec<Guarded>,
    plan: Plan,
    policy: String,
    times: RoundTimes,
}

/// What the loop does next.
enum Next {
    Do(Decision),
    Wait(Duration),
    Stop(Ending),
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
        Self { world, decide, clock, log, options, guard: guard::check }
    }

    /// Puts another guard in place, so that the simulation can show that a broken one is noticed.
    #[cfg(test)]
    pub(super) fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Runs until the node is verified healthy, or nothing more may be done, or the time is up.
    ///
    /// # Errors
    /// The kinds of a failed write to the audit log: an effect that cannot be recorded is not begun.
    /// Everything else is an [`Ending`].
    pub fn run(&mut self, deadline: &Deadline, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Report> {
        let started = self.clock.now();
        let resumed = self.close_interrupted()?;
        let mut round = self.round(deadline)?;
        progress(Progress::Diagnosed(&round.diagnosis));
        let mut report = Report {
            node: round.observation.node.clone(),
            ending: Ending::TimedOut,
            diagnosis: round.diagnosis.clone(),
            plan: None,
            resumed,
            steps: Vec::new(),
            verification: round.verification.clone(),
            rounds: vec![round.times],
            total_ms: 0,
        };
        let mut last_effect: Option<Instant> = None;
        let ending = loop {
            if report.plan.is_none() {
                progress(Progress::Planned(&round.plan));
                report.plan = Some(round.plan.clone());
            }
            if deadline.is_cancelled() && !round.verification.healthy {
                // What a cancelled look did not see must not be acted on, nor reported as seen.
                break Ending::Cancelled;
            }
            match self.next(&round, &report, last_effect) {
                Next::Stop(ending) => break ending,
                Next::Wait(pause) => {
                    progress(Progress::Waiting(&round.verification));
                    self.clock.sleep(pause.min(deadline.remaining()));
                }
                Next::Do(decision) => {
                    let done = self.act(&decision, &round, deadline, progress)?;
                    progress(Progress::Ended(&done));
                    last_effect = Some(self.clock.now());
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
        self.record_ending(&ending)?;
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
        let mut history = self.log.as_ref().map(|log| log.history()).unwrap_or_default();
        history.drain(..history.len().saturating_sub(MAX_HISTORY));
        let view = policy_view(&observation, &diagnosis, history, &self.options.consents);
        let outcome = (self.decide)(&view);
        let guarded = (self.guard)(&view, &outcome.decisions);
        let plan = Plan::new(&observation, &outcome, &guarded)?;
        let times = RoundTimes {
            observe_ms: millis(observed.duration_since(started)),
            decide_ms: millis(self.clock.now().duration_since(observed)),
        };
        Ok(Round {
            observation,
            diagnosis,
            verification,
            guarded,
            plan,
            policy: outcome.policy.to_string(),
            times,
        })
    }

    fn next(&self, round: &Round, report: &Report, last_effect: Option<Instant>) -> Next {
        if round.verification.healthy {
            return Next::Stop(Ending::Healthy);
        }
        if self.options.dry_run || self.log.is_none() {
            return Next::Stop(Ending::DryRun);
        }
        if let Some(failed) = report.steps.last().filter(|step| is_final_failure(step)) {
            return Next::Stop(Ending::Failed { reason: failed.detail.clone() });
        }
        let allowed = round
            .guarded
            .iter()
            .find(|guarded| guarded.decision.action.is_effect() && matches!(guarded.ruling, Ruling::Allowed));
        if let Some(Guarded { decision, .. }) = allowed {
            return self.approve(decision, report);
        }
        let wait = round.guarded.iter().find_map(|guarded| match guarded.decision.action {
            Action::Wait { milliseconds } => Some(Duration::from_millis(milliseconds)),
            _ => None,
        });
        let cooling = round
            .guarded
            .iter()
            .any(|guarded| matches!(guarded.ruling, Ruling::Deferred { rail: Rail::CoolDown, .. }));
        let settling =
            last_effect.is_some_and(|at| self.clock.now().duration_since(at) < self.options.settle);
        match wait {
            // Right after an effect the node changes from one moment to the next; a policy's pause is meant
            // for the time in which nothing happens.
            _ if settling => Next::Wait(self.options.poll),
            Some(pause) => Next::Wait(pause.min(MAX_PAUSE).max(self.options.poll)),
            None if cooling => Next::Wait(Duration::from_secs(1)),
            None => Next::Stop(stop_reason(round)),
        }
    }

    /// Lets a decision pass when it is part of the approved plan and the run has not done too much.
    fn approve(&self, decision: &Decision, report: &Report) -> Next {
        if report.steps.len() >= MAX_EFFECTS {
            let reason = format!("{MAX_EFFECTS} effects did not make the node healthy");
            return Next::Stop(Ending::Escalated { reason });
        }
        match &self.options.approved {
            Some(plan) if !plan.allows(&decision.action) => Next::Stop(Ending::Refused {
                reason: format!(
                    "{} is not part of the approved plan {}; make a new plan",
                    decision.action, plan.digest
                ),
            }),
            _ => Next::Do(decision.clone()),
        }
    }

    /// Records, does, records.
    fn act(
        &mut self,
        decision: &Decision,
        round: &Round,
        deadline: &Deadline,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<DoneStep> {
        let step = Step::of(&decision.action, &decision.rule_id, &decision.reason);
        progress(Progress::Begins(&step));
        let begin = Event::Begin {
            action: decision.action.clone(),
            rule: decision.rule_id.clone(),
            reason: decision.reason.clone(),
            policy: round.policy.clone(),
        };
        let begun = self.append(begin)?;
        let started = self.clock.now();
        let limit = deadline.at_most(Duration::from_millis(step.deadline_ms));
        let result = self.world.perform(&decision.action, &round.observation, &limit);
        let took_ms = millis(self.clock.now().duration_since(started));
        let (outcome, detail) = match result {
            Ok(performed) => (contract::Outcome::Done, performed.detail),
            Err(error) if error.kind() == ErrorKind::Refused => {
                (contract::Outcome::Refused, error.to_string())
            }
            Err(error) => (contract::Outcome::Failed, error.to_string()),
        };
        self.append(Event::End { begun, outcome, detail: detail.clone() })?;
        Ok(DoneStep { action: step.action, rule: step.rule, reason: step.reason, outcome, detail, took_ms })
    }

    /// Ends what a crash of an earlier run left open: this run observes anew and decides anew.
    fn close_interrupted(&mut self) -> Result<Vec<String>> {
        let Some(log) = &self.log else { return Ok(Vec::new()) };
        let ended: Vec<u64> = log
            .entries()
            .iter()
            .filter_map(|entry| match entry.event {
                Event::End { begun, .. } => Some(begun),
                _ => None,
            })
            .collect();
        let open: Vec<(u64, Action)> = log
            .entries()
            .iter()
            .filter_map(|entry| match &entry.event {
                Event::Begin { action, .. } if !ended.contains(&entry.sequence) => {
                    Some((entry.sequence, action.clone()))
                }
                _ => None,
            })
            .collect();
        let mut resumed = Vec::new();
        for (begun, action) in open {
            let detail = "the engine ended before the effect did; observed anew".to_owned();
            self.append(Event::End { begun, outcome: contract::Outcome::Running, detail })?;
            resumed.push(format!("an earlier run was interrupted in: {action}"));
        }
        Ok(resumed)
    }

    fn record_ending(&mut self, ending: &Ending) -> Result<()> {
        if self.options.dry_run || self.log.is_none() {
            return Ok(());
        }
        let already = self.log.as_ref().and_then(|log| log.entries().last()).map(|entry| entry.event.clone());
        match ending {
            // A healthy node is looked at without leaving a trace.
            Ending::Healthy if matches!(already, None | Some(Event::Healthy)) => {}
            Ending::Healthy => {
                self.append(Event::Healthy)?;
            }
            Ending::Escalated { reason } | Ending::Refused { reason } | Ending::Failed { reason } => {
                self.append(Event::Escalated { summary: reason.clone() })?;
            }
            Ending::DryRun | Ending::TimedOut | Ending::Cancelled => {}
        }
        Ok(())
    }

    fn append(&mut self, event: Event) -> Result<u64> {
        let now = millis(self.clock.unix());
        match &mut self.log {
            Some(log) => log.append(now, event),
            None => Err(Error::new(ErrorKind::Internal, "an effect without an audit log")),
        }
    }
}

/// Reports whether a failure will not mend by observing and deciding anew.
fn is_final_failure(step: &DoneStep) -> bool {
    step.outcome == contract::Outcome::Refused
}

/// Says why nothing more is done.
fn stop_reason(round: &Round) -> Ending {
    let escalation = round.guarded.iter().find_map(|guarded| match &guarded.decision.action {
        Action::Escalate { summary, .. } => Some(summary.clone()),
        _ => None,
    });
    let blocked = round.guarded.iter().find_map(|guarded| match &guarded.ruling {
        Ruling::Refused { reason, .. } | Ruling::Deferred { reason, .. } => {
            Some(format!("{}: {reason}", guarded.decision.action))
        }
        Ruling::Allowed => None,
    });
    match (escalation, blocked) {
        (Some(reason), _) => Ending::Escalated { reason },
        (None, Some(reason)) => Ending::Refused { reason },
        (None, None) => {
            let failed: Vec<String> = round.verification.failed().map(|check| check.what.clone()).collect();
            Ending::Escalated {
                reason: format!("the policy decides nothing; not proven: {}", failed.join("; ")),
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
