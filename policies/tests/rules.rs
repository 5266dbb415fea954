//! What the shipped policies do about the outage's situations, asked natively.

#![allow(clippy::indexing_slicing)]

use cprecover_policies::{Profile, decide, describe};
use cprecover_policy_sdk::contract::*;

const NOW_MS: u64 = 1_750_000_000_000;

/// A single-node control plane that is down; everything else is as it should be.
fn broken() -> Observation {
    Observation {
        node: "cp1".into(),
        now_ms: NOW_MS,
        healthy: Verdict::No,
        clock_sane: Verdict::Yes,
        manifests: [
            Component::Etcd,
            Component::KubeApiserver,
            Component::KubeControllerManager,
            Component::KubeScheduler,
        ]
        .map(|component| manifest(component, ManifestState::Present))
        .into(),
        services: vec![
            service(ServiceName::Kubelet, ServiceState::Active, 6_000),
            service(ServiceName::Runtime, ServiceState::Active, 2_000),
        ],
        etcd: Etcd {
            data: EtcdData::Intact,
            members: vec![member("a", Verdict::No, true)],
            quorum: 1,
            ..Etcd::default()
        },
        ..Observation::default()
    }
}

fn file(component: Component) -> &'static str {
    match component {
        Component::Etcd => "etcd.yaml",
        Component::KubeApiserver => "kube-apiserver.yaml",
        Component::KubeControllerManager => "kube-controller-manager.yaml",
        Component::KubeScheduler => "kube-scheduler.yaml",
    }
}

fn manifest(component: Component, state: ManifestState) -> Manifest {
    Manifest { file: file(component).into(), component: Some(component), state, detail: String::new() }
}

fn service(name: ServiceName, state: ServiceState, restart_ms: u64) -> Service {
    Service { name, state, restart_ms, detail: "inactive (dead)".into() }
}

fn member(id: &str, healthy: Verdict, local: bool) -> EtcdMember {
    EtcdMember { id: id.into(), name: id.into(), healthy, local, ..EtcdMember::default() }
}

fn holder(class: HolderClass) -> PortHolder {
    PortHolder {
        port: 2380,
        address: "10.10.17.210".into(),
        pid: 20_728,
        start_ticks: 59_959,
        executable: "/usr/local/bin/etcd".into(),
        class,
        wanted_by: Some(Component::Etcd),
        sandbox_id: (class == HolderClass::StaleSandbox).then(|| "old".into()),
        unit: (class == HolderClass::SystemdUnit).then(|| "etcd.service".into()),
        evidence: vec!["holder-2380".into()],
    }
}

fn backup(id: &str, component: Component) -> Backup {
    Backup {
        id: id.into(),
        component,
        taken_ms: NOW_MS - 1_000,
        verified: Verdict::Yes,
        last_known_good: false,
        same_node: Verdict::Yes,
    }
}

fn crashed_etcd(back_off_ms: u64) -> Container {
    Container {
        id: "c9".into(),
        component: Some(Component::Etcd),
        sandbox_id: "new".into(),
        state: ContainerState::Exited,
        exit_code: Some(1),
        attempt: 9,
        back_off_ms: Some(back_off_ms),
    }
}

fn past(kind: ActionKind, target: &str, ago_ms: u64) -> PastAction {
    PastAction {
        kind,
        target: target.into(),
        rule_id: "r".into(),
        started_ms: NOW_MS - ago_ms - 1,
        ended_ms: Some(NOW_MS - ago_ms),
        outcome: Outcome::Done,
    }
}

fn finding(id: &str, kind: FindingKind) -> Finding {
    Finding {
        id: id.into(),
        kind,
        severity: Severity::Critical,
        confidence: 0.9,
        component: None,
        summary: format!("{id} was seen"),
        evidence: Vec::new(),
    }
}

fn set(observation: &mut Observation, component: Component, state: ManifestState) {
    for manifest in &mut observation.manifests {
        if manifest.component == Some(component) {
            manifest.state = state;
        }
    }
}

