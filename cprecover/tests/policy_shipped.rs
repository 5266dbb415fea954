//! The shipped components answer as their rules do natively, and always the same.

#![cfg(feature = "wasm")]
#![allow(clippy::expect_used)]

use cprecover::policy::contract::*;
use cprecover::policy::{Observation, Outcome, Policy};
use cprecover_policies::Profile;

const ALL: [Profile; 4] =
    [Profile::Default, Profile::ObserveOnly, Profile::Conservative, Profile::AggressiveSingleNode];

const STATES: [ManifestState; 5] = [
    ManifestState::Present,
    ManifestState::Missing,
    ManifestState::Invalid,
    ManifestState::Unreadable,
    ManifestState::Duplicate,
];
const CLASSES: [HolderClass; 6] = [
    HolderClass::Unproven,
    HolderClass::Current,
    HolderClass::StaleSandbox,
    HolderClass::Orphan,
    HolderClass::SystemdUnit,
    HolderClass::Foreign,
];

/// One of many observations: `seed` picks the state of each part.
fn observation(seed: u64) -> Observation {
    // xorshift64*: only to vary the parts, the same for the same seed.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut pick = move |bound: u64| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    };
    let at = |index: u64| usize::try_from(index).expect("small");
    let now_ms = 1_750_000_000_000;
    let component = Some(Component::Etcd);
    Observation {
        node: format!("cp-{seed} – knoten"),
        now_ms,
        healthy: if pick(20) == 0 { Verdict::Yes } else { Verdict::No },
        clock_sane: if pick(20) == 0 { Verdict::No } else { Verdict::Yes },
        evidence: vec![Evidence { id: "e1".into(), source: "kubelet.log".into(), text: "bind".into() }],
        manifests: [Component::Etcd, Component::KubeApiserver]
            .into_iter()
            .map(|component| Manifest {
                file: format!("{component:?}.yaml"),
                component: Some(component),
                state: *STATES.get(at(pick(5))).expect("in range"),
                detail: "detail".into(),
            })
            .collect(),
        holders: (0..pick(3))
            .map(|index| PortHolder {
                port: 2380,
                pid: 700 + u32::try_from(index).expect("small"),
                start_ticks: 99,
                class: *CLASSES.get(at(pick(6))).expect("in range"),
                wanted_by: component,
                sandbox_id: (pick(4) > 0).then(|| "sandbox".into()),
                evidence: vec!["e1".into()],
                ..PortHolder::default()
            })
            .collect(),
        backups: (0..pick(3))
            .map(|index| Backup {
                id: format!("snapshot-{index}"),
                component: Component::Etcd,
                taken_ms: now_ms - pick(1000),
                verified: if pick(2) == 0 { Verdict::Yes } else { Verdict::Unknown },
                last_known_good: pick(2) == 0,
                same_node: Verdict::Yes,
            })
            .collect(),
        containers: (0..pick(2))
            .map(|_| Container {
                component,
                state: ContainerState::Exited,
                back_off_ms: Some(pick(300_000)),
                exit_code: Some(-1),
                ..Container::default()
            })
            .collect(),
        services: vec![Service {
            name: ServiceName::Kubelet,
            state: if pick(4) == 0 { ServiceState::Failed } else { ServiceState::Active },
            restart_ms: 6_000,
            detail: "unit".into(),
        }],
        history: (0..pick(2))
            .map(|_| PastAction {
                kind: ActionKind::RemoveSandbox,
                target: "sandbox".into(),
                rule_id: "stale-sandbox".into(),
                started_ms: now_ms - 5_000,
                ended_ms: Some(now_ms - pick(300_000)),
                outcome: cprecover::policy::contract::Outcome::Done,
            })
            .collect(),
        etcd: Etcd { data: EtcdData::Intact, quorum: 1, ..Etcd::default() },
        ..Observation::default()
    }
}

/// What was decided, as bytes.
fn bytes(outcome: &Outcome) -> Vec<u8> {
    assert_eq!(outcome.failure, None);
    serde_json::to_vec(&outcome.decisions).expect("serialises")
}

#[test]
fn components_answer_as_their_rules_do_and_always_the_same() {
    let mut answers = std::collections::BTreeSet::new();
    for profile in ALL {
        let component = Policy::shipped(profile.name()).expect("loads");
        let again = Policy::shipped(profile.name()).expect("loads");
        let native = Policy::native(profile);
        assert_eq!(component.metadata(), native.metadata());
        for seed in 0..300 {
            let seen = observation(seed);
            let outcome = component.decide(&seen);
            assert_eq!(bytes(&outcome), bytes(&native.decide(&seen)), "{} {seed}", profile.name());
            let second = again.decide(&seen);
            assert_eq!(bytes(&outcome), bytes(&second), "{} {seed}", profile.name());
            // Not only the same answer: the same way to it.
            assert_eq!(outcome.fuel_used, second.fuel_used, "{} {seed}", profile.name());
            answers.insert(bytes(&outcome));
        }
    }
    assert!(answers.len() > 100, "the observations differ enough to tell policies apart: {}", answers.len());
}
