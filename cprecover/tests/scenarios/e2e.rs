//! `tests/e2e/run`, which breaks real nodes, on a node of doubles: so that it works when it is needed.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cprecover::model::Component;
use rustix::process::Signal;

use super::high_availability::{Cluster, PEERS, real_etcd};
use super::node::{Node, signal, wait};

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/run")
}

#[test]
fn without_a_node_to_break_it_says_so_and_breaks_nothing() {
    let names =
        ["KUBEADM", "KUBELET_START", "KUBELET_STOP", "RUNTIME_ENDPOINT", "ETCD_DATA_DIR", "ETCD_PEER_PORT"];
    let mut command = Command::new(script());
    for name in names {
        command.env_remove(name);
    }
    let output = command.output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("SKIPPED: tests/e2e needs a node to break"), "{text}");
    for name in names {
        command.env(name, "true");
    }
    let output = command.env_remove("E2E_BREAK_THIS_NODE").output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("E2E_BREAK_THIS_NODE=yes"), "{text}");
}

/// Everything that needs no second member and no etcd that reads its own log.
const ON_STAND_INS: [&str; 16] = [
    "healthy",
    "lost_one",
    "lost_all",
    "corrupt",
    "duplicate",
    "kubelet_down",
    "interrupted",
    "address",
    "orphan",
    "deadlock",
    "foreign",
    "service",
    "hung",
    "data_locked",
    "disk_full",
    "certificate_expired",
];

/// The script with the environment of a drill's node.
fn script_on(node: &Node) -> Command {
    let program = env!("CARGO_BIN_EXE_cprecover");
    let root = node.root.to_str().expect("UTF-8");
    let kubelet = |verb: &str| format!("'{program}' --root '{root}' double daemon {verb} kubelet");
    let mut command = node.namespace.command(script());
    command
        .env("CPRECOVER", program)
        .env("ROOT", root)
        .env("KUBEADM", node.root.join("usr/bin/kubeadm"))
        .env("KUBELET_START", kubelet("start"))
        .env("KUBELET_STOP", kubelet("stop"))
        .env("RUNTIME_ENDPOINT", "unix:///run/containerd/containerd.sock")
        .env("ETCD_DATA_DIR", "/var/lib/etcd")
        .env("ETCD_PEER_PORT", node.port("etcdPeer").to_string())
        .env("SCHEDULER_PORT", node.port("scheduler").to_string())
        .env("E2E_BREAK_THIS_NODE", "yes")
        .env("PATIENCE", "100")
        .env("LIMIT", "20")
        // What it keeps of a broken node goes with the node.
        .env("TMPDIR", node.root.join("opt"));
    for name in ["ETCD_PEERS", "PEERS_START", "PEERS_STOP", "STORE"] {
        command.env_remove(name);
    }
    command
}

/// What the script must leave as it was, whatever it did in between: every file's bytes and mode.
fn state_of(node: &Node) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let audit = node.root.join("var/lib/cprecover/audit.jsonl");
    let files = node.touched(&["etc"]).into_keys().chain([audit]);
    let files =
        files.filter(|path| path.is_file() && !path.starts_with(node.root.join("etc/kubernetes/tmp")));
    files
        .map(|path| {
            let mode = path.metadata().expect("metadata").permissions().mode();
            let bytes = std::fs::read(&path).expect("read");
            (path, mode, bytes)
        })
        .collect()
}

fn is_as_before(node: &Node, before: &[(PathBuf, u32, Vec<u8>)]) {
    let after = state_of(node);
    let lost = before.iter().filter(|file| !after.contains(file));
    let new = after.iter().filter(|file| !before.contains(file));
    let changed: Vec<_> = lost.chain(new).map(|(path, ..)| path).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

/// Runs the script and expects these scenarios to pass, or to be skipped where they may be.
fn passes(command: &mut Command, names: &[&str], may_be_skipped: &[&str]) -> String {
    let output = command.args(names).output().expect("runs");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{errors}");
    for name in names {
        let is_skipped = may_be_skipped.contains(name) && text.contains(&format!("SKIPPED {name}: "));
        assert!(is_skipped || text.contains(&format!("ok      {name} (")), "{name} in {text}\n{errors}");
    }
    for line in text.lines().filter(|line| line.contains("SKIPPED")) {
        eprintln!("{line}");
    }
    text.into_owned()
}

/// Says an operator's own word into the audit log, so that it can be looked for afterwards.
fn write_audit(node: &Node) {
    node.lose(Component::KubeScheduler);
    node.recover(&["--timeout", "60"]);
    node.wait_until_healthy();
    node.audit_is_whole();
}

fn is_clean(node: &Node) {
    let own = |path: &PathBuf| path.to_string_lossy().contains("e2e");
    let left: Vec<_> = node.touched(&["etc", "var/lib/etcd"]).into_keys().filter(own).collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "left by the script");
    node.wait_until_healthy();
}