/// The answer as "rule: action", for comparison.
fn answers(profile: Profile, observation: &Observation) -> Vec<String> {
    decide(profile, observation)
        .iter()
        .map(|decision| {
            let action = match &decision.action {
                Action::Wait(_) => "wait".into(),
                Action::RestartKubelet => "restart kubelet".into(),
                Action::RestartRuntime => "restart runtime".into(),
                Action::TerminateHolder(holder) => format!("end {} on {}", holder.pid, holder.port),
                Action::RemoveSandbox(id) => format!("remove {id}"),
                Action::RestoreManifest(from) => {
                    format!("restore {} from {}", file(from.component), from.backup_id)
                }
                Action::RegenerateComponent(component) => format!("regenerate {}", file(*component)),
                Action::BounceStaticPod(component) => format!("bounce {}", file(*component)),
                Action::QuarantinePodDir(uid) => format!("quarantine folder {uid}"),
                Action::RenewCertificate(path) => format!("renew {path}"),
                Action::QuarantineManifest(file) => format!("quarantine {file}"),
                Action::Escalate(_) => "escalate".into(),
            };
            format!("{}: {action}", decision.rule_id)
        })
        .collect()
}

fn default(observation: &Observation) -> Vec<String> {
    answers(Profile::Default, observation)
}

#[test]
fn a_healthy_node_is_left_alone_whatever_else_is_seen() {
    let mut seen = broken();
    seen.healthy = Verdict::Yes;
    seen.holders.push(holder(HolderClass::Orphan));
    set(&mut seen, Component::KubeScheduler, ManifestState::Missing);
    for profile in Profile::ALL {
        assert!(decide(profile, &seen).is_empty(), "{}", profile.name());
    }
}

#[test]
fn the_outage_a_true_orphan_is_ended_then_the_back_off_is_cut_short() {
    let mut seen = broken();
    seen.holders.push(holder(HolderClass::Orphan));
    seen.containers.push(crashed_etcd(100_000));
    // No restart yet: the port is still taken, etcd would only crash again.
    assert_eq!(default(&seen), ["orphan-holder: end 20728 on 2380"]);
    seen.holders.clear();
    seen.history.push(past(ActionKind::TerminateHolder, "port 2380 pid 20728", 500));
    assert_eq!(default(&seen), ["crash-loop-back-off: restart kubelet"]);
    seen.containers.clear();
    seen.history.push(past(ActionKind::RestartKubelet, "", 500));
    assert_eq!(default(&seen), ["unresolved: wait"]);
}

#[test]
fn an_orphan_of_several_ports_is_ended_once() {
    let mut seen = broken();
    for port in [2379, 2380, 2381] {
        seen.holders.push(PortHolder { port, ..holder(HolderClass::Orphan) });
    }
    assert_eq!(default(&seen), ["orphan-holder: end 20728 on 2379"]);
}

#[test]
fn a_back_off_shorter_than_a_restart_is_waited_out() {
    let mut seen = broken();
    seen.containers.push(crashed_etcd(7_000));
    assert_eq!(default(&seen), ["unresolved: wait"]);
    seen.containers.push(crashed_etcd(8_001));
    assert_eq!(default(&seen), ["crash-loop-back-off: restart kubelet"]);
}

#[test]
fn kubelets_deadlock_removes_the_stale_sandbox_and_restarts_kubelet() {
    let mut seen = broken();
    seen.holders.push(holder(HolderClass::StaleSandbox));
    seen.sandboxes.push(Sandbox {
        id: "old".into(),
        component: Some(Component::Etcd),
        role: SandboxRole::Stale,
        ..Sandbox::default()
    });
    assert_eq!(default(&seen), ["stale-sandbox: remove old", "stale-sandbox: restart kubelet"]);
    // Seen again after the first step, kubelet is still restarted.
    seen.holders.clear();
    seen.sandboxes.clear();
    seen.history.push(past(ActionKind::RemoveSandbox, "old", 500));
    assert_eq!(default(&seen), ["kubelet-stuck: restart kubelet"]);
    seen.history.push(past(ActionKind::RestartKubelet, "", 100));
    assert_eq!(default(&seen), ["unresolved: wait"]);
}

