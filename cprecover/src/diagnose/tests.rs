#![allow(clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::cri::RuntimeState;
use crate::model::{Component, Observed};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// Reads a recorded folder, except for some files.
fn folder(path: &Path, skip: &[&str]) -> Facts {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(path)
        .expect("folder")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("read"))
        })
        .filter(|(name, _)| !skip.contains(&name.as_str()))
        .collect();
    files.sort();
    from_recording(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))).expect("parses")
}

fn root_name(diagnosis: &Diagnosis) -> String {
    match &diagnosis.root_cause {
        RootCause::Found { id } => id.as_str().to_owned(),
        RootCause::Several { ids } => ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join("+"),
        RootCause::Undetermined { .. } => "undetermined".to_owned(),
        RootCause::Healthy => "healthy".to_owned(),
    }
}

#[track_caller]
fn links_to(diagnosis: &Diagnosis, effect: FindingId) -> bool {
    let RootCause::Found { id } = diagnosis.root_cause else { return false };
    let mut reached = vec![id];
    for _ in 0..FindingId::ALL.len() {
        for link in &diagnosis.links {
            if reached.contains(&link.cause) && !reached.contains(&link.effect) {
                reached.push(link.effect);
            }
        }
    }
    reached.contains(&effect)
}

#[test]
fn the_orphan_and_the_deadlock_are_told_apart() {
    let orphan = diagnose(&folder(&testdata().join("incident-orphan"), &["orphan-proc-cgroup.txt"]));
    assert_eq!(root_name(&orphan), "orphan-process", "{orphan:#?}");
    assert!(links_to(&orphan, FindingId::EtcdDown), "{:?}", orphan.links);
    assert!(links_to(&orphan, FindingId::KubeletDisconnected));
    let finding = orphan.finding(FindingId::OrphanProcess).expect("found");
    assert_eq!(finding.targets.components, [Component::Etcd]);
    assert_eq!(finding.targets.ports, [crate::model::Port::ETCD_PEER]);
    assert!(finding.evidence.iter().any(|evidence| evidence.line.is_some()), "names a line");

    let deadlock = diagnose(&folder(&testdata().join("incident-deadlock"), &[]));
    assert_eq!(root_name(&deadlock), "stale-sandbox", "{deadlock:#?}");
    let finding = deadlock.finding(FindingId::StaleSandbox).expect("found");
    assert_eq!(finding.confidence, Confidence::Proven);
    assert_eq!(finding.targets.sandboxes.len(), 1, "the stopped sandbox is in nobody's way");
    assert!(finding.targets.sandboxes[0].as_str().starts_with("104e3ec5b5f9"));
    assert!(links_to(&deadlock, FindingId::ApiserverDown), "{:?}", deadlock.links);
    assert!(deadlock.finding(FindingId::OrphanProcess).is_none());
}

#[test]
fn the_lost_manifests_and_the_write_up_of_the_outage() {
    let lost = diagnose(&folder(&testdata().join("incident-lost"), &[]));
    assert_eq!(root_name(&lost), "manifest-defaults", "{lost:#?}");
    // The write-up tells the logs, but neither the runtime's lists nor who holds the port.
    let outage = diagnose(&folder(&testdata().join("seed-incident"), &[]));
    assert!(outage.finding(FindingId::PortHeld).is_some());
    assert!(outage.finding(FindingId::StaleVolumes).is_some());
    assert!(outage.finding(FindingId::LogBlocked).is_some());
    assert!(outage.finding(FindingId::EtcdDown).is_none_or(|finding| finding.is_effect));
}

#[test]
fn no_false_finding_on_a_healthy_node() {
    let facts = folder(&testdata().join("health"), &["apiserver-healthz-etcd-hung.txt", "api-403.json"]);
    let diagnosis = diagnose(&facts);
    assert_eq!(diagnosis.findings, []);
    assert_eq!(diagnosis.root_cause, RootCause::Healthy);
    // The runtime's lists alone show nothing wrong, and prove nothing either.
    let lists = Facts { health: Vec::new(), ..facts };
    let diagnosis = diagnose(&lists);
    assert_eq!(diagnosis.findings, []);
    assert_eq!(diagnosis.root_cause, RootCause::Undetermined { left: Vec::new() });
}

