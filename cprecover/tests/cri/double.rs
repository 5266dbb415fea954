//! The stand-in runtime keeps the habits of the real one that a recovery depends on.

use std::time::{Duration, Instant};

use cprecover::ErrorKind;
use cprecover::cri::wire;
use cprecover::cri::{ContainerState, SandboxState};
use cprecover::model::Component;
use cprecover::sys::{CancelToken, Deadline};
use rustix::process::Signal;

use crate::node::{Node, eventually, parent, runs, signal, soon};

const UID: &str = "b861a3bef24128f124b376302f365ff0";
const OTHER: &str = "e8a1f3842d0848ca37646440e3b5690d";
const SLEEP: &str = "exec sleep 300";

#[test]
fn a_container_runs_logs_ends_and_is_removed() {
    let node = Node::start(&[]);
    let sandbox = node.sandbox(UID, 0);
    let script = "echo \"$GREETING\"; echo cat /var/lib/etcd/x; printf 'no newline' >&2; exit 7";
    let container = node.container(&sandbox, 0, script);
    let detail = node.wait_for_exit(&container);
    assert_eq!(detail.exit_code, Some(7));
    assert_eq!(detail.reason.as_deref(), Some("Error"));
    assert_eq!(detail.pid, None);
    assert!(detail.finished_at >= detail.started_at);
    let on_node = format!("/var/log/pods/kube-system_etcd-cp1_{UID}/etcd/0.log");
    assert_eq!(detail.log_path.as_deref(), Some(on_node.as_ref()));
    let mapped = format!("cat {}/var/lib/etcd/x", node.root().display());
    eventually("the log is complete", || {
        let text = std::fs::read_to_string(node.log(UID, 0)).unwrap_or_default();
        let has = |tail: &str| text.lines().any(|line| line.ends_with(tail) && line.contains("Z std"));
        has(" stdout F hello") && has(&format!(" stdout F {mapped}")) && has(" stderr P no newline")
    });
    let runtime = node.runtime();
    let state = runtime.list(&soon()).expect("lists");
    assert_eq!(state.component_containers(Component::Etcd)[0].restart_count(), Some(0));
    assert_eq!(state.newest_sandbox("kube-system", "etcd-cp1").map(|s| s.id.clone()), Some(sandbox.clone()));
    runtime.remove_container(&container, &soon()).expect("removed");
    runtime.remove_container(&container, &soon()).expect("removing twice is no error");
    let error = runtime.container_detail(&container, &soon()).expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    runtime.remove_sandbox(&sandbox, &soon()).expect("removed");
    assert_eq!(runtime.list(&soon()).expect("lists").sandboxes, []);
}

#[test]
fn the_family_is_that_of_a_real_node() {
    let node = Node::start(&[]);
    let sandbox = node.sandbox(UID, 0);
    let container = node.container(&sandbox, 0, SLEEP);
    let pid = node.detail(&container).pid.expect("runs").get();
    let shim = procfs::process::Process::new(parent(pid)).expect("the shim");
    assert_eq!(shim.stat().expect("stat").comm, "containerd-shim");
    let cmdline = shim.cmdline().expect("cmdline");
    assert!(cmdline[0].ends_with("containerd-shim-runc-v2"), "{cmdline:?}");
    let id = cmdline.iter().position(|arg| arg == "-id").expect("-id");
    assert_eq!(cmdline[id + 1], sandbox.as_str());
    assert_eq!(parent(shim.pid), 1, "the shim is nobody's child");
}

#[test]
fn a_killed_shim_leaves_an_orphan_that_cri_calls_exited() {
    let node = Node::start(&[]);
    let sandbox = node.sandbox(UID, 0);
    // It goes on logging: an orphan must not die of a closed pipe.
    let container = node.container(&sandbox, 0, "while :; do echo tick; sleep 0.05; done");
    let pid = node.detail(&container).pid.expect("runs").get();
    signal(node.shim_of(&container), Signal::KILL);
    let detail = node.wait_for_exit(&container);
    assert_eq!((detail.exit_code, detail.pid), (Some(137), None));
    eventually("the orphan is PID 1's", || parent(pid) == 1);
    std::thread::sleep(Duration::from_millis(300));
    assert!(runs(pid), "nobody kills an orphan");
    let state = node.runtime().list(&soon()).expect("lists");
    assert_eq!(state.sandbox(&sandbox).map(|s| s.state), Some(SandboxState::NotReady));
    // kubelet goes on with a new sandbox of the same UID; that makes none of them stale.
    let next = node.sandbox(UID, 1);
    node.container(&next, 1, SLEEP);
    let state = node.runtime().list(&soon()).expect("lists");
    assert!(state.stale_sandboxes("kube-system", "etcd-cp1").is_empty());
    assert!(runs(pid));
    node.runtime().remove_sandbox(&sandbox, &soon()).expect("removes what it knows");
    assert!(runs(pid), "the runtime does not know the orphan");
    drop(node);
    assert!(!runs(pid), "the clean-up finds it all the same");
}

