//! Every rail has an observation that passes, and one change to it that the rail refuses.

#![allow(clippy::indexing_slicing)]

use super::super::contract::{
    ActionKind, Backup, Certificate, CertificateState, EtcdData, EtcdMember, Evidence, HolderClass, Manifest,
    ManifestState, Outcome, PastAction, PodDir, PortHolder, Regeneration, Sandbox, SandboxRole, Service,
    ServiceName, ServiceState,
};
use super::super::convert::contract_component;
use super::rate::WINDOW_MS;
use super::*;
use crate::model::{Pid, PodUid, Port, ProcessId, SandboxId};

mod rate;

fn seen() -> Observation {
    let manifest = |name: Component| Manifest {
        file: name.manifest_file().to_owned(),
        component: Some(contract_component(name)),
        state: ManifestState::Present,
        detail: String::new(),
    };
    let member = |name: &str, local, healthy| EtcdMember {
        name: name.into(),
        healthy,
        local,
        ..EtcdMember::default()
    };
    let mut seen = Observation {
        now_ms: 10 * WINDOW_MS,
        healthy: Verdict::No,
        evidence: vec![Evidence { id: "e1".into(), ..Evidence::default() }],
        holders: vec![PortHolder {
            port: 2380,
            pid: 7,
            start_ticks: 99,
            class: HolderClass::Orphan,
            wanted_by: Some(Name::Etcd),
            ..PortHolder::default()
        }],
        sandboxes: vec![Sandbox {
            id: "s1".into(),
            component: Some(Name::KubeScheduler),
            role: SandboxRole::Stale,
            ..Sandbox::default()
        }],
        manifests: [Component::Etcd, Component::KubeApiserver, Component::KubeScheduler].map(manifest).into(),
        backups: vec![backup(Name::Etcd), backup(Name::KubeApiserver)],
        services: vec![Service {
            name: ServiceName::Kubelet,
            state: ServiceState::Inactive,
            restart_ms: 1000,
            detail: String::new(),
        }],
        pod_dirs: vec![PodDir {
            uid: "u1".into(),
            known_to_runtime: Verdict::No,
            known_to_manifests: Verdict::No,
            mounts: Vec::new(),
        }],
        certificates: vec![Certificate {
            path: "/pki/a.crt".into(),
            component: None,
            state: CertificateState::Expired,
            not_after_ms: 1,
        }],
        consents: vec![Consent::RenewCertificates],
        ..Observation::default()
    };
    seen.etcd.data = EtcdData::Intact;
    seen.etcd.quorum = 2;
    seen.etcd.members = vec![
        member("a", true, Verdict::No),
        member("b", false, Verdict::Yes),
        member("c", false, Verdict::Yes),
    ];
    seen
}

fn backup(component: Name) -> Backup {
    Backup {
        id: "b1".into(),
        component,
        taken_ms: 1,
        verified: Verdict::Yes,
        last_known_good: true,
        same_node: Verdict::Yes,
    }
}

fn holder() -> Decision {
    let pid = Pid::new(7).expect("positive");
    let process = ProcessId { pid, start_ticks: 99 };
    Decision::new("r", Action::TerminateHolder { port: Port::new(2380).expect("not 0"), process }, "why")
}

fn wants(action: Action) -> Decision {
    Decision::new("r", action, "why")
}

fn bounce() -> Decision {
    wants(Action::BounceStaticPod { component: Component::KubeApiserver })
}

fn sandbox() -> Decision {
    wants(Action::RemoveSandbox { sandbox: SandboxId::new("s1") })
}

fn folder() -> Decision {
    wants(Action::QuarantinePodDir { uid: PodUid::new("u1") })
}

fn restore() -> Decision {
    wants(Action::RestoreManifest { component: Component::Etcd, backup_id: "b1".into() })
}

fn ruling(seen: &Observation, decision: &Decision) -> Ruling {
    check(seen, std::slice::from_ref(decision)).remove(0).ruling
}

fn rail(ruling: &Ruling) -> Option<Rail> {
    match ruling {
        Ruling::Allowed => None,
        Ruling::Deferred { rail, .. } | Ruling::Refused { rail, .. } => Some(*rail),
    }
}

/// What passes on [`seen`] after `base` must be caught by `expected` after `change`.
#[track_caller]
fn guarded(expected: Rail, decision: &Decision, base: fn(&mut Observation), change: fn(&mut Observation)) {
    let mut seen = seen();
    base(&mut seen);
    assert_eq!(ruling(&seen, decision), Ruling::Allowed, "before the change");
    change(&mut seen);
    let after = ruling(&seen, decision);
    assert_eq!(rail(&after), Some(expected), "{after:?}");
}

