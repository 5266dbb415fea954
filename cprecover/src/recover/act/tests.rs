//! Effects and their undos on a node of files and scripts: services that are files, a scripted `crictl`.

mod busy_store;
mod sandbox;
mod stopped;

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::backup::{CreateOptions, Group, Store};
use crate::model::{Component, Digest, Observed, PodUid};
use crate::node::{NodeOptions, ServiceControl};
use crate::recover::undo::{TakenBack, Undo};

const SCHEDULER: &[u8] = include_bytes!("../../../testdata/kubeadm-1.36/manifests/kube-scheduler.yaml");
const ETCD: &[u8] = include_bytes!("../../../testdata/kubeadm-1.36/manifests/etcd.yaml");
const TORN: &[u8] = b"kind: Pod\n  torn: [\n";

struct Node {
    dir: tempfile::TempDir,
    options: NodeOptions,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}

/// A service that runs while a file is there.
fn service(up: &std::path::Path) -> ServiceControl {
    let shell = |script: String| vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
    let up = up.display();
    ServiceControl::Commands {
        start: shell(format!("test ! -e '{up}.broken' && : > '{up}'")),
        stop: shell(format!("rm -f '{up}'")),
        state: shell(format!("test -e '{up}' || exit 3")),
    }
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().canonicalize().expect("resolves");
        let mut options = NodeOptions::at(&root).expect("absolute");
        options.node_name = Some("cp1".into());
        options.kubelet = service(&root.join("kubelet.up"));
        options.runtime = Some(service(&root.join("runtime.up")));
        options.runtime_endpoint = Some("unix:///run/none.sock".into());
        options.crictl = Some("/usr/bin/crictl".into());
        let node = Self { dir, options };
        for folder in ["etc/kubernetes/manifests", "var/lib/kubelet/pods", "usr/bin", "var/lib/cprecover"] {
            std::fs::create_dir_all(node.path(folder)).expect("mkdir");
        }
        node.write("kubelet.up", b"");
        node.write("runtime.up", b"");
        node.lists(include_str!("../../../testdata/health/crictl-ps.json"));
        node.write("pods.json", include_bytes!("../../../testdata/health/crictl-pods.json"));
        node.write("info.json", br#"{"status": {"conditions": []}}"#);
        let root = root.display();
        let script = format!(
            "#!/bin/sh\ntest -e '{root}/runtime.up' || exit 1\nshift 4\ncase $1 in\n\
             version) printf 'Version: 0.1.0\\nRuntimeName: containerd\\nRuntimeVersion: v2\\nRuntimeApiVersion: v1\\n' ;;\n\
             info) cat '{root}/info.json' ;;\nps) cat '{root}/ps.json' ;;\npods) cat '{root}/pods.json' ;;\n\
             inspect) cat '{root}/inspect.'$4 ;;\nstop|stopp) echo \"$@\" >> '{root}/calls' ;;\n\
             rmp) echo \"$@\" >> '{root}/calls'; mv '{root}/pods.after' '{root}/pods.json' ;;\nesac\n"
        );
        crate::executable::install(&node.path("usr/bin/crictl"), script.as_bytes());
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).expect("write");
    }

    fn lists(&self, containers: &str) {
        self.write("ps.json", containers.as_bytes());
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.path("etc/kubernetes/manifests").join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.manifest(name), bytes).expect("write");
    }

    fn stands(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.manifest(name)).ok()
    }

    fn snapshot(&self) -> String {
        let options = CreateOptions { groups: vec![Group::Manifests], ..CreateOptions::default() };
        let store = Store::open(&self.options).expect("store");
        store.create(&options, &soon()).expect("snapshot").id.to_string()
    }

    fn host(&self) -> Host<'_> {
        Host::new(&self.options)
    }

    fn perform(&self, action: &Action) -> Result<Performed> {
        perform(&self.host(), action, &Observation::blank(), &[], &soon())
    }

    fn undo(&self, undo: &Undo) -> Result<TakenBack> {
        undo::undo(&self.host(), undo, 0, &soon())
    }

    fn is_up(&self, service: &str) -> bool {
        self.path(&format!("{service}.up")).exists()
    }
}

fn is_kept(taken: &TakenBack, why: &str) -> bool {
    matches!(taken, TakenBack::Kept(text) if text.contains(why))
}

