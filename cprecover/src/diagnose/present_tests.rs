//! What is seen now against what a log tells, and what was not looked at against what is not there.

use super::*;
use crate::facts::{CertificateFact, DiskFact};
use crate::model::{Component, Observed};

const GIB: u64 = 1 << 30;
const ALARMED: &str = "E0610 14:06:40.5 1 pod_workers.go:1] \"Error syncing pod, skipping\" err=\"failed to \\\"StartContainer\\\" for \\\"kube-apiserver\\\" with CrashLoopBackOff: \\\"back-off 5m0s restarting failed container=kube-apiserver pod=kube-apiserver-cp1_kube-system(b861)\\\"\" pod=\"kube-system/kube-apiserver-cp1\"\n\
     E0610 14:06:40.5 1 controller.go:201] \"Failed to ensure lease exists, will retry\" err=\"refused\" interval=\"7s\"\n";

fn recorded(files: &[(&str, &str)]) -> Facts {
    from_recording(files.iter().map(|(name, text)| (*name, text.as_bytes()))).expect("parses")
}

fn refused(component: Component) -> HealthFact {
    let state = HealthState::Probed(crate::probe::Outcome::Refused);
    HealthFact::new(Some(Subject::Component(component)), "https://127.0.0.1", state)
}

fn disk(path: &str, available_bytes: u64, read_only: bool) -> DiskFact {
    DiskFact {
        path: path.into(),
        total_bytes: 40 * GIB,
        available_bytes,
        total_inodes: 1 << 20,
        available_inodes: 1 << 19,
        read_only,
    }
}

fn left(diagnosis: &Diagnosis, id: FindingId) -> Option<&str> {
    let RootCause::Undetermined { left } = &diagnosis.root_cause else { return None };
    left.iter().find(|candidate| candidate.id == id).map(|candidate| candidate.missing.as_str())
}

#[test]
fn a_read_only_file_system_is_no_full_one() {
    let mut facts = recorded(&[("kubelet.log", ALARMED)]);
    facts.health.push(refused(Component::Etcd));
    let is_found = |facts: &Facts| {
        let diagnosis = diagnose(facts);
        assert!(diagnosis.finding(FindingId::DiskFull).is_none(), "{diagnosis:#?}");
        let finding = diagnosis.finding(FindingId::DiskFailing)?.clone();
        assert_eq!(diagnosis.root_cause, RootCause::Found { id: FindingId::DiskFailing });
        Some((finding.confidence, finding.targets.paths))
    };
    assert_eq!(is_found(&facts), None);
    // A mounted image has no room left and lacks none.
    for room in [20 * GIB, 0] {
        facts.host.disks = vec![disk("/var/lib/etcd", room, true), disk("/var/lib/kubelet", GIB, false)];
        assert_eq!(is_found(&facts), Some((Confidence::Proven, vec!["/var/lib/etcd".into()])));
    }
    facts.host.disks = vec![disk("/var/lib/kubelet", GIB, false)];
    facts.etcd_data = Observed::Present(DataVerdict::ReadOnly("file system is mounted read-only".into()));
    assert_eq!(is_found(&facts), Some((Confidence::Proven, Vec::new())));
}

