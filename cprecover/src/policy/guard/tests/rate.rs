//! How often and how soon again.

use cprecover_policies::CLOCK_STEP_MS;

use super::super::rate::{MAX_ATTEMPTS, WINDOW_MS};
use super::*;

#[test]
fn cool_down_and_rate_are_counted_per_target_and_hour() {
    let mut patient = holder();
    patient.cool_down_ms = 1000;
    patient.max_attempts = 3;
    guarded(
        Rail::CoolDown,
        &patient,
        |seen| past(seen, 1000, Outcome::Failed),
        |seen| {
            past(seen, 999, Outcome::Failed);
        },
    );
    guarded(
        Rail::RateLimit,
        &holder(),
        |seen| past(seen, WINDOW_MS, Outcome::Done),
        |seen| {
            past(seen, WINDOW_MS - 1, Outcome::Done);
        },
    );
    let mut greedy = holder();
    greedy.max_attempts = u32::MAX;
    let mut seen = seen();
    for _ in 0..MAX_ATTEMPTS {
        assert_eq!(ruling(&seen, &greedy), Ruling::Allowed);
        past(&mut seen, 5, Outcome::Failed);
    }
    assert_eq!(rail(&ruling(&seen, &greedy)), Some(Rail::RateLimit));
    // A clock that was set back does not empty the record.
    for entry in &mut seen.history {
        entry.started_ms = seen.now_ms + WINDOW_MS;
    }
    assert_eq!(rail(&ruling(&seen, &greedy)), Some(Rail::RateLimit));
    // What was recorded after them is of the hour before: so they are older still.
    past(&mut seen, WINDOW_MS, Outcome::Done);
    assert_eq!(ruling(&seen, &greedy), Ruling::Allowed);
}

/// A real-time clock that is hours ahead at boot, until the time is set from the network.
#[test]
fn a_try_that_is_ahead_of_the_clock_holds_nothing_up() {
    let patient = Decision { max_attempts: 1, cool_down_ms: 15_000, ..holder() };
    let ahead = |by_ms: u64| {
        let mut seen = seen();
        past(&mut seen, 0, Outcome::Done);
        let entry = seen.history.last_mut().expect("just told");
        (entry.started_ms, entry.ended_ms) = (seen.now_ms + by_ms, Some(seen.now_ms + by_ms));
        seen
    };
    assert_eq!(ruling(&ahead(8 * WINDOW_MS), &patient), Ruling::Allowed);
    // A clock that is only set right by a little is the same clock.
    assert_eq!(rail(&ruling(&ahead(CLOCK_STEP_MS), &patient)), Some(Rail::RateLimit));
    let patient = Decision { max_attempts: 2, ..patient };
    assert_eq!(rail(&ruling(&ahead(CLOCK_STEP_MS), &patient)), Some(Rail::CoolDown));
}

#[test]
fn what_was_refused_before_its_effect_is_no_try_and_the_refusal_says_when_the_next_one_is() {
    let mut patient = Decision { max_attempts: 2, ..holder() };
    let mut seen = seen();
    for _ in 0..3 {
        past(&mut seen, 5_000, Outcome::Refused);
    }
    assert_eq!(ruling(&seen, &patient), Ruling::Allowed);
    past(&mut seen, WINDOW_MS / 2, Outcome::Failed);
    past(&mut seen, WINDOW_MS / 4, Outcome::Done);
    let Ruling::Refused { rail: Rail::RateLimit, reason } = ruling(&seen, &patient) else {
        panic!("allowed")
    };
    assert!(reason.contains("was begun 2 times since 1970-01-01T09:30:00Z"), "{reason}");
    assert!(reason.ends_with("next at 1970-01-01T10:30:00Z"), "{reason}");
    patient.max_attempts = 0;
    let Ruling::Refused { rail: Rail::RateLimit, reason } = ruling(&seen, &patient) else {
        panic!("allowed")
    };
    assert!(!reason.contains("next at"), "{reason}");
}

#[test]
fn a_moved_pod_folder_counts_as_a_restart_of_kubelet() {
    fn moved(seen: &mut Observation, uid: &str, ago_ms: u64) {
        past(seen, ago_ms, Outcome::Done);
        let entry = seen.history.last_mut().expect("just told");
        (entry.kind, entry.target) = (ActionKind::QuarantinePodDir, uid.into());
    }
    let restart = wants(Action::RestartKubelet);
    guarded(
        Rail::RateLimit,
        &restart,
        |seen| moved(seen, "other", WINDOW_MS),
        |seen| {
            moved(seen, "other", WINDOW_MS - 1);
        },
    );
    let patient = Decision { max_attempts: 9, cool_down_ms: 1000, ..restart };
    guarded(
        Rail::CoolDown,
        &patient,
        |seen| moved(seen, "other", 1000),
        |seen| {
            moved(seen, "other", 999);
        },
    );
    // Each folder has its own tries; kubelet's restarts have a limit all the same.
    let mut seen = seen();
    for at in 0..MAX_ATTEMPTS {
        assert_eq!(ruling(&seen, &folder()), Ruling::Allowed);
        moved(&mut seen, &format!("other {at}"), 5);
    }
    assert_eq!(rail(&ruling(&seen, &folder())), Some(Rail::RateLimit));
    assert_eq!(ruling(&seen, &holder()), Ruling::Allowed);
}