#[test]
fn an_api_server_without_etcd_names_what_could_be_wrong_with_etcd() {
    let name = "apiserver-healthz-etcd-hung.txt";
    let body = std::fs::read(testdata().join("health").join(name)).expect("read");
    let mut facts = from_recording([(name, body.as_slice())]).expect("parses");
    facts.runtime = folder(&testdata().join("health"), &[]).runtime;
    let diagnosis = diagnose(&facts);
    let RootCause::Undetermined { left } = &diagnosis.root_cause else { panic!("{diagnosis:#?}") };
    assert!(left.iter().any(|candidate| candidate.id == FindingId::EtcdHung), "{left:?}");
    assert!(!left.iter().any(|candidate| candidate.id == FindingId::StaleSandbox), "the lists exclude it");
    assert!(!left.iter().any(|candidate| candidate.id == FindingId::ApiserverDown), "an effect is no cause");
}

#[test]
fn every_failure_mode_has_a_recording_that_ends_in_its_root_cause() {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(testdata().join("modes")).expect("modes") {
        let path = entry.expect("entry").path();
        if !path.is_dir() {
            continue;
        }
        let expected = std::fs::read_to_string(path.join("expected")).expect("expected");
        let facts = folder(&path, &["expected"]);
        let diagnosis = diagnose(&facts);
        assert_eq!(root_name(&diagnosis), expected.trim(), "{}: {diagnosis:#?}", path.display());
        if let RootCause::Found { id } = diagnosis.root_cause {
            let finding = diagnosis.finding(id).expect("the root is a finding");
            assert!(!finding.is_effect && finding.severity >= Severity::Error, "{}", path.display());
            assert!(!finding.evidence.is_empty() && !finding.remedy.is_empty(), "{}", path.display());
            assert_eq!(diagnosis.findings[0].id, id, "the root cause comes first");
            // Every effect of weight hangs on the root.
            for effect in diagnosis.findings.iter().filter(|f| f.is_effect && f.severity >= Severity::Error) {
                assert!(
                    links_to(&diagnosis, effect.id),
                    "{}: {} hangs in the air",
                    path.display(),
                    effect.id
                );
            }
        }
        seen.push(path.file_name().expect("name").to_string_lossy().into_owned());
    }
    for mode in 1..=25 {
        let prefix = format!("{mode:02}");
        assert!(seen.iter().any(|name| name.starts_with(&prefix)), "no recording of mode {mode}");
    }
}

#[test]
fn effects_alone_are_never_a_root_cause() {
    let lines = "E0610 14:06:40.5 1 c.go:1] \"Failed to ensure lease exists, will retry\" err=\"x\"\n\
                 E0610 14:06:40.5 1 c.go:1] \"Error getting node\" err=\"node \\\"cp1\\\" not found\"\n\
                 W0610 14:06:40.5 1 c.go:1] dial tcp 127.0.0.1:2379: connect: connection refused\n";
    let facts = from_recording([("kubelet.log", lines.as_bytes())]).expect("parses");
    let diagnosis = diagnose(&facts);
    assert!(diagnosis.findings.iter().all(|finding| finding.is_effect), "{diagnosis:#?}");
    let RootCause::Undetermined { left } = diagnosis.root_cause else { panic!("no cause was seen") };
    assert!(left.iter().all(|candidate| !candidate.missing.is_empty()));
    assert!(left.iter().any(|candidate| candidate.id == FindingId::StaleSandbox), "{left:?}");
}