#[test]
fn a_stale_sandbox_is_left_to_kubelet_while_its_successor_runs() {
    let mut seen = broken();
    seen.sandboxes.push(Sandbox {
        id: "old".into(),
        component: Some(Component::Etcd),
        role: SandboxRole::Stale,
        ..Sandbox::default()
    });
    seen.containers.push(Container { state: ContainerState::Running, back_off_ms: None, ..crashed_etcd(0) });
    assert_eq!(default(&seen), ["unresolved: wait"]);
}

#[test]
fn lost_manifests_come_from_the_best_verified_backup_of_this_node() {
    let mut seen = broken();
    set(&mut seen, Component::Etcd, ManifestState::Missing);
    set(&mut seen, Component::KubeScheduler, ManifestState::Invalid);
    seen.backups = vec![
        Backup { verified: Verdict::Unknown, last_known_good: true, ..backup("unverified", Component::Etcd) },
        Backup { same_node: Verdict::No, last_known_good: true, ..backup("elsewhere", Component::Etcd) },
        Backup { last_known_good: true, taken_ms: 1, ..backup("good", Component::Etcd) },
        backup("newer", Component::Etcd),
        backup("s", Component::KubeScheduler),
    ];
    assert_eq!(
        default(&seen),
        ["manifest-lost: restore etcd.yaml from good", "manifest-lost: restore kube-scheduler.yaml from s"]
    );
}

#[test]
fn without_a_backup_a_manifest_is_regenerated_only_when_nothing_is_guessed_or_lost() {
    let mut seen = broken();
    set(&mut seen, Component::KubeApiserver, ManifestState::Missing);
    assert_eq!(default(&seen), ["manifest-lost: escalate"], "no kubeadm");
    let plan = |missing: &[&str], dangerous: &[&str]| Regeneration {
        component: Component::KubeApiserver,
        possible: Verdict::Yes,
        missing: missing.iter().map(ToString::to_string).collect(),
        dangerous: dangerous.iter().map(ToString::to_string).collect(),
    };
    seen.regenerations = vec![plan(&["serviceSubnet"], &[])];
    assert_eq!(default(&seen), ["manifest-lost: escalate"], "a value is not known");
    seen.regenerations = vec![plan(&[], &["audit-policy-file removed"])];
    assert_eq!(default(&seen), ["manifest-lost: escalate"], "behaviour would change");
    seen.consents = vec![Consent::AcceptRegeneratedChanges];
    assert_eq!(default(&seen), ["manifest-lost: regenerate kube-apiserver.yaml"]);
    seen.consents.clear();
    seen.regenerations = vec![plan(&[], &[])];
    assert_eq!(default(&seen), ["manifest-lost: regenerate kube-apiserver.yaml"]);
}

#[test]
fn orphan_and_lost_manifests_are_decided_together() {
    let mut seen = broken();
    seen.holders.push(holder(HolderClass::Orphan));
    set(&mut seen, Component::Etcd, ManifestState::Missing);
    seen.backups = vec![backup("b", Component::Etcd)];
    assert_eq!(
        default(&seen),
        ["orphan-holder: end 20728 on 2380", "manifest-lost: restore etcd.yaml from b"]
    );
}

#[test]
fn a_duplicate_file_is_quarantined_before_anything_else() {
    let mut seen = broken();
    seen.manifests.push(Manifest {
        file: "etcd.yaml.bak".into(),
        ..manifest(Component::Etcd, ManifestState::Duplicate)
    });
    seen.holders.push(holder(HolderClass::Orphan));
    assert_eq!(default(&seen), ["duplicate-manifest: quarantine etcd.yaml.bak"]);
}

#[test]
fn what_is_not_proven_to_be_an_orphan_is_never_touched() {
    for class in [HolderClass::Foreign, HolderClass::SystemdUnit, HolderClass::Unproven] {
        let mut seen = broken();
        seen.holders.push(holder(class));
        // Not even next to a true orphan: the first unproven step stops the rest.
        seen.holders.push(PortHolder { port: 2379, pid: 7, ..holder(HolderClass::Orphan) });
        for profile in Profile::ALL {
            assert_eq!(answers(profile, &seen), ["unproven-holder: escalate"], "{class:?}");
        }
    }
    let mut seen = broken();
    seen.holders.push(holder(HolderClass::SystemdUnit));
    let Some(Action::Escalate(call)) = decide(Profile::Default, &seen).pop().map(|decision| decision.action)
    else {
        panic!("a systemd holder calls a person");
    };
    assert!(call.summary.contains("etcd.service") && call.summary.contains("2380"), "{}", call.summary);
}