#[test]
fn an_etcd_whose_manifest_names_itself_alone_may_have_lost_its_quorum() {
    let mode = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/modes/18-quorum-lost");
    let read = |name: &str| std::fs::read_to_string(mode.join(name)).expect("recorded");
    let names =
        ["apiserver-healthz.txt", "crictl-pods.json", "crictl-ps.json", "etcd-readyz.txt", "kubelet.log"];
    let files: Vec<(&str, String)> = names.into_iter().map(|name| (name, read(name))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &text[..])).collect();
    let mut facts = recorded(&files);
    let manifest = include_str!("../../testdata/kubeadm-1.36/manifests/etcd.yaml");
    assert!(manifest.contains("--initial-cluster=") && !manifest.contains(",cp2="), "kubeadm names one");
    facts.manifests = vec![crate::diagnose::ManifestFact {
        component: Component::Etcd,
        path: "/etc/kubernetes/manifests/etcd.yaml".into(),
        pod: Observed::Present(
            crate::parse::manifest::StaticPod::parse(manifest.as_bytes()).expect("parses"),
        ),
        parse_error: None,
    }];
    let with = |voters: Observed<u32>| {
        let mut facts = facts.clone();
        facts.etcd_voters = voters;
        let diagnosis = diagnose(&facts);
        let confidence = diagnosis.finding(FindingId::QuorumLost).map(|finding| finding.confidence);
        (confidence, diagnosis.root_cause)
    };
    let root = RootCause::Found { id: FindingId::QuorumLost };
    let unknown = Observed::Unknown("nobody answers".to_owned());
    assert_eq!(with(unknown), (Some(Confidence::Likely), root.clone()));
    assert_eq!(with(Observed::Present(3)), (Some(Confidence::Proven), root));
    assert_eq!(with(Observed::Present(1)).0, Some(Confidence::Possible));
}

#[test]
fn an_old_line_of_an_etcd_that_is_healthy_now_is_no_cause() {
    let old = "{\"level\":\"warn\",\"ts\":\"2026-06-10T04:05:22.9Z\",\"msg\":\"slow fdatasync\",\"took\":\"2.2s\",\"expected-duration\":\"1s\"}\n\
               {\"level\":\"warn\",\"ts\":\"2026-06-10T04:05:23.9Z\",\"msg\":\"rafthttp: request cluster ID mismatch\"}\n\
               {\"level\":\"fatal\",\"ts\":\"2026-06-10T04:05:24.9Z\",\"msg\":\"walpb: crc mismatch\"}\n";
    let mut facts = recorded(&[
        ("etcd.log", old),
        ("kubelet.log", ALARMED),
        ("etcd-health.json", "{\"health\":\"true\",\"reason\":\"\"}"),
    ]);
    facts.health.push(refused(Component::KubeApiserver));
    let diagnosis = diagnose(&facts);
    for id in [FindingId::SlowDisk, FindingId::ClusterIdMismatch, FindingId::WalCorrupt] {
        let finding = diagnosis.finding(id).expect("still told");
        assert!(finding.severity <= Severity::Warning, "{finding:#?}");
        assert!(finding.summary.contains("etcd is healthy now"), "{}", finding.summary);
    }
    assert!(matches!(diagnosis.root_cause, RootCause::Undetermined { .. }), "{:?}", diagnosis.root_cause);
    assert!(diagnosis.finding(FindingId::CrashLoop).is_some());

    // An API server that says that its etcd fails speaks against it, and so does an etcd that does not answer.
    let mut doubted = facts.clone();
    doubted.health.pop();
    let said = recorded(&[(
        "apiserver-healthz.txt",
        "[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed\n",
    )]);
    doubted.health.extend(said.health);
    let mut silent = facts;
    silent.health = vec![refused(Component::Etcd), refused(Component::KubeApiserver)];
    for facts in [doubted, silent] {
        let diagnosis = diagnose(&facts);
        let finding = diagnosis.finding(FindingId::SlowDisk).expect("found");
        assert_eq!(finding.severity, Severity::Error, "{finding:#?}");
    }
}

fn lint(code: &str, path: &str, message: &str) -> LintFact {
    LintFact { code: code.into(), path: path.into(), message: message.into() }
}

