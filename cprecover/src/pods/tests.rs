#![allow(clippy::indexing_slicing)]

mod places;

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::cri::{RuntimeState, Sandbox, SandboxState, UnixNanos};
use crate::model::{NodeName, SandboxId};
use crate::parse::manifest::StaticPod;
use crate::sys::{Deadline, SystemClock};
use crate::{ErrorKind, NodeOptions};

const OLD: &str = "b861a3bef24128f124b376302f365ff0";
const NEW: &str = "e8a1f3842d0848ca37646440e3b5690d";
const OTHER: &str = "333ccb66-3eee-2c0b-4b9a-e7a6b3cc6b72";
const ETCD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\nspec: {containers: [{name: etcd, image: x}]}\n";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

struct Node {
    _dir: Option<tempfile::TempDir>,
    options: NodeOptions,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let node = Self::below(dir.path());
        Self { _dir: Some(dir), ..node }
    }

    fn below(root: &Path) -> Self {
        let options = NodeOptions::at(root.canonicalize().expect("resolves")).expect("absolute");
        std::fs::create_dir_all(options.resolve("/var/lib/kubelet/pods")).expect("mkdir");
        std::fs::create_dir_all(options.store()).expect("mkdir");
        Self { _dir: None, options }
    }

    fn pods(&self) -> PathBuf {
        self.options.resolve("/var/lib/kubelet/pods")
    }

    /// Makes what kubelet makes for a static pod: container, plugin, an empty volume.
    fn pod(&self, uid: &str, container: &str) -> PathBuf {
        let pod = self.pods().join(uid);
        for folder in ["volumes/kubernetes.io~empty-dir/tmp", "plugins/kubernetes.io~empty-dir/tmp"] {
            std::fs::create_dir_all(pod.join(folder)).expect("mkdir");
        }
        std::fs::create_dir_all(pod.join("containers").join(container)).expect("mkdir");
        std::fs::write(pod.join("containers").join(container).join("0a1b"), "termination log")
            .expect("write");
        std::fs::write(pod.join("etc-hosts"), "127.0.0.1 localhost\n").expect("write");
        pod
    }

    fn standing(&self, known: &KnownPods, uid: &str) -> Standing {
        let survey = survey(&self.options, known, &soon()).expect("looks");
        survey.pods.into_iter().find(|pod| pod.uid.as_str() == uid).expect("is listed").standing
    }

    fn quarantine(&self, known: &KnownPods, uids: &[&str]) -> crate::Result<Quarantine> {
        let uids: Vec<PodUid> = uids.iter().map(|uid| PodUid::new(*uid)).collect();
        quarantine(&self.options, known, &uids, &SystemClock, &soon())
    }
}

fn known(sandboxes: Vec<Sandbox>, manifests: &[&str]) -> KnownPods {
    let manifests: Vec<StaticPod> =
        manifests.iter().map(|text| StaticPod::parse(text.as_bytes()).expect("a manifest")).collect();
    let state = RuntimeState { sandboxes, ..RuntimeState::default() };
    KnownPods::new(&state, &manifests, &NodeName::new("cp1"))
}

fn sandbox(uid: &str, created_at: UnixNanos) -> Sandbox {
    Sandbox {
        id: SandboxId::new(uid),
        pod_name: "etcd-cp1".into(),
        namespace: "kube-system".into(),
        uid: PodUid::new(uid),
        attempt: 0,
        state: SandboxState::NotReady,
        created_at,
        labels: std::collections::BTreeMap::new(),
        annotations: [("kubernetes.io/config.source".to_owned(), "file".to_owned())].into(),
    }
}

/// Every path below a folder with inode and size.
fn tree(folder: &Path) -> Vec<(PathBuf, u64, u64)> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let meta = path.symlink_metadata().expect("stat");
        if meta.is_dir() {
            waiting.extend(std::fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()));
        }
        found.push((path.strip_prefix(folder).expect("below").to_owned(), meta.ino(), meta.len()));
    }
    found.sort();
    found
}