#[test]
fn each_action_has_the_undo_that_is_documented() {
    let mut seen = Observation::blank();
    seen.facts.host.units = vec![crate::facts::UnitFact {
        role: crate::facts::UnitRole::Kubelet,
        name: "kubelet".into(),
        state: Observed::Present(crate::units::ServiceState::Active),
    }];
    let digest = Digest::of(TORN);
    let scheduler = Component::KubeScheduler;
    let process =
        crate::model::ProcessId { pid: crate::model::Pid::new(7).expect("positive"), start_ticks: 1 };
    let port = crate::model::Port::new(2380).expect("not 0");
    let restore = Action::RestoreManifest { component: scheduler, backup_id: "1".into() };
    let put_back = Some(Undo::PutManifestBack { component: scheduler, before: digest });
    let table = [
        (
            Action::BounceStaticPod { component: scheduler },
            Some(Undo::ReleaseManifest { component: scheduler }),
        ),
        (restore.clone(), put_back.clone()),
        (Action::RegenerateComponent { component: scheduler }, put_back),
        (
            Action::QuarantineManifest { file: "kube-scheduler.yaml.bak".into() },
            Some(Undo::ReleaseDuplicate { component: scheduler, file: "kube-scheduler.yaml.bak".into() }),
        ),
        (
            Action::QuarantinePodDir { uid: PodUid::new("u") },
            Some(Undo::PutPodFolderBack { uid: PodUid::new("u"), start_kubelet: true }),
        ),
        (Action::RestartKubelet, Some(Undo::StartKubelet)),
        // It was not seen to run before.
        (Action::RestartRuntime, None),
        (Action::TerminateHolder { port, process }, None),
        (Action::RemoveSandbox { sandbox: crate::model::SandboxId::new("s") }, None),
        (Action::RenewCertificate { path: "/x".into() }, None),
    ];
    for (action, wanted) in table {
        assert_eq!(undo::undo_of(&action, &seen, |_| Some(digest)), wanted, "{action}");
    }
    // Where nothing stood, nothing is taken away again.
    assert_eq!(undo::undo_of(&restore, &seen, |_| None), None);
}

#[test]
fn a_broken_manifest_comes_back_only_where_what_replaced_it_is_no_pod() {
    let node = Node::new();
    node.put("kube-scheduler.yaml", SCHEDULER);
    let good = node.snapshot();
    node.put("kube-scheduler.yaml", TORN);
    let restore = Action::RestoreManifest { component: Component::KubeScheduler, backup_id: good };
    let digest = |component| undo::digest_of(&node.options, component);
    let undo = undo::undo_of(&restore, &Observation::blank(), digest).expect("a file stands there");
    node.perform(&restore).expect("restores");
    assert_eq!(node.stands("kube-scheduler.yaml").as_deref(), Some(SCHEDULER));
    // It is valid: whatever became of the run, it stays.
    assert!(is_kept(&node.undo(&undo).expect("looks"), "is valid and stays"));
    assert_eq!(node.stands("kube-scheduler.yaml").as_deref(), Some(SCHEDULER));
    // Somebody spoilt it: what stood there before is better than what nobody knows.
    node.put("kube-scheduler.yaml", b"spoilt: [");
    assert!(matches!(node.undo(&undo), Ok(TakenBack::Done(_))));
    assert_eq!(node.stands("kube-scheduler.yaml").as_deref(), Some(TORN));
    assert!(is_kept(&node.undo(&undo).expect("again"), "is as it was"));
}

#[test]
fn a_held_manifest_is_released_once_and_a_persons_hold_is_left_alone() {
    let node = Node::new();
    node.put("kube-scheduler.yaml", SCHEDULER);
    let store = Store::open(&node.options).expect("store");
    let undo = Undo::ReleaseManifest { component: Component::KubeScheduler };
    store.hold("kube-scheduler.yaml", bounce::REASON, &soon()).expect("hold");
    assert!(matches!(node.undo(&undo), Ok(TakenBack::Done(_))));
    assert_eq!(node.stands("kube-scheduler.yaml").as_deref(), Some(SCHEDULER));
    assert!(is_kept(&node.undo(&undo).expect("again"), "not held"));
    store.hold("kube-scheduler.yaml", "by a person", &soon()).expect("hold");
    assert!(is_kept(&node.undo(&undo).expect("looks"), "not held"));
    assert_eq!(node.stands("kube-scheduler.yaml"), None);
}

#[test]
fn a_manifest_that_kubelet_runs_is_not_restored_over() {
    let node = Node::new();
    node.put("kube-scheduler.yaml", SCHEDULER);
    let backup_id = node.snapshot();
    // kubelet takes the last value of a key that is there twice.
    let twice = String::from_utf8_lossy(SCHEDULER).replacen("kind: Pod\n", "kind: Service\nkind: Pod\n", 1);
    node.put("kube-scheduler.yaml", twice.as_bytes());
    let restore = Action::RestoreManifest { component: Component::KubeScheduler, backup_id };
    let error = node.perform(&restore).expect_err("it is there and runs");
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    assert_eq!(node.stands("kube-scheduler.yaml").as_deref(), Some(twice.as_bytes()));
}