fn nothing(_: &mut Observation) {}

fn lost(seen: &mut Observation) {
    seen.manifests[0].state = ManifestState::Missing;
}

fn regenerable(seen: &mut Observation) {
    lost(seen);
    seen.regenerations = vec![Regeneration {
        component: Name::Etcd,
        possible: Verdict::Yes,
        missing: Vec::new(),
        dangerous: Vec::new(),
    }];
}

fn duplicate(seen: &mut Observation) {
    let mut copy = seen.manifests[0].clone();
    copy.file = "etcd-copy.yaml".into();
    copy.state = ManifestState::Duplicate;
    seen.manifests.push(copy);
}

fn past(seen: &mut Observation, ago_ms: u64, outcome: Outcome) {
    let started_ms = seen.now_ms.saturating_sub(ago_ms);
    seen.history.push(PastAction {
        kind: ActionKind::TerminateHolder,
        target: holder().action.target(),
        rule_id: "r".into(),
        started_ms,
        ended_ms: Some(started_ms),
        outcome,
    });
}

#[test]
fn precondition_wants_the_very_target_in_the_very_state() {
    guarded(Rail::Precondition, &holder(), nothing, |seen| seen.holders[0].start_ticks = 100);
    guarded(Rail::Precondition, &holder(), nothing, |seen| seen.holders[0].port = 2379);
    guarded(Rail::Precondition, &holder(), nothing, |seen| seen.holders[0].pid = 8);
    guarded(Rail::Precondition, &sandbox(), nothing, |seen| seen.sandboxes.clear());
    guarded(Rail::Precondition, &bounce(), nothing, |seen| {
        seen.manifests[1].state = ManifestState::Unreadable;
    });
    for state in [ManifestState::Present, ManifestState::Unreadable, ManifestState::Duplicate] {
        let mut seen = seen();
        seen.manifests[0].state = state;
        assert_eq!(rail(&ruling(&seen, &restore())), Some(Rail::Precondition), "{state:?}");
    }
    let regenerate = wants(Action::RegenerateComponent { component: Component::Etcd });
    guarded(Rail::Precondition, &regenerate, regenerable, |seen| {
        seen.regenerations[0].possible = Verdict::Unknown;
    });
    guarded(Rail::Precondition, &wants(Action::RestartKubelet), nothing, |seen| seen.services.clear());
    assert_eq!(rail(&ruling(&seen(), &wants(Action::RestartRuntime))), Some(Rail::Precondition));
    let renew = wants(Action::RenewCertificate { path: "/pki/a.crt".into() });
    guarded(Rail::Precondition, &renew, nothing, |seen| seen.certificates.clear());
    for state in [CertificateState::Valid, CertificateState::NotYetValid, CertificateState::Unreadable] {
        let mut seen = seen();
        seen.certificates[0].state = state;
        assert_eq!(rail(&ruling(&seen, &renew)), Some(Rail::Precondition), "{state:?}");
    }
}

#[test]
fn only_a_proven_orphan_is_ever_ended() {
    let classes = [
        HolderClass::Unproven,
        HolderClass::Current,
        HolderClass::StaleSandbox,
        HolderClass::SystemdUnit,
        HolderClass::Foreign,
    ];
    for class in classes {
        let mut seen = seen();
        seen.holders[0].class = class;
        assert_eq!(rail(&ruling(&seen, &holder())), Some(Rail::UnprovenTarget), "{class:?}");
    }
    guarded(Rail::UnprovenTarget, &holder(), nothing, |seen| seen.holders[0].wanted_by = None);
    guarded(Rail::UnprovenTarget, &sandbox(), nothing, |seen| seen.sandboxes[0].role = SandboxRole::Current);
    guarded(Rail::UnprovenTarget, &sandbox(), nothing, |seen| seen.sandboxes[0].role = SandboxRole::Unknown);
}

#[test]
fn a_pod_folder_must_be_unknown_to_all_and_unmounted() {
    let folder = folder();
    guarded(Rail::UnprovenTarget, &folder, nothing, |seen| seen.pod_dirs[0].mounts.push("/m".into()));
    guarded(Rail::UnprovenTarget, &folder, nothing, |seen| {
        seen.pod_dirs[0].known_to_runtime = Verdict::Unknown;
    });
    guarded(Rail::UnprovenTarget, &folder, nothing, |seen| {
        seen.pod_dirs[0].known_to_manifests = Verdict::Unknown;
    });
}

