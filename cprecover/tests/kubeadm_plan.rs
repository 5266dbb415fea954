//! Planning and applying a regeneration against the double (or, with `KUBEADM=/path`, the real kubeadm).
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod kubeadm_support;

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use cprecover::kubeadm::{
    Acceptance, ApiVersion, CheckOutcome, Installer, Options, RegenerationPlan, Severity, Sources,
    StagedFile, apply, plan,
};
use cprecover::model::{Component, Observed};
use cprecover::sys::{Deadline, SystemCommands};
use cprecover::{ErrorKind, Result};
use kubeadm_support::{CONFIG, Node, deadline, manifests_only, recorded};

fn planned(node: &Node, components: &[Component], sources: &Sources) -> Result<RegenerationPlan> {
    plan(&node.options, components, sources, &Node::plan_options(), &SystemCommands, &deadline())
}

#[derive(Default)]
struct Recorder(RefCell<Vec<StagedFile>>);

impl Installer for Recorder {
    fn install(&self, files: &[StagedFile], _: &Deadline) -> Result<()> {
        self.0.borrow_mut().extend(files.iter().cloned());
        Ok(())
    }
}

fn refusals(plan: &RegenerationPlan) -> Vec<String> {
    let refused = plan.checks.iter().filter(|check| check.outcome == CheckOutcome::Refuse);
    refused.map(|check| format!("{}: {}", check.name, check.message)).collect()
}

#[test]
fn all_four_manifests_come_back_byte_for_byte_and_nothing_live_is_touched() {
    let node = Node::new(&[]);
    let before = node.live();
    let plan = planned(&node, &Component::ALL, &manifests_only()).unwrap();
    assert_eq!(node.live(), before);
    node.assert_no_staging();
    assert_eq!(plan.api_version, ApiVersion::V1Beta4);
    for file in &plan.files {
        assert_eq!(file.bytes, recorded(file.component), "{}", file.component);
        assert_eq!(file.replaces, Observed::Present(file.digest));
    }
    assert!(plan.diffs.iter().all(|diff| diff.differences.is_empty()), "{:?}", plan.diffs);
    assert_eq!(refusals(&plan), Vec::<String>::new());
    assert_eq!(plan.objections(Acceptance::default()), Vec::<String>::new());
    let recorder = Recorder::default();
    let applied = apply(&plan, Acceptance::default(), &recorder, &deadline()).unwrap();
    assert_eq!(applied.components.len(), 4);
    // One transaction, in the order in which they have to come up.
    let order: Vec<Component> = recorder.0.borrow().iter().map(|file| file.component).collect();
    assert_eq!(order, Component::ALL);
}

/// The matrix: each config API version with a kubeadm that reads it, and a cluster of its version.
#[test]
fn v1beta3_and_v1beta4() {
    for (version, api, flags) in [
        ("v1.22.17", ApiVersion::V1Beta3, "--dry-run-subfolder"),
        ("v1.30.9", ApiVersion::V1Beta3, "--dry-run-subfolder"),
        ("v1.31.0", ApiVersion::V1Beta4, ""),
        ("v1.36.2", ApiVersion::V1Beta4, ""),
        ("v1.37.1", ApiVersion::V1Beta4, ""),
    ] {
        let node = Node::new(&["--report-version", version, flags]);
        let mut sources = manifests_only();
        for manifest in &mut sources.manifests {
            let text = String::from_utf8(manifest.bytes.clone())
                .unwrap()
                .replace(":v1.36.2", &format!(":{version}"));
            manifest.bytes = text.into_bytes();
        }
        let plan = planned(&node, &Component::ALL, &sources).unwrap();
        assert_eq!(plan.api_version, api, "{version}");
        let config = String::from_utf8(plan.config.clone()).unwrap();
        assert!(config.contains(&format!("kubeadm.k8s.io/{api}")), "{config}");
        assert!(config.contains(&format!("kubernetesVersion: {version}")), "{config}");
        for (file, manifest) in plan.files.iter().zip(&sources.manifests) {
            assert_eq!(
                String::from_utf8_lossy(&file.bytes),
                String::from_utf8_lossy(&manifest.bytes),
                "{version}"
            );
        }
        node.assert_no_staging();
    }
}