#[test]
fn a_leftover_is_moved_aside_and_back_untouched() {
    let node = Node::new();
    let pod = node.pod(OLD, "etcd");
    let kept = node.pod(OTHER, "coredns");
    let known = known(vec![sandbox(OTHER, UnixNanos(1))], &[]);
    assert_eq!(node.standing(&known, OLD), Standing::Leftover);
    assert_eq!(node.standing(&known, OTHER), Standing::KnownToRuntime);
    let (before, before_kept) = (tree(&pod), tree(&kept));
    let made = node.quarantine(&known, &[OLD]).expect("moves");
    assert!(!pod.exists());
    assert_eq!(tree(&made.folder.join(OLD)), before);
    assert_eq!(tree(&kept), before_kept);
    assert_eq!(quarantines(&node.options).expect("lists"), std::slice::from_ref(&made));
    undo(&made, &soon()).expect("moves back");
    assert_eq!(tree(&pod), before);
    assert!(quarantines(&node.options).expect("lists").is_empty());
}

#[test]
fn a_known_pod_is_never_moved_and_nothing_else_with_it() {
    let node = Node::new();
    node.pod(OLD, "etcd");
    node.pod(OTHER, "coredns");
    let by_runtime = known(vec![sandbox(OTHER, UnixNanos(1))], &[]);
    let error = node.quarantine(&by_runtime, &[OLD, OTHER]).expect_err("one is known");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains(OTHER), "{error}");
    assert!(node.pods().join(OLD).exists(), "all or none");
    assert!(quarantines(&node.options).expect("lists").is_empty());
}

#[test]
fn a_manifest_keeps_what_may_be_its_own_until_the_runtime_accounts_for_it() {
    let node = Node::new();
    node.pod(OLD, "etcd");
    node.pod(OTHER, "coredns");
    let waiting = known(Vec::new(), &[ETCD]);
    let own = Standing::KnownToManifest { manifest: "kube-system/etcd".into() };
    assert_eq!(node.standing(&waiting, OLD), own, "kubelet may be about to start it");
    assert_eq!(node.standing(&waiting, OTHER), Standing::Leftover, "no container of the manifest's");
    assert_eq!(node.quarantine(&waiting, &[OLD]).expect_err("may be its own").kind(), ErrorKind::Refused);
    let later = known(vec![sandbox(NEW, UnixNanos(i64::MAX))], &[ETCD]);
    assert_eq!(node.standing(&later, OLD), Standing::Leftover, "the manifest's pod has another UID");
    let earlier = known(vec![sandbox(NEW, UnixNanos(1))], &[ETCD]);
    assert_eq!(node.standing(&earlier, OLD), own, "the folder is newer than the sandbox");
}

#[test]
fn content_of_volumes_stays_and_is_named() {
    let node = Node::new();
    let pod = node.pod(OLD, "etcd");
    let file = pod.join("volumes/kubernetes.io~empty-dir/tmp/only-copy");
    std::fs::write(&file, "data").expect("write");
    let nobody = known(Vec::new(), &[]);
    let blocked = Standing::Blocked { obstacle: Obstacle::VolumeContent { path: file.clone() } };
    assert_eq!(node.standing(&nobody, OLD), blocked);
    let error = node.quarantine(&nobody, &[OLD]).expect_err("has data");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("only-copy"), "{error}");
    std::fs::remove_file(&file).expect("remove");
    // A link counts as content, and is not followed.
    symlink("/", pod.join("volumes/kubernetes.io~empty-dir/link")).expect("link");
    assert!(matches!(node.standing(&nobody, OLD), Standing::Blocked { .. }));
    assert!(pod.exists());
}

#[test]
fn links_files_and_odd_names_are_not_pods() {
    let node = Node::new();
    let elsewhere = node.options.resolve("/srv/data");
    std::fs::create_dir_all(&elsewhere).expect("mkdir");
    symlink(&elsewhere, node.pods().join(OLD)).expect("link");
    std::fs::write(node.pods().join(NEW), "").expect("write");
    std::fs::create_dir(node.pods().join("not a uid")).expect("mkdir");
    let nobody = known(Vec::new(), &[]);
    for name in [OLD, NEW, "not a uid"] {
        assert_eq!(node.standing(&nobody, name), Standing::Blocked { obstacle: Obstacle::NotAPod });
        assert_eq!(node.quarantine(&nobody, &[name]).expect_err("refused").kind(), ErrorKind::Refused);
    }
    let error = node.quarantine(&nobody, &["../pods"]).expect_err("a path");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(elsewhere.exists());
}