#[test]
fn only_a_duplicate_beside_its_original_is_taken_out() {
    let file = wants(Action::QuarantineManifest { file: "etcd-copy.yaml".into() });
    guarded(Rail::UnprovenTarget, &file, duplicate, |seen| seen.manifests[3].state = ManifestState::Present);
    guarded(Rail::Precondition, &file, duplicate, |seen| seen.manifests[0].state = ManifestState::Invalid);
}

#[test]
fn no_destructive_step_without_a_verified_backup() {
    guarded(Rail::NoVerifiedBackup, &bounce(), nothing, |seen| seen.backups[1].verified = Verdict::Unknown);
    guarded(Rail::NoVerifiedBackup, &bounce(), nothing, |seen| seen.backups[1].same_node = Verdict::No);
    guarded(Rail::NoVerifiedBackup, &restore(), lost, |seen| seen.backups[0].verified = Verdict::No);
    guarded(Rail::NoVerifiedBackup, &restore(), lost, |seen| seen.backups[0].id = "another".into());
    // A backup that names no node may be another node's.
    guarded(Rail::NoVerifiedBackup, &bounce(), nothing, |seen| seen.backups[1].same_node = Verdict::Unknown);
    guarded(Rail::NoVerifiedBackup, &restore(), lost, |seen| seen.backups[0].same_node = Verdict::Unknown);
    guarded(Rail::NoVerifiedBackup, &holder(), lost, |seen| seen.backups[0].same_node = Verdict::Unknown);
    guarded(Rail::NoVerifiedBackup, &holder(), lost, |seen| seen.backups.clear());
    guarded(Rail::NoVerifiedBackup, &sandbox(), nothing, |seen| {
        seen.manifests[2].state = ManifestState::Missing;
    });
}

#[test]
fn etcd_never_falls_below_quorum() {
    fn alive(seen: &mut Observation) {
        seen.etcd.members[0].healthy = Verdict::Yes;
    }
    guarded(Rail::Quorum, &holder(), alive, |seen| seen.etcd.members[1].healthy = Verdict::Unknown);
    guarded(Rail::Quorum, &holder(), alive, |seen| seen.etcd.members[1].learner = true);
    guarded(Rail::Quorum, &holder(), nothing, |seen| seen.etcd.members.clear());
    guarded(Rail::Quorum, &holder(), nothing, |seen| seen.etcd.quorum = 0);
    let etcd = wants(Action::BounceStaticPod { component: Component::Etcd });
    guarded(Rail::Quorum, &etcd, alive, |seen| seen.etcd.members[2].healthy = Verdict::No);
    guarded(Rail::Quorum, &sandbox(), nothing, |seen| {
        seen.sandboxes[0].component = Some(Name::Etcd);
        seen.etcd.quorum = 0;
    });
    let copy = wants(Action::QuarantineManifest { file: "etcd-copy.yaml".into() });
    guarded(Rail::Quorum, &copy, duplicate, |seen| seen.etcd.quorum = 0);
}

#[test]
fn a_voter_that_could_not_be_asked_may_be_needed() {
    fn unknown(seen: &mut Observation) {
        seen.etcd.members[0].healthy = Verdict::Unknown;
    }
    guarded(Rail::Quorum, &holder(), unknown, |seen| seen.etcd.members[1].healthy = Verdict::Unknown);
    guarded(Rail::Quorum, &holder(), nothing, |seen| {
        unknown(seen);
        seen.etcd.members.truncate(1);
        seen.etcd.quorum = 1;
    });
}

/// As after a reinstall, when two members have the node's name.
#[test]
fn a_member_that_cannot_be_told_apart_may_be_a_healthy_one() {
    fn nobody_is_local(seen: &mut Observation) {
        seen.etcd.members.iter_mut().for_each(|member| member.local = false);
    }
    guarded(Rail::Quorum, &holder(), nothing, nobody_is_local);
    guarded(Rail::Quorum, &holder(), nothing, |seen| {
        seen.etcd.members.iter_mut().for_each(|member| member.local = true);
    });
    let mut seen = seen();
    nobody_is_local(&mut seen);
    seen.etcd.members[0].healthy = Verdict::Yes;
    assert_eq!(ruling(&seen, &holder()), Ruling::Allowed, "one of three healthy ones");
    seen.etcd.members.iter_mut().for_each(|member| member.healthy = Verdict::No);
    assert_eq!(ruling(&seen, &holder()), Ruling::Allowed, "all are dead, this node's too");

    let text = include_str!("../../../../policies/testdata/orphan-that-still-votes.json");
    let text = text.replace("\"local\": true", "\"local\": false");
    let mut recorded: serde_json::Value = serde_json::from_str(&text).expect("recorded");
    recorded.as_object_mut().expect("an object").remove("schema");
    let seen: Observation = serde_json::from_value(recorded).expect("an observation");
    let process = ProcessId { pid: Pid::new(4255).expect("positive"), start_ticks: 2_051_043 };
    let port = Port::new(33665).expect("not 0");
    let after = ruling(&seen, &wants(Action::TerminateHolder { port, process }));
    assert_eq!(rail(&after), Some(Rail::Quorum), "{after:?}");
}