#[test]
fn containers_outlive_the_runtime() {
    let mut node = Node::start(&[]);
    let sandbox = node.sandbox(UID, 0);
    let first = node.container(&sandbox, 0, SLEEP);
    let brief = node.container(&sandbox, 1, "sleep 0.2; exit 3");
    let pid = node.detail(&first).pid;
    node.stop_runtime();
    let error = node.call::<_, wire::VersionResponse>("Version", wire::VersionRequest::default());
    let error = error.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Peer, "{error}");
    std::thread::sleep(Duration::from_millis(400));
    node.start_runtime(&[]);
    let detail = node.detail(&first);
    assert_eq!((detail.state, detail.pid), (ContainerState::Running, pid));
    assert_eq!(node.wait_for_exit(&brief).exit_code, Some(3), "ended while nobody looked");
}

#[test]
fn a_stop_waits_for_sigterm_and_then_kills() {
    let node = Node::start(&[]);
    let sandbox = node.sandbox(UID, 0);
    let polite = node.container(&sandbox, 0, "trap 'exit 0' TERM; while :; do sleep 0.02; done");
    let stubborn = node.container(&sandbox, 1, "trap '' TERM; while :; do sleep 0.02; done");
    let stopped = node.container(&sandbox, 2, SLEEP);
    signal(node.detail(&stopped).pid.expect("runs").get(), Signal::STOP);
    std::thread::sleep(Duration::from_millis(100));
    let runtime = node.runtime();
    let start = Instant::now();
    runtime.stop_container(&polite, Duration::from_secs(20), &soon()).expect("stops");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(node.detail(&polite).exit_code, Some(0));
    for id in [&stubborn, &stopped] {
        let start = Instant::now();
        runtime.stop_container(id, Duration::from_millis(600), &soon()).expect("stops");
        assert!(start.elapsed() >= Duration::from_millis(900), "the grace is rounded up");
        assert_eq!(node.detail(id).exit_code, Some(137));
    }
    runtime.stop_sandbox(&sandbox, &soon()).expect("stops");
    let state = runtime.list(&soon()).expect("lists");
    assert_eq!(state.sandboxes[0].state, SandboxState::NotReady);
    let error = node.create(&sandbox, 3, &["/bin/true"]).expect_err("a stopped sandbox takes nothing");
    assert!(error.to_string().contains("is not running"), "{error}");
}

#[test]
fn a_hung_container_times_a_stop_out_by_name() {
    let mut node = Node::start(&[]);
    let sandbox = node.sandbox(UID, 0);
    let container = node.container(&sandbox, 0, SLEEP);
    node.stop_runtime();
    node.start_runtime(&["--hung-containers"]);
    let runtime = node.runtime();
    let start = Instant::now();
    let brief = Deadline::after(Duration::from_millis(700));
    let error = runtime.stop_sandbox(&sandbox, &brief).expect_err("hangs");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains(sandbox.as_str()), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let cancel = CancelToken::default();
    let long = Deadline::after(Duration::from_mins(1)).with_cancel(cancel.clone());
    let start = Instant::now();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            cancel.cancel();
        });
        runtime.stop_container(&container, Duration::from_secs(1), &long).expect_err("cancelled")
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(node.detail(&container).state, ContainerState::Running, "reading still works");
}