#[test]
fn the_rightful_holder_is_no_reason_to_act() {
    let mut seen = broken();
    seen.holders.push(holder(HolderClass::Current));
    assert_eq!(default(&seen), ["unresolved: wait"]);
}

#[test]
fn effects_alone_are_waited_out_and_then_told_to_a_person() {
    let mut seen = broken();
    seen.findings =
        vec![finding("lease-failure", FindingKind::Effect), finding("node-not-found", FindingKind::Effect)];
    assert_eq!(default(&seen), ["unresolved: wait"]);
    seen.history = (1..=30).map(|n| past(ActionKind::Wait, "", n * 2_000)).rev().collect();
    let decisions = decide(Profile::Default, &seen);
    assert_eq!(answers(Profile::Default, &seen), ["unresolved: escalate"]);
    assert!(decisions.iter().any(|decision| decision.reason.contains("lease-failure")));
}

#[test]
fn a_cause_without_a_remedy_is_told_at_once() {
    let mut seen = broken();
    seen.findings = vec![finding("ip-changed", FindingKind::Cause)];
    assert_eq!(default(&seen), ["unresolved: escalate"]);
}

#[test]
fn the_ground_comes_first() {
    let orphan = || {
        let mut seen = broken();
        seen.holders.push(holder(HolderClass::Orphan));
        seen
    };
    let mut seen = orphan();
    seen.services = vec![service(ServiceName::Runtime, ServiceState::Failed, 1_000)];
    assert_eq!(default(&seen), ["runtime-down: restart runtime"]);
    let mut seen = orphan();
    seen.disks = vec![Disk {
        path: "/var/lib/etcd".into(),
        total_bytes: 1 << 30,
        available_bytes: 4096,
        available_inodes: 9_999,
        read_only: false,
    }];
    assert_eq!(default(&seen), ["disk: escalate"]);
    let mut seen = orphan();
    seen.clock_sane = Verdict::No;
    assert_eq!(default(&seen), ["clock: escalate"]);
    let mut seen = orphan();
    seen.certificates = vec![Certificate {
        path: "/etc/kubernetes/pki/apiserver.crt".into(),
        state: CertificateState::Expired,
        ..Certificate::default()
    }];
    assert_eq!(default(&seen), ["certificates: escalate"]);
    seen.consents = vec![Consent::RenewCertificates];
    assert_eq!(default(&seen), ["certificates: renew /etc/kubernetes/pki/apiserver.crt"]);
}

#[test]
fn etcd_data_and_a_quorum_out_of_reach_are_for_a_person() {
    for data in [EtcdData::Damaged, EtcdData::Empty, EtcdData::Missing, EtcdData::Foreign, EtcdData::NoSpace]
    {
        let mut seen = broken();
        seen.etcd.data = data;
        set(&mut seen, Component::Etcd, ManifestState::Missing);
        seen.backups = vec![backup("b", Component::Etcd)];
        assert_eq!(default(&seen), ["etcd-data: escalate"], "{data:?}");
        seen.etcd.external = true;
        assert_eq!(default(&seen), ["unresolved: wait"], "{data:?} of an external etcd is not ours");
    }
    let mut seen = broken();
    seen.etcd.quorum = 2;
    seen.etcd.members = vec![
        member("a", Verdict::No, true),
        member("b", Verdict::No, false),
        member("c", Verdict::No, false),
    ];
    assert_eq!(default(&seen), ["etcd-data: escalate"]);
    seen.etcd.members[1].healthy = Verdict::Yes;
    assert_eq!(default(&seen), ["unresolved: wait"]);
}

