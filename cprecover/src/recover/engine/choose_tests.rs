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
    let state = State {
        verification: &sick(),
        guarded,
        steps,
        met_others: false,
        since_effect: None,
        unread: None,
        looks: Looks::default(),
        may_act: true,
    };
    next(&state, &RecoverOptions::default())
}

fn step(action: Action, outcome: contract::Outcome) -> DoneStep {
    DoneStep {
        action,
        rule: "r".into(),
        reason: "because".into(),
        outcome,
        saved: None,
        not_saved: None,
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
    let state = State {
        verification: &sick(),
        guarded: &guarded,
        steps: &refused,
        met_others: true,
        since_effect: None,
        unread: None,
        looks: Looks::default(),
        may_act: true,
    };
    let busy = Ending::Busy { reason: "it survived".into() };
    assert_eq!(next(&state, &RecoverOptions::default()), Next::Stop(busy));
    assert!(matches!(choose(&[], &[]), Next::Stop(Ending::Escalated { .. })));
    let state = State {
        verification: &sick(),
        guarded: &guarded,
        steps: &[],
        met_others: false,
        since_effect: None,
        unread: None,
        looks: Looks::default(),
        may_act: false,
    };
    assert_eq!(next(&state, &RecoverOptions::default()), Next::Stop(Ending::DryRun));
}

/// Found by the simulation: a caller that looks less often than every five seconds made the engine panic.
#[test]
fn a_pause_is_never_shorter_than_the_callers_own() {
    let guarded = [wants(Action::Wait { milliseconds: 2_000 }, Ruling::Allowed)];
    let state = State {
        verification: &sick(),
        guarded: &guarded,
        steps: &[],
        met_others: false,
        since_effect: None,
        unread: None,
        looks: Looks::default(),
        may_act: true,
    };
    let pauses = [1, 4, 15].map(|seconds| {
        let options = RecoverOptions { poll: Duration::from_secs(seconds), ..RecoverOptions::default() };
        next(&state, &options)
    });
    assert_eq!(pauses, [2, 4, 15].map(|seconds| Next::Wait(Duration::from_secs(seconds))));
}

#[test]
fn one_look_that_could_not_read_everything_ends_no_run() {
    let guarded = [wants(orphan(), refused())];
    let after = |blind_looks, unread| {
        let state = State {
            verification: &sick(),
            guarded: &guarded,
            steps: &[],
            met_others: false,
            since_effect: None,
            unread,
            looks: Looks { blind: blind_looks, unapproved: 0 },
            may_act: true,
        };
        next(&state, &RecoverOptions::default())
    };
    let unread = Some("container runtime: no answer");
    for looks in 1..MAX_DOUBTFUL_LOOKS {
        assert_eq!(after(looks, unread), Next::Wait(DOUBTFUL_PAUSE));
    }
    let Next::Stop(Ending::Refused { reason }) = after(MAX_DOUBTFUL_LOOKS, unread) else { panic!("goes on") };
    assert!(reason.contains("not readable in 4 looks: container runtime: no answer"), "{reason}");
    let Next::Stop(Ending::Refused { reason }) = after(0, None) else { panic!("goes on") };
    assert!(!reason.contains("not readable"), "{reason}");
}

/// The whole of the issue's order: runtime, disk, clock, certificates, lint, etcd's data, holders, manifests,
/// kubelet. Everything is wrong at once; each thing that is mended uncovers the next, whoever mends it.
#[test]
fn the_shipped_rules_and_the_engine_go_through_the_order_of_work_one_unproven_step_at_a_time() {
    use contract::{
        Component as Name, EtcdData, HolderClass, ManifestState, ServiceName, ServiceState, Verdict,
    };
    use cprecover_policy_sdk::observed;
    let mut seen = observed::broken_node("cp1")
        .service(ServiceName::Runtime, ServiceState::Failed)
        .service(ServiceName::Kubelet, ServiceState::Failed)
        .holder(2380, Name::Etcd, HolderClass::Orphan)
        .manifest(Name::KubeScheduler, ManifestState::Missing)
        .backup("b1", Name::KubeScheduler)
        .build();
    seen.disks = vec![contract::Disk {
        path: "/etc/kubernetes".into(),
        total_bytes: 1 << 30,
        available_bytes: 0,
        available_inodes: 0,
        read_only: false,
    }];
    seen.clock_sane = Verdict::No;
    seen.certificates = vec![contract::Certificate {
        path: "/etc/kubernetes/pki/apiserver.crt".into(),
        state: contract::CertificateState::Expired,
        ..contract::Certificate::default()
    }];
    seen.manifests.push(contract::Manifest {
        file: "etcd.yaml.bak".into(),
        component: Some(Name::Etcd),
        state: ManifestState::Duplicate,
        detail: String::new(),
    });
    seen.etcd.data = EtcdData::Damaged;
    let policy = crate::policy::Policy::native(cprecover_policies::Profile::Default);
    let first = |seen: &contract::Observation| {
        let decisions = stage::in_order(policy.decide(seen).decisions);
        let guarded = crate::policy::guard::check(seen, &decisions);
        match choose(&guarded, &[]) {
            Next::Do(decision) => decision.rule_id,
            Next::Stop(Ending::Escalated { .. }) => {
                let call = guarded.iter().find(|g| matches!(g.decision.action, Action::Escalate { .. }));
                format!("person: {}", call.map(|g| g.decision.rule_id.clone()).unwrap_or_default())
            }
            other => format!("{other:?}"),
        }
    };
    let mut order = vec![first(&seen)];
    let mut then = |mend: &dyn Fn(&mut contract::Observation)| {
        mend(&mut seen);
        order.push(first(&seen));
    };
    then(&|seen| {
        seen.services
            .iter_mut()
            .filter(|s| s.name == ServiceName::Runtime)
            .for_each(|s| s.state = ServiceState::Active);
    });
    then(&|seen| seen.disks.clear());
    then(&|seen| seen.clock_sane = Verdict::Yes);
    then(&|seen| seen.certificates.clear());
    then(&|seen| seen.manifests.retain(|manifest| manifest.state != ManifestState::Duplicate));
    then(&|seen| seen.etcd.data = EtcdData::Locked);
    then(&|seen| seen.holders.clear());
    then(&|seen| seen.manifests.iter_mut().for_each(|manifest| manifest.state = ManifestState::Present));
    assert_eq!(
        order,
        [
            "runtime-down",
            "person: disk",
            "person: clock",
            "person: certificates",
            "duplicate-manifest",
            "person: etcd-data",
            "orphan-holder",
            "manifest-lost",
            "kubelet-down",
        ]
    );
}
