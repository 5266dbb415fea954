//! How often and how soon again.

use cprecover_policies::CLOCK_STEP_MS;

use super::super::action::{Action, Decision};
use super::super::contract::{ActionKind, Observation, Outcome, PastAction};
use super::{Passed, Rail, deferred, refused};
use crate::backup::rfc3339;

/// Attempts for one target are counted over this time, in milliseconds.
pub(super) const WINDOW_MS: u64 = 60 * 60 * 1000;
/// No policy gets more attempts than this for one target in one hour.
pub(super) const MAX_ATTEMPTS: u32 = 10;

pub(super) fn rate(seen: &Observation, decision: &Decision) -> Passed {
    let past = tries(seen, &decision.action);
    let own: Vec<u64> = past
        .iter()
        .filter(|past| !past.is_ahead && is_same_try(past.entry, &decision.action))
        .map(|past| past.at_ms)
        .collect();
    if own.len() >= count(decision.max_attempts.min(MAX_ATTEMPTS)) {
        let again = next_try(own.clone(), decision.max_attempts.min(MAX_ATTEMPTS));
        let since = own.iter().min().copied().unwrap_or(seen.now_ms);
        let (action, own) = (&decision.action, own.len());
        let why = format!("{action} was begun {own} times since {}{again}", rfc3339(since / 1000));
        return Err(refused(Rail::RateLimit, why));
    }
    if past.len() >= count(MAX_ATTEMPTS) {
        let what = if restarts_kubelet(decision.action.kind()) {
            "kubelet was restarted".to_owned()
        } else {
            format!("{} was begun", decision.action)
        };
        let again = next_try(past.iter().map(|past| past.at_ms).collect(), MAX_ATTEMPTS);
        let why = format!("{what} {} times in the last hour{again}", past.len());
        return Err(refused(Rail::RateLimit, why));
    }
    // An effect in which the engine died is finished at once, not after a pause; it counts as a try. One that
    // ended later than now was done under another clock: how long ago is not known, and hours may be wrong.
    let ended = past.iter().map(|past| past.entry).filter(|past| past.outcome != Outcome::Running);
    let ended = ended.map(|past| past.ended_ms.unwrap_or(past.started_ms));
    let last = ended.filter(|at| *at <= seen.now_ms.saturating_add(CLOCK_STEP_MS)).max();
    if last.is_some_and(|last| seen.now_ms.saturating_sub(last) < decision.cool_down_ms) {
        return Err(deferred(
            Rail::CoolDown,
            format!("the cool-down of {} ms has not passed", decision.cool_down_ms),
        ));
    }
    Ok(())
}

fn count(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Says when there are fewer than `limit` tries in the window again.
fn next_try(mut tries: Vec<u64>, limit: u32) -> String {
    tries.sort_unstable();
    let place = tries.len().checked_sub(count(limit));
    let frees = place.filter(|_| limit > 0).and_then(|place| tries.get(place));
    frees.map_or_else(String::new, |at| format!("; next at {}", rfc3339(at.saturating_add(WINDOW_MS) / 1000)))
}

/// An entry of the history that counts as a try.
struct Try<'a> {
    entry: &'a PastAction,
    /// When it began; at the latest, where its own clock was ahead.
    at_ms: u64,
    /// It says that it began later than now: the clock was set back since.
    is_ahead: bool,
}

/// What of the last hour counts for an action: its own tries, and for one that restarts kubelet all that did.
/// What was refused right before its effect changed nothing and does not count.
///
/// An entry that is ahead of the clock began before whatever was recorded after it; it counts for the limit
/// that no policy can raise, so that setting the clock back does not empty the record.
fn tries<'a>(seen: &'a Observation, action: &Action) -> Vec<Try<'a>> {
    let restarts = restarts_kubelet(action.kind());
    let mut latest = seen.now_ms;
    let mut found = Vec::new();
    for entry in seen.history.iter().rev() {
        let is_ahead = entry.started_ms > seen.now_ms.saturating_add(CLOCK_STEP_MS);
        let at_ms = if is_ahead { latest } else { entry.started_ms };
        latest = latest.min(at_ms);
        let counts = is_same_try(entry, action) || (restarts && restarts_kubelet(entry.kind));
        let in_window = seen.now_ms.saturating_sub(at_ms) < WINDOW_MS;
        if counts && in_window && entry.outcome != Outcome::Refused {
            found.push(Try { entry, at_ms, is_ahead });
        }
    }
    found
}

/// A restart of kubelet has one target, kubelet, so that every restart of it is a try of it.
fn is_same_try(past: &PastAction, action: &Action) -> bool {
    match action {
        Action::RestartKubelet => restarts_kubelet(past.kind),
        _ => past.kind == action.kind() && past.target == action.target(),
    }
}

/// A pod folder is moved while kubelet is stopped.
const fn restarts_kubelet(kind: ActionKind) -> bool {
    matches!(kind, ActionKind::RestartKubelet | ActionKind::QuarantinePodDir)
}