#[test]
fn a_stopped_kubelet_is_started_only_on_a_complete_set_of_manifests() {
    let mut seen = broken();
    seen.services = vec![service(ServiceName::Kubelet, ServiceState::Inactive, 6_000)];
    assert_eq!(default(&seen), ["kubelet-down: restart kubelet"]);
    set(&mut seen, Component::Etcd, ManifestState::Missing);
    assert_eq!(default(&seen), ["manifest-lost: escalate"]);
    seen.backups = vec![backup("b", Component::Etcd)];
    assert_eq!(default(&seen), ["manifest-lost: restore etcd.yaml from b", "kubelet-down: restart kubelet"]);
}

#[test]
fn conservative_restores_and_restarts_but_asks_before_it_ends_anything() {
    let mut seen = broken();
    seen.holders.push(holder(HolderClass::StaleSandbox));
    // The restart rests on the removal, so it is not done alone.
    assert_eq!(answers(Profile::Conservative, &seen), ["stale-sandbox: escalate"]);
    let mut seen = broken();
    set(&mut seen, Component::Etcd, ManifestState::Missing);
    seen.backups = vec![backup("b", Component::Etcd)];
    assert_eq!(answers(Profile::Conservative, &seen), ["manifest-lost: restore etcd.yaml from b"]);
    let mut seen = broken();
    seen.containers.push(crashed_etcd(100_000));
    assert_eq!(answers(Profile::Conservative, &seen), ["crash-loop-back-off: restart kubelet"]);
}

#[test]
fn observe_only_never_acts() {
    let mut seen = broken();
    seen.holders.push(holder(HolderClass::Orphan));
    set(&mut seen, Component::Etcd, ManifestState::Missing);
    seen.backups = vec![backup("b", Component::Etcd)];
    assert_eq!(answers(Profile::ObserveOnly, &seen), ["orphan-holder: escalate", "manifest-lost: escalate"]);
}

#[test]
fn only_the_aggressive_policy_bounces_and_only_on_a_single_node() {
    let mut seen = broken();
    let check = |component, healthy| HealthCheck {
        component: Some(component),
        endpoint: "https://10.10.17.210".into(),
        healthy,
        detail: String::new(),
    };
    seen.health_checks =
        vec![check(Component::Etcd, Verdict::Yes), check(Component::KubeApiserver, Verdict::No)];
    seen.containers = vec![Container {
        component: Some(Component::KubeApiserver),
        state: ContainerState::Running,
        back_off_ms: None,
        ..crashed_etcd(0)
    }];
    assert_eq!(
        answers(Profile::AggressiveSingleNode, &seen),
        ["hung-static-pod: bounce kube-apiserver.yaml"]
    );
    assert_eq!(default(&seen), ["unresolved: wait"]);
    seen.etcd.members.push(member("b", Verdict::Yes, false));
    assert_eq!(answers(Profile::AggressiveSingleNode, &seen), ["unresolved: wait"]);
}

#[test]
fn every_rule_that_decides_is_described_and_every_number_is_in_range() {
    let mut seen = broken();
    seen.holders.push(holder(HolderClass::Orphan));
    for profile in Profile::ALL {
        let described = describe(profile);
        assert_eq!(described.name, profile.name());
        for decision in decide(profile, &seen) {
            assert!(described.rules.iter().any(|rule| rule.id == decision.rule_id), "{}", decision.rule_id);
            assert!((0.0..=1.0).contains(&decision.confidence));
            assert!(decision.max_attempts > 0 && !decision.reason.is_empty());
        }
        assert_eq!(decide(profile, &seen), decide(profile, &seen), "same observation, same answer");
    }
}