#[test]
fn two_sandboxes_of_different_manifests_show_the_deadlock() {
    let node = Node::start(&[]);
    let old = node.sandbox(UID, 2);
    let holder = node.container(&old, 8, SLEEP);
    let new = node.sandbox(OTHER, 0);
    node.container(&new, 0, "exit 1");
    let state = node.runtime().list(&soon()).expect("lists");
    let replaced: Vec<_> =
        state.stale_sandboxes("kube-system", "etcd-cp1").iter().map(|s| s.id.clone()).collect();
    assert_eq!(replaced, std::slice::from_ref(&old));
    let pid = node.detail(&holder).pid.expect("runs").get();
    let runtime = node.runtime();
    runtime.stop_sandbox(&old, &soon()).expect("stops");
    assert!(!runs(pid));
    runtime.remove_sandbox(&old, &soon()).expect("removed");
    assert_eq!(runtime.list(&soon()).expect("lists").sandboxes.len(), 1);
}

#[test]
fn names_are_reserved_and_missing_programs_are_named() {
    let node = Node::start(&[]);
    let sandbox = node.sandbox(UID, 0);
    let error = node.try_sandbox(UID, 0).expect_err("taken");
    assert!(error.to_string().contains("failed to reserve sandbox name"), "{error}");
    let created = node.create(&sandbox, 0, &["no-such-program"]).expect("created");
    let error = node.create(&sandbox, 0, &["/bin/true"]).expect_err("taken");
    assert!(error.to_string().contains("failed to reserve container name"), "{error}");
    let request = wire::StartContainerRequest { container_id: created.container_id.clone() };
    let error = node.call::<_, wire::StartContainerResponse>("StartContainer", request).expect_err("fails");
    assert!(error.to_string().contains("executable file not found"), "{error}");
    let detail = node.detail(&cprecover::model::ContainerId::new(created.container_id));
    assert_eq!((detail.exit_code, detail.reason.as_deref()), (Some(128), Some("StartError")));
}

#[test]
fn containers_live_in_kubepods_cgroups_where_the_machine_allows_it() {
    let prefix = format!("cprecover-test-{}", std::process::id());
    let node = Node::start(&["--cgroup-prefix", &prefix]);
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(std::path::Path::new);
    let Some(own) = mounts.iter().map(|mount| mount.join(&prefix)).find(|own| own.is_dir()) else {
        eprintln!("SKIPPED: no writable cgroup v2 hierarchy on this machine");
        return;
    };
    let sandbox = node.sandbox(UID, 0);
    let container = node.container(&sandbox, 0, "sleep 300 & sleep 300");
    let detail = node.detail(&container);
    let path = format!("/{prefix}/kubepods/burstable/pod{UID}/{container}");
    assert_eq!(detail.cgroups_path.as_deref(), Some(path.as_str()));
    let pid = detail.pid.expect("runs").get();
    eventually("the process is in its cgroup", || {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .is_ok_and(|text| text.lines().any(|line| line == format!("0::{path}")))
    });
    // An orphan and its child: the cgroup finds both.
    signal(node.shim_of(&container), Signal::KILL);
    node.wait_for_exit(&container);
    node.runtime().remove_sandbox(&sandbox, &soon()).expect("removed");
    assert!(own.join(format!("kubepods/burstable/pod{UID}/{container}")).is_dir(), "in use by the orphan");
    drop(node);
    assert!(!own.exists());
    assert!(!runs(pid));
}

#[test]
fn programs_come_from_their_own_folder_first() {
    let folder = tempfile::tempdir().expect("temp dir");
    let script = folder.path().join("etcd");
    crate::executable::install(&script, b"#!/bin/sh\necho \"drill $@\"\n");
    let node = Node::start(&["--programs", folder.path().to_str().expect("UTF-8")]);
    let sandbox = node.sandbox(UID, 0);
    let created = node.create(&sandbox, 0, &["etcd", "--data-dir=/var/lib/etcd"]).expect("created");
    let request = wire::StartContainerRequest { container_id: created.container_id.clone() };
    node.call::<_, wire::StartContainerResponse>("StartContainer", request).expect("starts");
    let detail = node.wait_for_exit(&cprecover::model::ContainerId::new(created.container_id));
    assert_eq!((detail.exit_code, detail.reason.as_deref()), (Some(0), Some("Completed")));
    let line = format!("drill --data-dir={}/var/lib/etcd", node.root().display());
    eventually("the log is complete", || {
        std::fs::read_to_string(node.log(UID, 0)).is_ok_and(|text| text.trim_end().ends_with(&line))
    });
    assert!(node.root().join("var/lib/etcd").is_dir(), "a missing mount source is made");
}