#[test]
fn etcd_is_never_started_on_lost_data() {
    for data in [EtcdData::Empty, EtcdData::Missing, EtcdData::Foreign, EtcdData::Damaged] {
        let mut seen = seen();
        regenerable(&mut seen);
        assert_eq!(ruling(&seen, &restore()), Ruling::Allowed);
        seen.etcd.data = data;
        assert_eq!(rail(&ruling(&seen, &restore())), Some(Rail::Quorum), "{data:?}");
        let regenerate = wants(Action::RegenerateComponent { component: Component::Etcd });
        assert_eq!(rail(&ruling(&seen, &regenerate)), Some(Rail::Quorum), "{data:?}");
    }
}

/// Found by the simulation: kubelet ends what has no manifest as soon as it starts.
#[test]
fn kubelet_is_not_started_over_a_serving_etcd_without_a_manifest() {
    let mut seen = seen();
    seen.etcd.members[0].healthy = Verdict::Yes;
    seen.etcd.members[1].healthy = Verdict::No;
    let runtime = Service { name: ServiceName::Runtime, ..seen.services[0].clone() };
    seen.services.push(runtime);
    for action in [Action::RestartKubelet, Action::RestartRuntime, folder().action] {
        assert_eq!(ruling(&seen, &wants(action.clone())), Ruling::Allowed);
        for state in [ManifestState::Missing, ManifestState::Invalid, ManifestState::Unreadable] {
            let mut seen = seen.clone();
            seen.manifests[0].state = state;
            assert_eq!(
                rail(&ruling(&seen, &wants(action.clone()))),
                Some(Rail::Quorum),
                "{action} {state:?}"
            );
        }
    }
}

#[test]
fn one_disruptive_step_at_a_time() {
    let rulings =
        check(&seen(), &[holder(), wants(Action::RestartKubelet), wants(Action::Wait { milliseconds: 1 })]);
    assert_eq!(rulings[0].ruling, Ruling::Allowed);
    assert!(matches!(rulings[1].ruling, Ruling::Deferred { rail: Rail::OneAtATime, .. }), "{rulings:?}");
    assert_eq!(rulings[2].ruling, Ruling::Allowed);
    let rulings = check(&seen(), &[folder(), wants(Action::RestartKubelet)]);
    assert_eq!((&rulings[0].ruling, rail(&rulings[1].ruling)), (&Ruling::Allowed, Some(Rail::OneAtATime)));
}

#[test]
fn a_refused_step_does_not_hold_up_the_next() {
    let mut seen = seen();
    seen.holders[0].class = HolderClass::Foreign;
    let rulings = check(&seen, &[holder(), wants(Action::RestartKubelet)]);
    assert_eq!(rulings[1].ruling, Ruling::Allowed);
}

#[test]
fn some_steps_need_the_callers_consent() {
    let renew = wants(Action::RenewCertificate { path: "/pki/a.crt".into() });
    guarded(Rail::Consent, &renew, nothing, |seen| seen.consents.clear());
    let regenerate = wants(Action::RegenerateComponent { component: Component::Etcd });
    guarded(Rail::Consent, &regenerate, regenerable, |seen| {
        seen.regenerations[0].dangerous.push("another image".into());
    });
}

#[test]
fn a_healthy_node_is_left_alone() {
    guarded(Rail::Healthy, &holder(), nothing, |seen| seen.healthy = Verdict::Yes);
    guarded(Rail::Healthy, &wants(Action::RestartKubelet), nothing, |seen| seen.healthy = Verdict::Yes);
}

#[test]
fn evidence_must_have_been_seen() {
    let mut cited = holder();
    cited.evidence = vec!["e1".into()];
    guarded(Rail::Evidence, &cited, nothing, |seen| seen.evidence.clear());
}