#[test]
fn an_address_that_the_host_lost_calls_a_person_with_the_evidence_and_the_remedy() {
    let lost = |confidence, kind| {
        let mut seen = broken();
        seen.findings = vec![Finding {
            id: "address-changed".into(),
            kind,
            severity: Severity::Critical,
            confidence,
            component: Some(Component::Etcd),
            summary: "the address 192.0.2.10 of the control plane is not on this host".into(),
            evidence: vec!["e7".into()],
        }];
        // What the other rules would do about it: none of them brings the address back.
        seen.services = vec![service(ServiceName::Kubelet, ServiceState::Failed, 6_000)];
        seen
    };
    for profile in Profile::ALL {
        let decisions = decide(profile, &lost(1.0, FindingKind::Cause));
        assert_eq!(decisions.len(), 1, "{profile:?}: {decisions:?}");
        let Action::Escalate(call) = &decisions[0].action else { panic!("{decisions:?}") };
        assert!(call.summary.contains("192.0.2.10"), "{call:?}");
        assert!(call.hints.iter().any(|hint| hint.contains("old address")), "{call:?}");
        assert!(call.hints.iter().any(|hint| hint.contains("member update")), "{call:?}");
        assert_eq!(decisions[0].evidence, ["e7"]);
    }
    // A log line alone, or an effect of something else, stops nothing.
    for seen in [lost(0.7, FindingKind::Cause), lost(1.0, FindingKind::Effect)] {
        let decisions = decide(Profile::Default, &seen);
        assert!(decisions.iter().any(|d| d.action == Action::RestartKubelet), "{decisions:?}");
    }
}

/// A real-time clock that is hours ahead at boot.
#[test]
fn what_was_done_under_a_clock_that_was_ahead_needs_no_time_to_settle() {
    let mut seen = broken();
    seen.findings = vec![finding("ip-changed", FindingKind::Cause)];
    seen.history.push(past(ActionKind::RestartKubelet, "", 500));
    assert_eq!(default(&seen), ["unresolved: wait"]);
    seen.history[0].ended_ms = Some(NOW_MS + 8 * 3_600_000);
    assert_eq!(default(&seen), ["unresolved: escalate"]);
}

#[test]
fn an_expired_certificate_that_nobody_works_with_stops_no_remedy() {
    let expired = |path: &str| Certificate {
        path: path.into(),
        state: CertificateState::Expired,
        ..Certificate::default()
    };
    let mut seen = broken();
    seen.certificates = vec![
        expired("/etc/kubernetes/super-admin.conf"),
        expired("/etc/kubernetes/kubelet.conf"),
        Certificate {
            state: CertificateState::Valid,
            ..expired("/var/lib/kubelet/pki/kubelet-client-current.pem")
        },
    ];
    seen.consents = vec![Consent::RenewCertificates];
    let told = ["spare-certificates: escalate"; 2];
    assert_eq!(default(&seen), [&["unresolved: wait"][..], &told].concat());
    seen.services = vec![service(ServiceName::Kubelet, ServiceState::Failed, 6_000)];
    assert_eq!(default(&seen), [&["kubelet-down: restart kubelet"][..], &told].concat());
    // A certificate that a manifest names is in use, whatever its name is.
    seen.certificates[0].component = Some(Component::KubeApiserver);
    assert_eq!(default(&seen), ["certificates: renew /etc/kubernetes/super-admin.conf"]);
    // What kubelet has not rotated to is what it uses.
    seen.certificates = vec![expired("/etc/kubernetes/kubelet.conf")];
    assert_eq!(default(&seen), ["certificates: renew /etc/kubernetes/kubelet.conf"]);
}

#[test]
fn a_held_manifest_is_for_a_person_and_stops_nothing_else() {
    let mut seen = broken();
    seen.backups = vec![backup("b", Component::KubeScheduler)];
    set(&mut seen, Component::KubeScheduler, ManifestState::Unreadable);
    for manifest in &mut seen.manifests {
        if manifest.state == ManifestState::Unreadable {
            manifest.detail = format!("{} 2026-01-01T00:00:00Z (maintenance)", cprecover_policies::HELD);
        }
    }
    seen.services = vec![service(ServiceName::Kubelet, ServiceState::Failed, 6_000)];
    assert_eq!(default(&seen), ["manifest-lost: escalate", "kubelet-down: restart kubelet"]);
    let decisions = decide(Profile::Default, &seen);
    let Action::Escalate(call) = &decisions[0].action else { panic!("{decisions:?}") };
    assert_eq!(call.summary, "kube-scheduler.yaml is held since 2026-01-01T00:00:00Z (maintenance)");
    assert!(call.hints[0].contains("cprecover release kube-scheduler"), "{call:?}");
}