#[test]
fn only_a_file_of_a_component_is_the_cause_of_its_outage() {
    let severity = |facts: &Facts, id| diagnose(facts).finding(id).map(|finding| finding.severity);
    let mut facts = Facts::default();
    for (code, path) in [("unparsable", "notes.txt"), ("empty", "etcd.yaml.bak"), ("unparsable", "app.yaml")]
    {
        facts.lint = vec![lint(code, path, "kubelet cannot run it")];
        assert_eq!(severity(&facts, FindingId::ManifestInvalid), Some(Severity::Warning), "{path}");
        assert!(diagnose(&facts).root_cause.ids().is_empty(), "{path}");
    }
    facts.lint.push(lint("empty", "/etc/kubernetes/manifests/etcd.yaml", "empty"));
    let diagnosis = diagnose(&facts);
    let finding = diagnosis.finding(FindingId::ManifestInvalid).expect("found");
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(finding.targets.paths, [std::path::PathBuf::from("/etc/kubernetes/manifests/etcd.yaml")]);

    let line = |path: &str| {
        format!(
            "E0610 14:06:40.5 1 file.go:108] \"x\" err=\"{path}: couldn't parse as pod(x), please check config file\"\n"
        )
    };
    for (path, expected) in [
        ("/etc/kubernetes/manifests/app.yaml", Severity::Warning),
        ("/etc/kubernetes/manifests/kube-scheduler.yaml", Severity::Critical),
    ] {
        let facts = recorded(&[("kubelet.log", &line(path))]);
        assert_eq!(severity(&facts, FindingId::ManifestInvalid), Some(expected), "{path}");
    }
}

#[test]
fn a_full_disk_of_the_runtime_is_not_excluded_by_room_elsewhere() {
    let line = |path: &str| {
        format!("E0610 14:06:40.5 1 a.go:1] \"x\" err=\"write {path}no space left on device\"\n")
    };
    let found = |log: &str, text: &str, disks: &[&str]| {
        let mut facts = recorded(&[(log, text)]);
        facts.host.disks = disks.iter().map(|path| disk(path, 20 * GIB, false)).collect();
        diagnose(&facts).finding(FindingId::DiskFull).map(|finding| finding.confidence)
    };
    let image = line("/var/lib/containerd/io.containerd.content.v1.content/ingest/a/data: ");
    assert_eq!(
        found("kubelet.log", &image, &["/var/lib/etcd", "/var/lib/kubelet"]),
        Some(Confidence::Likely)
    );
    assert_eq!(found("kubelet.log", &image, &["/var/lib/etcd", "/var/lib/containerd"]), None);
    // Without a path it may be any file system, but etcd means its own.
    assert_eq!(found("kubelet.log", &line(""), &["/var/lib/etcd"]), Some(Confidence::Likely));
    assert_eq!(found("etcd.log", &line(""), &["/var/lib/etcd"]), None);
    assert_eq!(found("etcd.log", &line(""), &["/var/lib/kubelet"]), Some(Confidence::Likely));
}

#[test]
fn what_one_log_does_not_say_excludes_nothing_that_another_would_say() {
    let health = [refused(Component::Etcd), refused(Component::KubeApiserver)];
    let with = |files: &[(&str, &str)]| {
        let mut facts = recorded(files);
        facts.health.extend(health.clone());
        diagnose(&facts)
    };
    let kubelet = with(&[("kubelet.log", ALARMED)]);
    for id in
        [FindingId::OutOfMemory, FindingId::DiskFailing, FindingId::WalCorrupt, FindingId::MemberRemoved]
    {
        assert!(left(&kubelet, id).is_some(), "{id}: {:#?}", kubelet.root_cause);
    }
    assert_eq!(left(&kubelet, FindingId::ReservedName), None, "kubelet would say so");
    let more = with(&[("kubelet.log", ALARMED), ("etcd.log", "x\n"), ("kern.log", "x\n")]);
    for id in [FindingId::OutOfMemory, FindingId::WalCorrupt, FindingId::MemberRemoved] {
        assert_eq!(left(&more, id), None, "{id}");
    }
}