#[test]
fn undo_never_overwrites_and_can_be_repeated() {
    let node = Node::new();
    node.pod(OLD, "etcd");
    node.pod(OTHER, "coredns");
    let nobody = known(Vec::new(), &[]);
    let made = node.quarantine(&nobody, &[OLD, OTHER]).expect("moves");
    // kubelet made one of them again.
    let again = node.pods().join(OTHER);
    std::fs::create_dir(&again).expect("mkdir");
    let error = undo(&made, &soon()).expect_err("is there again");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(made.folder.join(OLD).exists(), "all or none");
    std::fs::remove_dir(&again).expect("rmdir");
    // As after a crash: one is back already.
    std::fs::rename(made.folder.join(OLD), node.pods().join(OLD)).expect("rename");
    undo(&made, &soon()).expect("moves the rest back");
    assert!(node.pods().join(OTHER).join("etc-hosts").exists());
    assert!(!made.folder.exists());
}

#[test]
fn no_folder_is_absence_and_no_mountinfo_is_an_error() {
    let node = Node::new();
    let nobody = known(Vec::new(), &[]);
    let mut blind = node.options.clone();
    blind.proc_dir = "/nonexistent".into();
    let error = survey(&blind, &nobody, &soon()).expect_err("mounts are unknown");
    assert!(error.to_string().contains("mountinfo"), "{error}");
    std::fs::remove_dir(node.pods()).expect("rmdir");
    assert_eq!(survey(&node.options, &nobody, &soon()).expect_err("none").kind(), ErrorKind::NotFound);
}

#[test]
fn a_mount_below_a_pod_stays_and_is_named() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root mounts");
        return;
    }
    let node = Node::new();
    let pod = node.pod(OLD, "etcd");
    let at = pod.join("volumes/kubernetes.io~empty-dir/tmp");
    // A namespace of its own, so that the mount ends with the process whatever happens here.
    let script =
        format!("mount -t tmpfs tmpfs {at} && echo mounted && read line; umount {at}", at = at.display());
    let mut child = std::process::Command::new("/usr/bin/unshare")
        .args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("unshare is part of util-linux");
    let mut said = String::new();
    let out = child.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut said).expect("reads");
    assert_eq!(said.trim(), "mounted");
    // That process plays the node's first one: its mount is seen though it is not ours.
    let proc_dir = node.options.resolve("/proc-of-the-node");
    std::fs::create_dir(&proc_dir).expect("mkdir");
    symlink("/proc/self", proc_dir.join("self")).expect("link");
    symlink(format!("/proc/{}", child.id()), proc_dir.join("1")).expect("link");
    let mut options = node.options.clone();
    options.proc_dir = proc_dir;
    let nobody = known(Vec::new(), &[]);
    let result = quarantine(&options, &nobody, &[PodUid::new(OLD)], &SystemClock, &soon());
    drop(child.stdin.take());
    assert!(child.wait().expect("ends").success());
    let error = result.expect_err("a mount is in the way");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains(&format!("mounted at {}", at.display())), "{error}");
    assert_eq!(node.standing(&nobody, OLD), Standing::Leftover, "the mount is gone");
}

#[test]
fn a_mount_that_only_the_node_sees_is_found_below_another_root() {
    let node = Node::new();
    let pod = node.pod(OLD, "etcd");
    let proc_dir = node.options.resolve("/proc-of-the-node");
    std::fs::create_dir_all(proc_dir.join("1")).expect("mkdir");
    symlink("/proc/self", proc_dir.join("self")).expect("link");
    let below = "volumes/kubernetes.io~empty-dir/tmp";
    let line = format!("36 35 0:1 / /var/lib/kubelet/pods/{OLD}/{below} rw - tmpfs t rw\n");
    std::fs::write(proc_dir.join("1/mountinfo"), line).expect("write");
    let mut options = node.options.clone();
    options.proc_dir = proc_dir;
    let found = survey(&options, &known(Vec::new(), &[]), &soon()).expect("looks").pods;
    let blocked = Standing::Blocked { obstacle: Obstacle::Mount { at: pod.join(below) } };
    assert_eq!(found[0].standing, blocked);
    // By a root with a link in it as well.
    let link = tempfile::tempdir().expect("temp dir");
    symlink(&options.root, link.path().join("host")).expect("link");
    options.root = link.path().join("host");
    let found = survey(&options, &known(Vec::new(), &[]), &soon()).expect("looks").pods;
    assert_eq!(found[0].standing, blocked);
}

