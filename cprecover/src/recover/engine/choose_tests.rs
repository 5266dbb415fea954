//! The order of work, and what an unproven step stops.

use super::*;
use crate::model::{Component, Pid, Port, ProcessId};
use crate::recover::engine::stage;
use crate::recover::verification::Check;

fn sick() -> Verification {
    let check = Check { what: "etcd runs".into(), holds: false, seen: "no".into() };
    Verification { healthy: false, checks: vec![check] }
}

fn wants(action: Action, ruling: Ruling) -> Guarded {
    Guarded { decision: Decision::new("r", action, "because"), ruling }
}

fn orphan() -> Action {
    let process = ProcessId { pid: Pid::new(7).expect("positive"), start_ticks: 1 };
    Action::TerminateHolder { port: Port::new(2380).expect("not 0"), process }
}

fn restore() -> Action {
    Action::RestoreManifest { component: Component::Etcd, backup_id: "1".into() }
}

fn cooling() -> Ruling {
    Ruling::Deferred { rail: Rail::CoolDown, reason: "not yet".into() }
}

fn refused() -> Ruling {
    Ruling::Refused { rail: Rail::RateLimit, reason: "tried 3 times".into() }
}

fn choose(guarded: &[Guarded], steps: &[DoneStep]) -> Next {
    let state = State { verification: &sick(), guarded, steps, since_effect: None, may_act: true };
    next(&state, &RecoverOptions::default())
}

fn step(action: Action, outcome: contract::Outcome) -> DoneStep {
    DoneStep {
        action,
        rule: "r".into(),
        reason: "because".into(),
        outcome,
        saved: None,
        detail: "it survived".into(),
        undo: None,
        took_ms: 1,
    }
}

#[test]
fn the_order_is_that_of_the_work_whatever_the_policy_says() {
    let sandbox = Action::RemoveSandbox { sandbox: crate::model::SandboxId::new("s") };
    let duplicate = Action::QuarantineManifest { file: "etcd.yaml.bak".into() };
    let renew = Action::RenewCertificate { path: "/x".into() };
    let backwards = [
        Action::RestartKubelet,
        restore(),
        sandbox.clone(),
        orphan(),
        duplicate.clone(),
        renew.clone(),
        Action::RestartRuntime,
    ];
    let decisions = backwards.into_iter().map(|action| Decision::new("r", action, "why")).collect();
    let sorted: Vec<Action> = stage::in_order(decisions).into_iter().map(|d| d.action).collect();
    let wanted =
        [Action::RestartRuntime, renew, duplicate, sandbox, orphan(), restore(), Action::RestartKubelet];
    assert_eq!(sorted, wanted);
}

#[test]
fn a_step_that_waits_for_its_next_try_stops_all_that_come_after_it() {
    let guarded = [wants(orphan(), cooling()), wants(restore(), Ruling::Allowed)];
    assert_eq!(choose(&guarded, &[]), Next::Wait(Duration::from_secs(1)));
    // Of the same stage another one may be done meanwhile.
    let sandbox = Action::RemoveSandbox { sandbox: crate::model::SandboxId::new("s") };
    let guarded = [wants(orphan(), cooling()), wants(sandbox.clone(), Ruling::Allowed)];
    assert!(matches!(choose(&guarded, &[]), Next::Do(decision) if decision.action == sandbox));
}

#[test]
fn a_step_that_is_refused_stops_all_that_come_after_it_and_the_run_says_why() {
    let guarded = [wants(orphan(), refused()), wants(Action::RestartKubelet, Ruling::Allowed)];
    let failed = [step(orphan(), contract::Outcome::Failed)];
    let Next::Stop(Ending::Refused { reason }) = choose(&guarded, &failed) else { panic!("goes on") };
    assert!(reason.contains("tried 3 times") && reason.contains("it survived"), "{reason}");
}

#[test]
fn one_disruption_at_a_time_is_no_barrier() {
    let deferred = Ruling::Deferred { rail: Rail::OneAtATime, reason: "another first".into() };
    let guarded = [wants(orphan(), Ruling::Allowed), wants(Action::RestartKubelet, deferred)];
    assert!(matches!(choose(&guarded, &[]), Next::Do(decision) if decision.action == orphan()));
}

#[test]
fn a_run_ends() {
    let guarded = [wants(orphan(), Ruling::Allowed)];
    let many = vec![step(restore(), contract::Outcome::Failed); MAX_EFFECTS];
    assert!(matches!(choose(&guarded, &many), Next::Stop(Ending::Escalated { .. })));
    let refused = [step(orphan(), contract::Outcome::Refused)];
    assert!(matches!(choose(&guarded, &refused), Next::Stop(Ending::Failed { .. })));
    assert!(matches!(choose(&[], &[]), Next::Stop(Ending::Escalated { .. })));
    let state =
        State { verification: &sick(), guarded: &guarded, steps: &[], since_effect: None, may_act: false };
    assert_eq!(next(&state, &RecoverOptions::default()), Next::Stop(Ending::DryRun));
}

/// Found by the simulation: a caller that looks less often than every five seconds made the engine panic.
#[test]
fn a_pause_is_never_shorter_than_the_callers_own() {
    let guarded = [wants(Action::Wait { milliseconds: 2_000 }, Ruling::Allowed)];
    let state =
        State { verification: &sick(), guarded: &guarded, steps: &[], since_effect: None, may_act: true };
    let pauses = [1, 4, 15].map(|seconds| {
        let options = RecoverOptions { poll: Duration::from_secs(seconds), ..RecoverOptions::default() };
        next(&state, &options)
    });
    assert_eq!(pauses, [2, 4, 15].map(|seconds| Next::Wait(Duration::from_secs(seconds))));
}