#[test]
fn every_scenario_of_one_member_works_on_a_node_of_doubles_and_is_undone() {
    let node = Node::healthy();
    write_audit(&node);
    let before = state_of(&node);
    let doubles = tempfile::tempdir().expect("folder");
    let double = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/systemd/double");
    for name in ["systemd-run", "systemctl"] {
        std::os::unix::fs::symlink(&double, doubles.path().join(name)).expect("link");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [doubles.path().to_owned()].into_iter().chain(std::env::split_paths(&path));
    let mut command = script_on(&node);
    command.env("PATH", std::env::join_paths(folders).expect("no colon"));
    passes(&mut command, &ON_STAND_INS, &["foreign", "service", "disk_full", "certificate_expired"]);
    is_as_before(&node, &before);
    node.audit_is_whole();
    is_clean(&node);
}

#[test]
fn what_needs_other_members_is_skipped_on_a_single_one_and_says_so() {
    let node = Node::healthy();
    let before = node.everything();
    let output = script_on(&node).args(["quorum_kept", "quorum_lost", "empty_data"]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("0 passed, 0 failed, 3 skipped"), "{text}");
    for name in ["quorum_kept", "quorum_lost", "empty_data"] {
        let said = format!("SKIPPED {name}: it needs other members, and ETCD_PEERS names none");
        assert!(text.contains(&said), "{text}");
    }
    let after = node.everything();
    let changed: Vec<_> = before.iter().filter(|(path, meta)| after.get(*path) != Some(meta)).collect();
    assert!(
        changed.iter().all(|(path, _)| path.starts_with(node.root.join("var/lib/cprecover"))),
        "{changed:?}"
    );
}

#[test]
fn a_real_etcds_data_are_locked_broken_and_put_back() {
    if real_etcd().is_none() {
        eprintln!("SKIPPED: no etcd on PATH (Debian package etcd-server)");
        return;
    }
    let node = Node::built(&[]);
    let before = state_of(&node);
    passes(&mut script_on(&node), &["data_locked", "wal_broken"], &[]);
    is_as_before(&node, &before);
    is_clean(&node);
}

#[test]
fn the_scenarios_of_three_members_work_with_real_etcds_and_are_undone() {
    let Some(cluster) = Cluster::build() else { return };
    let node = &cluster.node;
    let before = state_of(node);
    let pids: Vec<_> = cluster.peer_pids().iter().map(ToString::to_string).collect();
    let peers: Vec<_> = PEERS.iter().map(|peer| format!("https://127.0.0.1:{}", peer.client)).collect();
    let mut command = script_on(node);
    command
        .env("ETCD_PEERS", peers.join(" "))
        .env("PEERS_STOP", format!("kill -STOP {}", pids.join(" ")))
        .env("PEERS_START", format!("kill -CONT {}", pids.join(" ")));
    passes(&mut command, &["quorum_kept", "quorum_lost", "empty_data", "wal_broken", "data_locked"], &[]);
    is_as_before(node, &before);
    assert!(cluster.peers_live(), "another member was touched");
    is_clean(node);
}

/// Ends the script in the middle of a scenario, as soon as something is so, and expects the node as it was.
fn is_put_back(node: &Node, scenario: &str, until: impl FnMut() -> bool) {
    let before = state_of(node);
    let mut child = script_on(node).arg(scenario).stdout(Stdio::null()).spawn().expect("starts");
    wait("a scenario that broke the node", until);
    signal(i32::try_from(child.id()).expect("fits"), Signal::TERM);
    let status = child.wait().expect("ends");
    assert_eq!(status.code(), Some(143), "{status}");
    node.wait_until_healthy();
    is_as_before(node, &before);
}

#[test]
fn an_end_in_the_middle_puts_the_node_back() {
    let node = Node::healthy();
    is_put_back(&node, "data_locked", || !node.manifest(Component::Etcd).exists());
    is_clean(&node);
}

#[test]
fn an_end_while_etcds_data_are_aside_puts_them_back() {
    if real_etcd().is_none() {
        eprintln!("SKIPPED: no etcd on PATH (Debian package etcd-server)");
        return;
    }
    let node = Node::built(&[]);
    let log = node.root.join("var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal");
    let inode = || log.metadata().map(|metadata| metadata.ino()).expect("log");
    let before = inode();
    let aside = node.root.join("var/lib/etcd/.cprecover-e2e-member");
    let spent = node.root.join("var/lib/etcd/.cprecover-e2e-spent");
    is_put_back(&node, "wal_broken", || aside.exists());
    assert_eq!(inode(), before, "the log is another file");
    assert!(!aside.exists());
    // Whether etcd worked on it is not known then, so it is not removed, and the next run says so.
    assert!(spent.exists());
    let output = script_on(&node).arg("healthy").output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && text.contains("is there already"), "{text}");
}
