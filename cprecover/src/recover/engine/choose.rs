//! What comes next: pure, from one round's decisions and what this run has done.

use std::fmt;
use std::time::Duration;

use super::options::RecoverOptions;
use super::stage::Stage;
use crate::policy::guard::{Guarded, Rail, Ruling};
use crate::policy::{Action, Decision, contract};
use crate::recover::plan::Plan;
use crate::recover::report::{DoneStep, Ending};
use crate::recover::verification::Verification;

/// How many effects one run may have, whatever the policy says.
pub(super) const MAX_EFFECTS: usize = 32;

/// The longest pause between two looks that a policy may ask for; the caller may want longer ones.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How many looks in a row a run ends on that could not read everything or want a step that is not in the
/// approved plan, and the pause between them.
pub(super) const MAX_DOUBTFUL_LOOKS: u32 = 4;
const DOUBTFUL_PAUSE: Duration = Duration::from_millis(500);

/// What the loop does next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Do(Decision),
    Wait(Duration),
    Stop(Ending),
}

/// What is known when the next step is chosen.
pub(super) struct State<'a> {
    pub(super) verification: &'a Verification,
    /// In the order of work.
    pub(super) guarded: &'a [Guarded],
    pub(super) steps: &'a [DoneStep],
    /// Whether the last step was not done because somebody else was at work.
    pub(super) met_others: bool,
    pub(super) since_effect: Option<Duration>,
    /// What this look could not read, the first of it.
    pub(super) unread: Option<&'a str>,
    pub(super) looks: Looks,
    /// Whether there is an audit log to write effects into.
    pub(super) may_act: bool,
}

/// How many looks there were in a row, this one with them, that a run should not end on at once: what they
/// saw may be over in a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Looks {
    /// That could not read everything.
    pub(super) blind: u32,
    /// That want a step which is not in the approved plan, as one for a container that is just starting.
    pub(super) unapproved: u32,
}

impl Looks {
    pub(super) fn and(self, is_blind: bool, guarded: &[Guarded], options: &RecoverOptions) -> Self {
        let is_unapproved = matches!(first_effect(guarded), Effect::Allowed(decision)
            if options.approved.as_ref().is_some_and(|plan| !plan.allows(&decision.action)));
        let count = |looks: u32, more: bool| if more { looks.saturating_add(1) } else { 0 };
        Self { blind: count(self.blind, is_blind), unapproved: count(self.unapproved, is_unapproved) }
    }
}

/// Chooses the next step.
pub(super) fn next(state: &State<'_>, options: &RecoverOptions) -> Next {
    if state.verification.healthy {
        return Next::Stop(Ending::Healthy);
    }
    if options.dry_run || !state.may_act {
        return Next::Stop(Ending::DryRun);
    }
    // What was refused right before its effect is not mended by deciding anew.
    if let Some(refused) = state.steps.last().filter(|step| step.outcome == contract::Outcome::Refused) {
        let reason = refused.detail.clone();
        return Next::Stop(if state.met_others {
            Ending::Busy { reason }
        } else {
            Ending::Failed { reason }
        });
    }
    let next = match first_effect(state.guarded) {
        Effect::Allowed(decision) => approve(decision, state, options),
        Effect::Cooling => wait(state, options, Some(Duration::from_secs(1))),
        Effect::Unproven | Effect::None => wait(state, options, None),
    };
    match next {
        Next::Stop(ending) => stop(ending, state, options),
        next => next,
    }
}

/// Says why the approved plan is not for this run, whose own first plan is `made`.
pub(super) fn another_plan(made: &Plan, options: &RecoverOptions) -> Option<String> {
    let approved = options.approved.as_ref()?;
    let differs = |what: &str, approved: &dyn fmt::Display, made: &dyn fmt::Display| {
        format!("the approved plan is for {what} {approved}, this run is for {made}; make a new plan")
    };
    if approved.node != made.node {
        return Some(differs("node", &approved.node, &made.node));
    }
    (approved.policy != made.policy).then(|| differs("policy", &approved.policy, &made.policy))
}

/// The first effect in the order of work that nothing unproven is in front of.
enum Effect<'a> {
    Allowed(&'a Decision),
    /// A step has to be tried again first, and its pause is not over.
    Cooling,
    /// A step is refused, and all others come after it.
    Unproven,
    None,
}