#[test]
fn what_is_restored_is_read_back_under_its_own_name() {
    let node = Node::new();
    node.put("scheduler.yaml", SCHEDULER);
    let backup_id = node.snapshot();
    std::fs::remove_file(node.manifest("scheduler.yaml")).expect("rm");
    let restore = Action::RestoreManifest { component: Component::KubeScheduler, backup_id };
    let done = node.perform(&restore).expect("restores");
    assert!(done.detail.contains("scheduler.yaml from snapshot"), "{done:?}");
    assert_eq!(node.stands("scheduler.yaml").as_deref(), Some(SCHEDULER));
}

#[test]
fn a_duplicate_is_released_only_where_its_pods_own_manifest_is_gone_and_etcd_has_data() {
    let node = Node::new();
    for (name, bytes) in [("kube-scheduler.yaml", SCHEDULER), ("etcd.yaml", ETCD)] {
        node.put(name, bytes);
        node.put(&format!("{name}.bak"), bytes);
        node.perform(&Action::QuarantineManifest { file: format!("{name}.bak") }).expect("is set aside");
        assert_eq!(node.stands(&format!("{name}.bak")), None);
    }
    let of = |component: Component| Undo::ReleaseDuplicate {
        component,
        file: format!("{}.bak", component.manifest_file()),
    };
    assert!(is_kept(&node.undo(&of(Component::KubeScheduler)).expect("looks"), "stays held"));
    std::fs::remove_file(node.manifest("kube-scheduler.yaml")).expect("rm");
    assert!(matches!(node.undo(&of(Component::KubeScheduler)), Ok(TakenBack::Done(_))));
    assert_eq!(node.stands("kube-scheduler.yaml.bak").as_deref(), Some(SCHEDULER));
    std::fs::remove_file(node.manifest("etcd.yaml")).expect("rm");
    let error = node.undo(&of(Component::Etcd)).expect_err("there is no database");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(node.stands("etcd.yaml.bak"), None);
}

