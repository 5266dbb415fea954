//! How often and how soon again.

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