fn first_effect(guarded: &[Guarded]) -> Effect<'_> {
    let mut barrier: Option<(Stage, bool)> = None;
    for Guarded { decision, ruling, .. } in guarded.iter().filter(|g| g.decision.action.is_effect()) {
        let stage = Stage::of(&decision.action);
        if barrier.is_some_and(|(unproven, _)| stage > unproven) {
            break;
        }
        let is_cooling = match ruling {
            Ruling::Allowed => return Effect::Allowed(decision),
            Ruling::Deferred { rail: Rail::CoolDown, .. } => true,
            Ruling::Deferred { .. } => continue,
            Ruling::Refused { .. } => false,
        };
        barrier = Some((stage, is_cooling || barrier.is_some_and(|(_, cooling)| cooling)));
    }
    match barrier {
        Some((_, true)) => Effect::Cooling,
        Some((_, false)) => Effect::Unproven,
        None => Effect::None,
    }
}

fn wait(state: &State<'_>, options: &RecoverOptions, cooling: Option<Duration>) -> Next {
    let wanted = state.guarded.iter().find_map(|guarded| match guarded.decision.action {
        Action::Wait { milliseconds } => Some(Duration::from_millis(milliseconds)),
        _ => None,
    });
    let settling = state.since_effect.is_some_and(|since| since < options.settle);
    match wanted {
        // Right after an effect the node changes from one moment to the next; a policy's pause is meant
        // for the time in which nothing happens.
        _ if settling => Next::Wait(options.poll),
        Some(pause) => Next::Wait(pause.min(MAX_PAUSE).max(options.poll)),
        None => cooling.map_or_else(|| Next::Stop(stop_reason(state)), Next::Wait),
    }
}

/// Ends the run, unless what this look could not read may be read by the next.
fn stop(ending: Ending, state: &State<'_>, options: &RecoverOptions) -> Next {
    let Some(unread) = state.unread else { return Next::Stop(ending) };
    if state.looks.blind < MAX_DOUBTFUL_LOOKS {
        return Next::Wait(DOUBTFUL_PAUSE.max(options.poll));
    }
    let unread = format!("; not readable in {} looks: {unread}", state.looks.blind);
    Next::Stop(match ending {
        Ending::Refused { reason } => Ending::Refused { reason: reason + &unread },
        Ending::Escalated { reason } => Ending::Escalated { reason: reason + &unread },
        other => other,
    })
}

/// Lets a decision pass when it is part of the approved plan and the run has not done too much.
fn approve(decision: &Decision, state: &State<'_>, options: &RecoverOptions) -> Next {
    if state.steps.len() >= MAX_EFFECTS {
        let reason = format!("{MAX_EFFECTS} effects did not make the node healthy");
        return Next::Stop(Ending::Escalated { reason });
    }
    match &options.approved {
        Some(plan) if !plan.allows(&decision.action) && state.looks.unapproved < MAX_DOUBTFUL_LOOKS => {
            Next::Wait(DOUBTFUL_PAUSE.max(options.poll))
        }
        Some(plan) if !plan.allows(&decision.action) => Next::Stop(Ending::Refused {
            reason: format!(
                "{} is not part of the approved plan {}; make a new plan",
                decision.action, plan.digest
            ),
        }),
        _ => Next::Do(decision.clone()),
    }
}

/// Says why nothing more is done.
fn stop_reason(state: &State<'_>) -> Ending {
    let escalation = state.guarded.iter().find_map(|guarded| match &guarded.decision.action {
        Action::Escalate { summary, .. } => Some(summary.clone()),
        _ => None,
    });
    let blocked = state.guarded.iter().find_map(|guarded| match &guarded.ruling {
        Ruling::Refused { reason, .. } | Ruling::Deferred { reason, .. } => {
            Some(format!("{}: {reason}", guarded.decision.action))
        }
        Ruling::Allowed => None,
    });
    // A step that was tried and failed until the guard refused it says more than the refusal.
    let tried = state.steps.iter().rev().find(|step| step.outcome == contract::Outcome::Failed);
    let tried =
        tried.map(|step| format!("; {} failed last: {}", step.action, step.detail)).unwrap_or_default();
    match (escalation, blocked) {
        (Some(reason), _) => Ending::Escalated { reason: format!("{reason}{tried}") },
        (None, Some(reason)) => Ending::Refused { reason: format!("{reason}{tried}") },
        (None, None) => {
            let failed: Vec<String> = state.verification.failed().map(|check| check.what.clone()).collect();
            Ending::Escalated {
                reason: format!("the policy decides nothing; not proven: {}{tried}", failed.join("; ")),
            }
        }
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