#[test]
fn a_pod_folder_is_put_back_unless_the_pod_has_a_new_one() {
    let node = Node::new();
    let uid = PodUid::new("333ccb66-3eee-2c0b-4b9a-e7a6b3cc6b72");
    let folder = node.path("var/lib/kubelet/pods").join(uid.as_str());
    std::fs::create_dir_all(folder.join("containers/old")).expect("mkdir");
    let undo = Undo::PutPodFolderBack { uid: uid.clone(), start_kubelet: true };
    node.perform(&Action::QuarantinePodDir { uid }).expect("is moved");
    assert!(!folder.exists() && node.is_up("kubelet"));
    std::fs::create_dir(&folder).expect("a new one");
    assert!(is_kept(&node.undo(&undo).expect("looks"), "there again"));
    std::fs::remove_dir(&folder).expect("rmdir");
    // An engine that died in the middle has left kubelet stopped.
    std::fs::remove_file(node.path("kubelet.up")).expect("stops");
    for (name, bytes) in [("kube-scheduler.yaml", SCHEDULER), ("etcd.yaml", ETCD)] {
        node.put(name, bytes);
    }
    node.lists(r#"{"containers": []}"#);
    assert!(matches!(node.undo(&undo), Ok(TakenBack::Done(_))));
    assert!(folder.join("containers/old").exists() && node.is_up("kubelet"));
    assert!(is_kept(&node.undo(&undo).expect("again"), "no quarantine"));
}

#[test]
fn kubelet_is_not_stopped_for_a_pod_folder_that_stays() {
    let mut node = Node::new();
    let uid = PodUid::new("333ccb66-3eee-2c0b-4b9a-e7a6b3cc6b72");
    let folder = node.path("var/lib/kubelet/pods").join(uid.as_str());
    std::fs::create_dir_all(folder.join("volumes/kubernetes.io~empty-dir/data")).expect("mkdir");
    std::fs::write(folder.join("volumes/kubernetes.io~empty-dir/data/file"), b"data").expect("write");
    let stopped = node.path("kubelet.stopped");
    let stop = format!("rm -f '{}'; : > '{}'", node.path("kubelet.up").display(), stopped.display());
    if let ServiceControl::Commands { stop: command, .. } = &mut node.options.kubelet {
        *command = vec!["/bin/sh".to_owned(), "-c".to_owned(), stop];
    }
    let action = Action::QuarantinePodDir { uid };
    assert_eq!(node.perform(&action).expect_err("volume content").kind(), ErrorKind::Refused);
    assert!(!stopped.exists() && folder.exists());
    std::fs::remove_dir_all(folder.join("volumes")).expect("rm");
    std::fs::remove_file(node.path("runtime.up")).expect("stops");
    node.perform(&action).expect_err("the runtime does not answer");
    assert!(!stopped.exists() && folder.exists());
    node.write("runtime.up", b"");
    node.perform(&action).expect("is moved");
    assert!(stopped.exists() && !folder.exists() && node.is_up("kubelet"));
}

#[test]
fn kubelet_is_not_started_again_where_it_would_end_what_runs() {
    let node = Node::new();
    std::fs::remove_file(node.path("kubelet.up")).expect("stops");
    // The recorded containers run, and no manifest stands for them.
    assert!(is_kept(&node.undo(&Undo::StartKubelet).expect("looks"), "would end etcd"));
    assert!(!node.is_up("kubelet"));
    // What cannot be read is not absent.
    std::fs::remove_file(node.path("runtime.up")).expect("stops");
    assert!(node.undo(&Undo::StartKubelet).is_err() && !node.is_up("kubelet"));
    assert!(matches!(node.undo(&Undo::StartRuntime), Ok(TakenBack::Done(_))));
    assert!(is_kept(&node.undo(&Undo::StartRuntime).expect("again"), "runs"));
    node.lists(r#"{"containers": []}"#);
    assert!(matches!(node.undo(&Undo::StartKubelet), Ok(TakenBack::Done(_))));
    assert!(node.is_up("kubelet"));
    assert!(is_kept(&node.undo(&Undo::StartKubelet).expect("again"), "kubelet runs"));
}

#[test]
fn a_restarted_runtime_has_to_answer_and_one_that_does_not_start_is_an_error() {
    let node = Node::new();
    let done = node.perform(&Action::RestartRuntime).expect("restarts");
    assert!(
        done.detail.contains("it was active") && done.detail.contains("containerd v2"),
        "{}",
        done.detail
    );
    std::fs::remove_file(node.path("runtime.up")).expect("stops");
    let done = node.perform(&Action::RestartRuntime).expect("starts");
    assert!(done.detail.contains("it was inactive"), "{}", done.detail);
    // Active is not yet serving.
    crate::executable::install(&node.path("usr/bin/crictl"), b"#!/bin/sh\nexit 1\n");
    let limit = Deadline::after(Duration::from_secs(2));
    let error = perform(&node.host(), &Action::RestartRuntime, &Observation::blank(), &[], &limit);
    let error = error.expect_err("it does not answer");
    assert!(error.to_string().contains("does not answer"), "{error}");
    node.write("runtime.up.broken", b"");
    assert_eq!(node.perform(&Action::RestartRuntime).expect_err("does not start").kind(), ErrorKind::Peer);
    assert!(!node.is_up("runtime"));
}

#[test]
fn etcd_gets_no_manifest_where_there_is_no_database() {
    let node = Node::new();
    node.put("etcd.yaml", ETCD);
    let backup_id = node.snapshot();
    std::fs::remove_file(node.manifest("etcd.yaml")).expect("rm");
    let restore = Action::RestoreManifest { component: Component::Etcd, backup_id };
    for action in [restore.clone(), Action::RegenerateComponent { component: Component::Etcd }] {
        let error = node.perform(&action).expect_err("it would begin an empty cluster");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("begin an empty cluster"), "{error}");
        assert_eq!(node.stands("etcd.yaml"), None);
    }
    let mut external = Observation::blank();
    external.etcd.external = true;
    manifest::require_data(&node.options, Component::Etcd, &external).expect("it is somebody else's");
    manifest::require_data(&node.options, Component::KubeScheduler, &Observation::blank()).expect("no etcd");
    std::fs::create_dir_all(node.path("var/lib/etcd/member/snap")).expect("mkdir");
    for file in ["snap/db", "wal/0.tmp"] {
        node.write(&format!("var/lib/etcd/member/{file}"), b"bytes");
        let error =
            node.perform(&restore).expect_err("no log: it would found a new cluster over the database");
        assert_eq!(error.kind(), ErrorKind::Refused);
        std::fs::create_dir_all(node.path("var/lib/etcd/member/wal")).expect("mkdir");
    }
    node.write("var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal", b"");
    node.write("var/lib/etcd/member/snap/db", b"");
    node.perform(&restore).expect_err("an empty file is no database");
    node.write("var/lib/etcd/member/snap/db", b"bytes");
    node.perform(&restore).expect("both are there");
    assert_eq!(node.stands("etcd.yaml").as_deref(), Some(ETCD));
    // A folder that cannot be looked at is not an empty one.
    let mut strange = node.options.clone();
    strange.etcd_data_dir = "/etc/kubernetes/manifests/etcd.yaml".into();
    let error =
        manifest::require_data(&strange, Component::Etcd, &Observation::blank()).expect_err("no folder");
    assert_ne!(error.kind(), ErrorKind::Refused, "{error}");
}