#[test]
fn certificates_that_could_not_be_read_are_not_taken_for_valid() {
    let expired = "E0610 14:06:40.5 1 a.go:1] \"x\" err=\"x509: certificate has expired or is not yet valid: current time 2026-06-10T14:06:40Z is after 2026-06-01T00:00:00Z\"\n";
    let facts = |text: &str, unreadable: &[(&str, &str)]| {
        let mut facts = recorded(&[("kubelet.log", &format!("{ALARMED}{text}"))]);
        facts.health = vec![refused(Component::Etcd)];
        facts.host.now_unix = 1_000;
        facts.host.certificates = vec![CertificateFact {
            path: "/etc/kubernetes/pki/ca.crt".into(),
            subject: "kubernetes".into(),
            issuer: "kubernetes".into(),
            not_before_unix: 0,
            not_after_unix: 2_000,
            is_ca: true,
            names: Vec::new(),
        }];
        let unreadable = unreadable.iter().map(|(path, why)| (path.into(), (*why).to_owned()));
        facts.host.unreadable_certificates = unreadable.collect();
        facts
    };
    let found = |facts: &Facts| {
        let diagnosis = diagnose(facts);
        diagnosis.finding(FindingId::CertificateInvalid).map(|finding| finding.confidence)
    };
    let server = "/etc/kubernetes/pki/etcd/server.crt";
    let denied = [(server, "open server.crt: Input/output error")];
    assert_eq!(found(&facts(expired, &[])), None, "all were read and are valid");
    assert_eq!(found(&facts(expired, &denied)), Some(Confidence::Likely));
    let open = diagnose(&facts("", &denied));
    assert_eq!(left(&open, FindingId::CertificateInvalid), Some("certificates that could not be read"));
    assert_eq!(left(&diagnose(&facts("", &[])), FindingId::CertificateInvalid), None);
    // Read, and no certificate: etcd does not start with it; somebody's own file hurts nobody.
    let void = facts("", &[(server, "server.crt: holds no certificate")]);
    assert_eq!(found(&void), Some(Confidence::Proven));
    assert_eq!(diagnose(&void).root_cause, RootCause::Found { id: FindingId::CertificateInvalid });
    assert_eq!(
        found(&facts(expired, &[("/etc/kubernetes/pki/old.crt", "old.crt: holds no certificate")])),
        None
    );
}

#[test]
fn an_etcd_that_still_reads_its_database_is_not_kept_out_of_it() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/modes/11-db-locked");
    let read = |name: &str| std::fs::read_to_string(path.join(name)).expect("recorded");
    let log = read("etcd.log");
    let mut running: serde_json::Value = serde_json::from_str(&read("crictl-ps.json")).expect("parses");
    for container in running.get_mut("containers").and_then(|list| list.as_array_mut()).expect("a list") {
        container["state"] = "CONTAINER_RUNNING".into();
    }
    let pods = read("crictl-pods.json");
    let diagnosed = |containers: &str, data: Observed<DataVerdict>| {
        let files = [("etcd.log", log.as_str()), ("crictl-ps.json", containers), ("crictl-pods.json", &pods)];
        let mut facts = recorded(&files);
        facts.etcd_data = data;
        facts.health.push(refused(Component::Etcd));
        let diagnosis = diagnose(&facts);
        let finding = diagnosis.finding(FindingId::DbLocked);
        let found = finding.map(|finding| (finding.severity, finding.confidence));
        (found, diagnosis.root_cause == RootCause::Found { id: FindingId::DbLocked })
    };
    let locked = || Observed::Present(DataVerdict::Locked(None));
    let loading = (Some((Severity::Info, Confidence::Possible)), false);
    assert_eq!(diagnosed(&running.to_string(), locked()), loading);
    assert_eq!(diagnosed(&running.to_string(), Observed::Unknown("x".into())), loading);
    // A lock that is known to be free refutes it; one that is held while no etcd runs proves it.
    assert_eq!(diagnosed(&running.to_string(), Observed::Present(DataVerdict::Intact)), (None, false));
    let ended = read("crictl-ps.json");
    assert_eq!(diagnosed(&ended, Observed::Present(DataVerdict::Intact)), (None, false));
    assert_eq!(diagnosed(&ended, locked()), (Some((Severity::Critical, Confidence::Proven)), true));
}

