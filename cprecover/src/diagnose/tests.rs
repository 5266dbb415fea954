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
    // The lists and the logs alone make it likely; the cgroup of the process that was recorded proves it.
    let lists = diagnose(&folder(&testdata().join("incident-orphan"), &["orphan-proc-cgroup.txt"]));
    assert_eq!(root_name(&lists), "orphan-process", "{lists:#?}");
    assert_eq!(lists.finding(FindingId::OrphanProcess).expect("found").confidence, Confidence::Likely);
    let orphan = diagnose(&folder(&testdata().join("incident-orphan"), &[]));
    assert_eq!(root_name(&orphan), "orphan-process", "{orphan:#?}");
    let finding = orphan.finding(FindingId::OrphanProcess).expect("found");
    assert_eq!(finding.confidence, Confidence::Proven);
    assert!(finding.targets.containers[0].as_str().starts_with("4280f16b8915"), "{:?}", finding.targets);
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
fn a_recorded_cgroup_proves_nothing_about_a_container_that_runs_or_a_log() {
    let path = testdata().join("incident-orphan");
    let cgroup = std::fs::read_to_string(path.join("orphan-proc-cgroup.txt")).expect("read");
    let mut facts = folder(&path, &["orphan-proc-cgroup.txt"]);
    let with = |facts: &Facts, text: &str| {
        let recorded = from_recording([("cgroup.txt", text.as_bytes())]).expect("parses");
        let mut facts = facts.clone();
        facts.process_cgroups = recorded.process_cgroups;
        let found = diagnose(&facts);
        found.finding(FindingId::OrphanProcess).map(|finding| finding.confidence)
    };
    assert_eq!(with(&facts, &cgroup), Some(Confidence::Proven));
    // Another pod's process, and one of no pod.
    let other = cgroup.replace("b861a3bef24128f124b376302f365ff0", "00000000000000000000000000000000");
    assert_eq!(with(&facts, &other), Some(Confidence::Likely));
    assert_eq!(with(&facts, "0::/system.slice/etcd.service\n"), Some(Confidence::Likely));
    // The sandbox's own process.
    let Observed::Present(runtime) = &mut facts.runtime else { panic!("recorded") };
    let sandbox = runtime.component_sandboxes(Component::Etcd)[0].id.clone();
    let own =
        cgroup.replace("4280f16b89155464690954f3902c3119d8b0cd736da19095c597d000c730a2b4", sandbox.as_str());
    assert_eq!(with(&facts, &own), Some(Confidence::Likely));
    for log in ["12:01:07 x\n", "1:a:b\n", "0::/kubepods/pod1/2\nE0610 14:06:40.5 1 a.go:1] x\n", ""] {
        let facts = from_recording([("a.txt", log.as_bytes())]).expect("parses");
        assert!(facts.process_cgroups.is_empty(), "{log:?}");
    }
}

#[test]
fn two_proven_faults_at_once_are_two_causes() {
    let modes = testdata().join("modes");
    let mut facts = folder(&modes.join("03-foreign-holder"), &["expected"]);
    facts.host = folder(&modes.join("22-certificates-expired"), &["expected"]).host;
    let diagnosis = diagnose(&facts);
    let RootCause::Several { ids } = &diagnosis.root_cause else { panic!("{diagnosis:#?}") };
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [FindingId::ForeignHolder, FindingId::CertificateInvalid]);
    for id in ids {
        let finding = diagnosis.finding(*id).expect("a root is a finding");
        assert_eq!(finding.confidence, Confidence::Proven);
    }
    // Both come before what follows from them.
    let first: Vec<FindingId> = diagnosis.findings.iter().take(2).map(|finding| finding.id).collect();
    assert!(ids.iter().all(|id| first.contains(id)), "{first:?}");
    let text = serde_json::to_string(&diagnosis.root_cause).expect("serialises");
    assert_eq!(serde_json::from_str::<RootCause>(&text).expect("parses"), diagnosis.root_cause);
}

/// Reads the table of failure modes in `ARCHITECTURE.md`: number, rules, recordings.
fn documented_modes() -> Vec<(String, Vec<String>, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("ARCHITECTURE.md");
    let (_, table) = text.split_once("## The failure modes").expect("the chapter");
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    table
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
            let number = cells.first()?.parse::<u8>().ok()?;
            Some((number.to_string(), names(cells.get(2)?), names(cells.get(3)?)))
        })
        .collect()
}

#[test]
fn every_documented_mode_has_its_rule_and_its_recording() {
    let modes = documented_modes();
    let numbers: Vec<String> = modes.iter().map(|(number, ..)| number.clone()).collect();
    assert_eq!(numbers, (1..=25).map(|number| number.to_string()).collect::<Vec<_>>());
    for (number, rules, recordings) in modes {
        assert!(!rules.is_empty() && !recordings.is_empty(), "mode {number}");
        let ids: Vec<String> = rules.iter().map(|rule| rule.replace('_', "-")).collect();
        for (rule, id) in rules.iter().zip(&ids) {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/diagnose/rules/{rule}.rs"));
            assert!(file.exists(), "mode {number}: {}", file.display());
            assert!(
                FindingId::ALL.iter().any(|known| known.as_str() == id),
                "mode {number}: no finding {id}"
            );
        }
        for recording in &recordings {
            let facts = folder(&testdata().join("modes").join(recording), &["expected"]);
            let diagnosis = diagnose(&facts);
            assert!(
                diagnosis.findings.iter().any(|finding| ids.iter().any(|id| id == finding.id.as_str())),
                "mode {number}: {recording} has none of {ids:?}: {diagnosis:#?}"
            );
        }
    }
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