#[test]
fn a_variable_that_v1beta3_cannot_say_hinders_its_own_component_only_and_may_be_left_out() {
    let version = "v1.30.9";
    let node = Node::new(&["--report-version", version, "--dry-run-subfolder"]);
    let mut sources = manifests_only();
    for manifest in &mut sources.manifests {
        let env = if manifest.component == Component::KubeApiserver {
            "    env:\n    - name: GOGC\n      value: \"50\"\n"
        } else {
            ""
        };
        let text = String::from_utf8(manifest.bytes.clone()).unwrap();
        let text = text.replace(":v1.36.2", &format!(":{version}"));
        manifest.bytes = text.replacen("    image: ", &format!("{env}    image: "), 1).into_bytes();
    }
    planned(&node, &[Component::KubeScheduler], &sources).unwrap();
    let component = [Component::KubeApiserver];
    let error = planned(&node, &component, &sources).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("GOGC"), "{error}");
    let mut options = Node::plan_options();
    options.assume_defaults = vec!["apiServer.extraEnvs".into()];
    let plan = plan(&node.options, &component, &sources, &options, &SystemCommands, &deadline()).unwrap();
    assert!(!String::from_utf8_lossy(&plan.config).contains("GOGC"));
    // What is left out shows where there is a manifest to compare with.
    let objections = plan.objections(Acceptance::default());
    assert!(objections.iter().any(|objection| objection.contains("GOGC")), "{objections:?}");
}

#[test]
fn the_outage_with_a_backed_up_config_gives_everything_back() {
    let node = Node::new(&[]);
    for component in Component::ALL {
        std::fs::remove_file(node.path(&format!("etc/kubernetes/manifests/{}", component.manifest_file())))
            .unwrap();
    }
    let mut sources = Sources::gather(&node.options).unwrap();
    sources.config = Some(("backup".into(), CONFIG.to_vec()));
    let plan = planned(&node, &Component::ALL, &sources).unwrap();
    for file in &plan.files {
        assert_eq!(file.bytes, recorded(file.component), "{}", file.component);
        assert_eq!(file.replaces, Observed::Absent);
    }
    let objections = plan.objections(Acceptance::up_to(Severity::Dangerous));
    assert!(objections.iter().all(|text| text.contains("no known good")), "{objections:?}");
    assert_eq!(plan.objections(Acceptance::default().without_comparison()), Vec::<String>::new());
}

#[test]
fn what_is_lost_is_dangerous_and_needs_acceptance() {
    let node = Node::new(&[]);
    // A backed-up config that is older than the flags and subnets that ran.
    let config = String::from_utf8(CONFIG.to_vec()).unwrap().replace("10.96.0.0/12", "10.100.0.0/16");
    let mut sources = manifests_only();
    sources.config = Some(("old".into(), config.into_bytes()));
    let plan = planned(&node, &[Component::KubeApiserver], &sources).unwrap();
    let worst = &plan.diffs[0].differences[0];
    assert_eq!((worst.what.as_str(), worst.severity), ("--service-cluster-ip-range", Severity::Dangerous));
    let recorder = Recorder::default();
    let error = apply(&plan, Acceptance::up_to(Severity::NeedsReview), &recorder, &deadline()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("--service-cluster-ip-range"), "{error}");
    assert!(recorder.0.borrow().is_empty());
    apply(&plan, Acceptance::up_to(Severity::Dangerous), &recorder, &deadline()).unwrap();
    assert_eq!(recorder.0.borrow().len(), 1);
}