#[test]
fn one_line_of_a_kubelet_that_runs_now_is_no_cause() {
    let swap = "E0610 14:06:40.5 1 run.go:72] \"command failed\" err=\"failed to run Kubelet: running with swap on is not supported, please disable swap\"\n";
    let diagnosed = |state: crate::units::ServiceState| {
        let mut facts = recorded(&[("kubelet.log", &format!("{ALARMED}{swap}"))]);
        facts.health.push(refused(Component::KubeApiserver));
        facts.host.units = vec![crate::facts::UnitFact {
            role: crate::facts::UnitRole::Kubelet,
            name: "kubelet.service".into(),
            state: Observed::Present(state),
        }];
        let diagnosis = diagnose(&facts);
        let finding = diagnosis.finding(FindingId::KubeletMisconfigured).expect("told all the same");
        (finding.severity, diagnosis.root_cause.ids().contains(&FindingId::KubeletMisconfigured))
    };
    assert_eq!(diagnosed(crate::units::ServiceState::Active), (Severity::Info, false));
    assert_eq!(diagnosed(crate::units::ServiceState::Activating).0, Severity::Critical);
}

/// The flagship of explanations: who is down explains the loops of those that need it, and no others.
#[test]
fn an_api_server_that_is_down_is_no_cause_of_etcds_crash_loop() {
    use FindingId::{ApiserverDown, ControllersDown, CrashLoop, EtcdDown, EtcdUnreachable};
    let of = |component: &str| ALARMED.replace("kube-apiserver", component);
    let links = |text: &str| {
        let mut facts = recorded(&[("kubelet.log", text)]);
        facts.health = Component::ALL.map(refused).to_vec();
        diagnose(&facts).links.iter().map(|link| (link.cause, link.effect)).collect::<Vec<_>>()
    };
    let etcd = links(&of("etcd"));
    assert!(etcd.contains(&(CrashLoop, EtcdDown)), "{etcd:?}");
    assert!(!etcd.contains(&(ApiserverDown, CrashLoop)), "{etcd:?}");
    let apiserver = links(ALARMED);
    assert!(apiserver.contains(&(EtcdUnreachable, CrashLoop)), "{apiserver:?}");
    assert!(apiserver.contains(&(CrashLoop, ApiserverDown)), "{apiserver:?}");
    let scheduler = links(&of("kube-scheduler"));
    assert!(scheduler.contains(&(ApiserverDown, CrashLoop)), "{scheduler:?}");
    assert!(scheduler.contains(&(CrashLoop, ControllersDown)), "{scheduler:?}");
}

#[test]
fn a_held_manifest_is_released_not_restored() {
    let absent = |component: Component| ManifestFact {
        component,
        path: std::path::Path::new("/etc/kubernetes/manifests").join(component.manifest_file()),
        pod: Observed::Absent,
        parse_error: None,
    };
    let mut facts = Facts { manifests: vec![absent(Component::KubeScheduler)], ..Facts::default() };
    facts.backups = vec![Component::KubeScheduler];
    let said = |facts: &Facts| {
        let diagnosis = diagnose(facts);
        let finding = diagnosis.finding(FindingId::ManifestLost).expect("found");
        (finding.summary.clone(), finding.remedy.clone())
    };
    let (summary, remedy) = said(&facts);
    assert_eq!(summary, "the manifest of kube-scheduler is missing, so kubelet has stopped this pod");
    assert!(remedy.contains("backup"), "{remedy}");
    let held = "kube-scheduler.yaml is held since 2026-01-01T00:00:00Z (maintenance)";
    facts.lint.push(lint("held", "/etc/kubernetes/manifests/kube-scheduler.yaml", held));
    let (summary, remedy) = said(&facts);
    assert_eq!(summary, held);
    assert!(remedy.contains("cprecover release kube-scheduler.yaml"), "{remedy}");
    assert!(!remedy.contains("Restore"), "{remedy}");
    facts.manifests.push(absent(Component::KubeControllerManager));
    let (summary, remedy) = said(&facts);
    assert!(summary.contains("of kube-controller-manager is missing") && summary.contains(held), "{summary}");
    assert!(remedy.contains("Restore") && remedy.contains("release"), "{remedy}");
}
