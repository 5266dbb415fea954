//! `tests/e2e/run`, which breaks real nodes, on a node of doubles: so that it works when it is needed.

use std::path::PathBuf;
use std::process::Command;

use super::node::Node;

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

#[test]
fn every_scenario_works_on_a_node_of_doubles() {
    let node = Node::healthy();
    let program = env!("CARGO_BIN_EXE_cprecover");
    let root = node.root.to_str().expect("UTF-8");
    let kubelet = |verb: &str| format!("'{program}' --root '{root}' double daemon {verb} kubelet");
    let output = node
        .namespace
        .command(script())
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
        .output()
        .expect("runs");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{errors}");
    let names = [
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
        "hung",
    ];
    for name in names {
        assert!(text.contains(&format!("ok      {name}")), "{name} in {text}");
    }
    for line in text.lines().filter(|line| line.contains("SKIPPED")) {
        eprintln!("{line}");
    }
}