#[test]
fn a_quarantine_that_was_never_used_or_is_broken_hides_no_other() {
    let node = Node::new();
    node.pod(OLD, "etcd");
    node.pod(OTHER, "coredns");
    let nobody = known(Vec::new(), &[]);
    let good = node.quarantine(&nobody, &[OLD]).expect("moves");
    let mut names: Vec<_> = std::fs::read_dir(&good.folder).expect("list").collect();
    names.retain(|name| name.as_ref().is_ok_and(|name| name.file_name() != OLD));
    assert_eq!(names.len(), 1, "the index alone");
    // What a full disk or a crash left of earlier versions, and of this one.
    let parent = good.folder.parent().expect("a folder");
    for (folder, file) in [("1", "index.json"), ("2", ".index.json.new")] {
        std::fs::create_dir(parent.join(folder)).expect("mkdir");
        std::fs::write(parent.join(folder).join(file), "").expect("write");
    }
    assert_eq!(quarantines(&node.options).expect("lists"), std::slice::from_ref(&good));
    // An index that says nothing about what lies beside it is not passed over, but can be gone around.
    let broken = node.quarantine(&nobody, &[OTHER]).expect("moves");
    std::fs::write(broken.folder.join("index.json"), "{").expect("write");
    assert_eq!(quarantines(&node.options).expect_err("what was moved?").kind(), ErrorKind::Corrupt);
    let error = quarantine_in(&node.options, &broken.folder).expect_err("broken");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let found = quarantine_in(&node.options, &good.folder).expect("is there");
    undo(&found, &soon()).expect("moves back");
    assert!(node.pods().join(OLD).join("etc-hosts").exists());
}

#[test]
#[ignore = "not a test: what the next one runs where the disk is small"]
fn quarantines_on_a_full_disk() {
    let Ok(root) = std::env::var("CPRECOVER_TEST_ROOT") else { return };
    let node = Node::below(Path::new(&root));
    let pod = node.pod(OLD, "etcd");
    let before = tree(&pod);
    let ballast = node.options.resolve("/var/lib/ballast");
    let mut file = std::fs::File::create(&ballast).expect("creates");
    while std::io::Write::write_all(&mut file, &[7; 512]).is_ok() {}
    let error = node.quarantine(&known(Vec::new(), &[]), &[OLD]).expect_err("the disk is full");
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(tree(&pod), before);
    let left = node.options.store().join("pods-quarantine");
    assert_eq!(std::fs::read_dir(left).expect("list").count(), 0, "nothing is left half done");
    drop(file);
    std::fs::remove_file(ballast).expect("remove");
    let made = node.quarantine(&known(Vec::new(), &[]), &[OLD]).expect("moves");
    assert_eq!(quarantines(&node.options).expect("lists"), [made]);
}

/// Runs one of the tests that are ignored, in a mount namespace with what `mount` mounts below the root `$1`.
fn run_where(mount: &str, test: &str) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root mounts");
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let root = dir.path().canonicalize().expect("resolves");
    let script = format!("{mount} && shift && exec \"$@\"");
    let output = std::process::Command::new("/usr/bin/unshare")
        .args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script, "sh"])
        .arg(&root)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "--ignored", &format!("pods::tests::{test}")])
        .env("CPRECOVER_TEST_ROOT", &root)
        .output()
        .expect("unshare is part of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{failed}");
}

#[test]
fn a_full_disk_leaves_no_half_quarantine() {
    run_where(
        "mkdir -p \"$1/var/lib\" && mount -t tmpfs -o size=256k tmpfs \"$1/var/lib\"",
        "quarantines_on_a_full_disk",
    );
}