#[test]
fn pods_of_users_are_no_control_plane() {
    let lines = "E0610 14:06:40.5 1 p.go:1] \"Error syncing pod, skipping\" err=\"unmounted volumes=[data]: timed out\" pod=\"shop/db-0\"\n\
                 E0610 14:06:40.5 1 p.go:1] \"Error syncing pod, skipping\" err=\"failed to \\\"StartContainer\\\" for \\\"web\\\" with ImagePullBackOff\" pod=\"shop/web\"\n\
                 E0610 14:06:40.5 1 p.go:1] \"x\" err=\"with CrashLoopBackOff: \\\"back-off 5m0s restarting failed container=web pod=web_shop(1)\\\"\" pod=\"shop/web\"\n\
                 Jun 10 14:06:40 cp1 kernel: Out of memory: Killed process 7 (java), UID 1000\n";
    let facts = from_recording([("kubelet.log", lines.as_bytes())]).expect("parses");
    assert_eq!(diagnose(&facts).findings, []);
}

#[test]
fn an_external_etcd_is_no_lost_manifest() {
    let manifest =
        std::fs::read_to_string(testdata().join("kubeadm-1.36/manifests/kube-apiserver.yaml")).expect("read");
    let outside = manifest.replace("https://127.0.0.1:2379", "https://10.9.9.9:2379");
    let absent = |text: &str| {
        let mut facts = from_recording([("kube-apiserver.yaml", text.as_bytes())]).expect("parses");
        facts.manifests.push(ManifestFact {
            component: Component::Etcd,
            path: "/etc/kubernetes/manifests/etcd.yaml".into(),
            pod: Observed::Absent,
            parse_error: None,
        });
        facts.host.addresses = Observed::Present(vec!["10.10.17.210".parse().expect("address")]);
        diagnose(&facts)
    };
    assert!(absent(&manifest).finding(FindingId::ManifestLost).is_some());
    assert!(absent(&outside).finding(FindingId::ManifestLost).is_none());
}

#[test]
fn facts_survive_json() {
    let facts = folder(&testdata().join("incident-orphan"), &[]);
    let text = serde_json::to_vec(&facts).expect("serialises");
    let read = from_recording([("facts.json", text.as_slice())]).expect("parses");
    assert_eq!(read, facts);
    let error = from_recording([("facts.json", &b"{\"manifests\": 3}"[..])]).expect_err("malformed");
    assert!(error.to_string().contains("facts.json"), "{error}");
}

proptest! {
    #[test]
    fn whatever_was_recorded_a_diagnosis_ends(bytes in prop::collection::vec(any::<u8>(), 0..3000), name in "[a-z]{1,8}\\.(json|log|txt|yaml)") {
        if let Ok(facts) = from_recording([(name.as_str(), bytes.as_slice())]) {
            let diagnosis = diagnose(&facts);
            prop_assert_eq!(diagnose(&facts), diagnosis);
        }
    }

    #[test]
    fn any_mixture_of_recordings_gives_a_root_that_is_no_effect(picks in prop::collection::vec(0..60_usize, 1..6)) {
        let mut dirs: Vec<PathBuf> = std::fs::read_dir(testdata().join("modes")).expect("modes")
            .map(|entry| entry.expect("entry").path()).filter(|path| path.is_dir()).collect();
        dirs.sort();
        let mut facts = Facts::default();
        for pick in picks {
            let one = folder(&dirs[pick % dirs.len()], &["expected"]);
            facts.log_matches.extend(one.log_matches);
            facts.health.extend(one.health);
            if let Observed::Present(RuntimeState { .. }) = one.runtime { facts.runtime = one.runtime; }
            if one.port_holders.present().is_some() { facts.port_holders = one.port_holders; }
        }
        let diagnosis = diagnose(&facts);
        if let RootCause::Found { id } = diagnosis.root_cause {
            let finding = diagnosis.finding(id).expect("the root is a finding");
            prop_assert!(!finding.is_effect && finding.confidence > Confidence::Possible);
        }
    }
}