#[test]
fn unknown_values_are_listed_before_kubeadm_is_even_run() {
    let node = Node::new(&["--hang=version"]);
    let mut sources = manifests_only();
    sources.manifests.retain(|manifest| manifest.component == Component::Etcd);
    let start = Instant::now();
    let error = planned(&node, &[Component::KubeApiserver], &sources).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.to_string().contains("networking.serviceSubnet"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// The third "must hold": each way to go wrong, a clear error, the live folder untouched.
#[test]
fn a_kubeadm_that_misbehaves_leaves_the_live_folder_alone() {
    for (flags, kind, word) in [
        (&["--garbage=version"][..], ErrorKind::Peer, "version"),
        (&["--garbage"], ErrorKind::Peer, "1 MiB"),
        (&["--fail-half-way"], ErrorKind::Peer, "no space left"),
        (&["--wrong-component"], ErrorKind::Peer, "kube-scheduler"),
        (&["--report-version", "v1.38.0"], ErrorKind::Unsupported, "too new"),
        (&["--report-version", "v1.35.0"], ErrorKind::Unsupported, "older"),
        (&["--report-version", "v1.21.14"], ErrorKind::Unsupported, "v1beta2"),
        (&["--report-version", "banana"], ErrorKind::Peer, "banana"),
    ] {
        let node = Node::new(flags);
        let before = node.live();
        let error = planned(&node, &[Component::Etcd], &manifests_only()).unwrap_err();
        assert_eq!(error.kind(), kind, "{flags:?}: {error}");
        assert!(error.to_string().contains(word), "{flags:?}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        assert_eq!(node.live(), before, "{flags:?}");
        node.assert_no_staging();
    }
}

#[test]
fn a_kubeadm_that_hangs_is_ended() {
    for flag in ["--hang=version", "--hang"] {
        let node = Node::new(&[flag]);
        let before = node.live();
        let start = Instant::now();
        let short = Deadline::after(Duration::from_secs(2));
        let options = Node::plan_options();
        let error =
            plan(&node.options, &[Component::Etcd], &manifests_only(), &options, &SystemCommands, &short)
                .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(node.live(), before);
        node.assert_no_staging();
    }
}

#[test]
fn a_kubeadm_that_ignores_dry_run_is_noticed() {
    let node = Node::new(&["--ignore-dry-run"]);
    let mut sources = manifests_only();
    // Something else than what stands there is rendered, over the live file.
    sources.overrides.cluster_name = Some("other".into());
    let error = planned(&node, &[Component::KubeControllerManager], &sources).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Peer);
    assert!(error.to_string().contains("live folder changed"), "{error}");
    assert!(error.to_string().contains("kube-controller-manager.yaml"), "{error}");
}

#[test]
fn a_kubeadm_that_others_can_replace_is_not_run() {
    let node = Node::new(&[]);
    let before = node.live();
    let trace = node.path("was-run");
    let script = format!("#!/bin/sh\ntouch {}\necho v1.36.2\n", trace.display());
    kubeadm_support::executable::install(&node.path("usr/bin/kubeadm"), script.as_bytes());
    let path = node.path("usr/bin/kubeadm");
    let refused = |word: &str| {
        let error = planned(&node, &[Component::Etcd], &manifests_only()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(!trace.exists());
    };
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    refused("writable");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(node.path("usr/bin"), PermissionsExt::from_mode(0o777)).unwrap();
    refused("writable");
    std::fs::set_permissions(node.path("usr/bin"), PermissionsExt::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        refused("uid 65534");
    } else {
        eprintln!("SKIPPED: a kubeadm of another owner needs root");
    }
    std::fs::remove_file(&path).unwrap();
    let error = planned(&node, &[Component::Etcd], &manifests_only()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("kubeadm"), "{error}");
    assert_eq!(node.live(), before);
}

#[test]
fn an_etcd_member_without_data_must_not_found_a_new_cluster() {
    let node = Node::new(&[]);
    let member = node.path("var/lib/etcd/member");
    std::fs::remove_dir_all(&member).unwrap();
    let plan = planned(&node, &[Component::Etcd], &manifests_only()).unwrap();
    let refused = refusals(&plan).join("\n");
    assert!(refused.contains("etcd-data") && refused.contains("etcdutl snapshot restore"), "{refused}");
    // Of several members: how to rejoin.
    let mut sources = manifests_only();
    let text = String::from_utf8(recorded(Component::Etcd).to_vec()).unwrap().replace(
        "--initial-cluster=cp1=https://10.10.17.210:2380",
        "--initial-cluster=cp1=https://10.10.17.210:2380,cp2=https://10.10.17.211:2380",
    );
    sources.manifests.iter_mut().find(|m| m.component == Component::Etcd).unwrap().bytes =
        text.clone().into_bytes();
    let plan = planned(&node, &[Component::Etcd], &sources).unwrap();
    let refused = refusals(&plan).join("\n");
    assert!(refused.contains("cp1, cp2") && refused.contains("etcdctl member remove"), "{refused}");
    let recorder = Recorder::default();
    let error = apply(&plan, Acceptance::up_to(Severity::Dangerous), &recorder, &deadline()).unwrap_err();
    assert!(error.kind() == ErrorKind::Refused && recorder.0.borrow().is_empty(), "{error}");
    // A log that is there but empty is as lost.
    std::fs::create_dir_all(member.join("wal")).unwrap();
    assert!(!refusals(&planned(&node, &[Component::Etcd], &sources).unwrap()).is_empty());
    // With its data the same member goes on.
    std::fs::create_dir_all(member.join("snap")).unwrap();
    std::fs::write(member.join("snap/db"), [1; 10]).unwrap();
    std::fs::write(member.join("wal/0.wal"), [1; 10]).unwrap();
    assert_eq!(refusals(&planned(&node, &[Component::Etcd], &sources).unwrap()), Vec::<String>::new());
    // A member that was added again, and whose manifest says so, may join without data when the caller says so.
    std::fs::remove_dir_all(&member).unwrap();
    let joining =
        text.replace("    - --name=cp1\n", "    - --initial-cluster-state=existing\n    - --name=cp1\n");
    sources.manifests.iter_mut().find(|m| m.component == Component::Etcd).unwrap().bytes =
        joining.into_bytes();
    let refused = refusals(&planned(&node, &[Component::Etcd], &sources).unwrap()).join("\n");
    assert!(refused.contains("must not start without its data"), "{refused}");
    let mut options = Node::plan_options();
    options.etcd_member_just_added = true;
    let added = |sources: &Sources| {
        let components = [Component::Etcd];
        cprecover::kubeadm::plan(&node.options, &components, sources, &options, &SystemCommands, &deadline())
            .unwrap()
    };
    let joins = added(&sources);
    assert_eq!(refusals(&joins), Vec::<String>::new());
    assert!(
        joins.checks.iter().any(|check| check.name == "etcd-data" && check.outcome == CheckOutcome::Warn)
    );
    // That word does not make up for a log: etcd would begin again over the database.
    std::fs::create_dir_all(member.join("snap")).unwrap();
    std::fs::write(member.join("snap/db"), [1; 10]).unwrap();
    let refused = refusals(&added(&sources)).join("\n");
    assert!(refused.contains("a database but no log"), "{refused}");
    std::fs::remove_dir_all(&member).unwrap();
    // An unreadable folder is not an empty one.
    std::fs::write(&member, b"a file").unwrap();
    let refused = refusals(&planned(&node, &[Component::Etcd], &sources).unwrap()).join("\n");
    assert!(refused.contains("cannot be read"), "{refused}");
}

#[test]
fn certificates_and_host_paths_are_checked() {
    let node = Node::new(&[]);
    let check = |component, word: &str| {
        let refused = refusals(&planned(&node, &[component], &manifests_only()).unwrap()).join("\n");
        assert!(refused.contains(word), "{word}: {refused}");
    };
    node.certificates("10.99.99.99", 2000, 4000);
    check(Component::KubeApiserver, "not for the advertise address 10.10.17.210");
    check(Component::Etcd, "not for the advertise address 10.10.17.210");
    node.certificates(kubeadm_support::ADDRESS, 2000, 2020);
    check(Component::KubeApiserver, "has expired");
    node.certificates(kubeadm_support::ADDRESS, 2040, 2050);
    check(Component::Etcd, "not valid yet");
    node.certificates(kubeadm_support::ADDRESS, 2000, 4000);
    node.write("etc/kubernetes/pki/apiserver.crt", b"nonsense");
    check(Component::KubeApiserver, "no certificate that can be read");
    std::fs::remove_file(node.path("etc/kubernetes/pki/sa.key")).unwrap();
    check(Component::KubeControllerManager, "sa.key does not exist");
    std::fs::remove_file(node.path("etc/kubernetes/scheduler.conf")).unwrap();
    check(Component::KubeScheduler, "scheduler.conf does not exist, and kubelet would make an empty one");
    std::fs::create_dir(node.path("etc/kubernetes/scheduler.conf")).unwrap();
    check(Component::KubeScheduler, "is not a FileOrCreate");
}

#[test]
fn external_etcd_is_skipped() {
    let node = Node::new(&[]);
    let text = String::from_utf8(CONFIG.to_vec()).unwrap();
    let local = text.find("etcd:\n").unwrap();
    let external = "etcd:\n  external:\n    endpoints: [https://e1.example:2379]\n    caFile: /etc/etcd/ca.crt\n    \
        certFile: /etc/etcd/c.crt\n    keyFile: /etc/etcd/c.key\n";
    let mut sources = Sources::default();
    sources.config = Some(("backup".into(), format!("{}{external}", &text[..local]).into_bytes()));
    let plan = planned(&node, &[Component::Etcd, Component::KubeScheduler], &sources).unwrap();
    assert_eq!(plan.files.len(), 1);
    assert!(plan.checks.iter().any(|check| check.name == "external-etcd"));
}

#[test]
fn a_kubeadm_without_dry_run_is_shut_out_of_the_live_folder() {
    let live = std::path::Path::new("/etc/kubernetes/manifests");
    let node = Node::new(&["--report-version", "v1.36.2", "--no-dry-run-flag", "--host-root", "/"]);
    let mut options = Node::plan_options();
    options.no_mount_namespace = true;
    let run = |options: &Options| {
        plan(
            &node.options,
            &[Component::KubeScheduler],
            &manifests_only(),
            options,
            &SystemCommands,
            &deadline(),
        )
    };
    assert_eq!(run(&options).unwrap_err().kind(), ErrorKind::Unsupported);
    options.no_mount_namespace = false;
    if !live.is_dir() || !rustix::process::geteuid().is_root() {
        assert_eq!(
            run(&options).unwrap_err().kind(),
            if live.is_dir() { ErrorKind::PermissionDenied } else { ErrorKind::Unsupported }
        );
        eprintln!("SKIPPED: rendering in a mount namespace needs root and a folder {}", live.display());
        return;
    }
    let list = || std::fs::read_dir(live).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let before = (list(), node.live());
    let plan = run(&options).unwrap();
    assert_eq!(plan.files[0].bytes, recorded(Component::KubeScheduler));
    assert_eq!((list(), node.live()), before);
}

#[test]
fn patches_that_the_config_names_are_applied_whatever_the_root_is() {
    let node = Node::new(&[]);
    let patches = node.path("etc/kubernetes/patches");
    std::fs::create_dir(&patches).unwrap();
    std::fs::write(
        patches.join("kube-scheduler0+merge.yaml"),
        "metadata:\n  annotations:\n    example.org/patched: \"yes\"\n",
    )
    .unwrap();
    let config = String::from_utf8(CONFIG.to_vec()).unwrap();
    let config = config.replacen(
        "kind: InitConfiguration",
        "kind: InitConfiguration\npatches:\n  directory: /etc/kubernetes/patches",
        1,
    );
    assert!(config.contains("patches:"), "the recorded config has an InitConfiguration");
    let mut sources = manifests_only();
    sources.config = Some(("config".into(), config.into_bytes()));
    let plan = |sources: &Sources| {
        let components = [Component::KubeScheduler];
        plan(&node.options, &components, sources, &Node::plan_options(), &SystemCommands, &deadline())
    };
    let made = plan(&sources).expect("renders");
    let text = String::from_utf8(made.files[0].bytes.clone()).unwrap();
    assert!(text.contains("example.org/patched"), "{text}");
    node.assert_no_staging();
    std::fs::remove_dir_all(&patches).unwrap();
    let error = plan(&sources).expect_err("no patches");
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.to_string().contains("/etc/kubernetes/patches"), "{error}");
}

/// kubeadm gives the users of `RootlessControlPlane` to no manifest in a dry run.
#[test]
fn what_a_dry_run_leaves_out_is_refused() {
    let node = Node::new(&[]);
    let config = String::from_utf8(CONFIG.to_vec()).unwrap();
    let gate = |on: bool| {
        let mut sources = manifests_only();
        let text = format!("{config}featureGates:\n  RootlessControlPlane: {on}\n");
        sources.config = Some(("saved".into(), text.into_bytes()));
        planned(&node, &[Component::KubeScheduler], &sources)
    };
    let error = gate(true).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unsupported && error.to_string().contains("RootlessControlPlane"),
        "{error}"
    );
    gate(false).unwrap();
}

#[test]
fn a_plan_says_no_secret_and_its_store_is_private() {
    let node = Node::new(&[]);
    let config = String::from_utf8(CONFIG.to_vec()).unwrap().replacen(
        "kind: InitConfiguration\n",
        "kind: InitConfiguration\ncertificateKey: e6a2eb8581237ab72a4f494f30285ec1\nbootstrapTokens:\n- token: abcdef.0123456789abcdef\n",
        1,
    );
    let mut sources = manifests_only();
    sources.config = Some(("saved".into(), config.into_bytes()));
    let plan = planned(&node, &[Component::KubeScheduler], &sources).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    for secret in ["e6a2eb8581237ab72a4f494f30285ec1", "0123456789abcdef"] {
        assert!(!text.contains(secret), "{text}");
    }
    for folder in ["var/lib/cprecover", "var/lib/cprecover/staging"] {
        let mode = std::fs::metadata(node.path(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}
