//! `cprecover port` against a stand-in runtime and a real etcd in a kubepods cgroup: the outage's holders.
#![cfg(feature = "cli")]
#![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "the node's helpers are those of the runtime's tests")]

#[path = "cri/node.rs"]
mod node;
mod ports_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cprecover::cri::wire;
use cprecover::model::{ContainerId, Port, SandboxId};
use cprecover::ports::Query;
use cprecover::recover::{AuditLog, Entry, NodeLock};
use node::{Node, eventually, runs, signal};
use ports_support::{self as support, Cgroup, Spawn, free_port, skip};
use rustix::process::Signal;
use serde_json::Value;

const UID: &str = "b861a3bef24128f124b376302f365ff0";
const OTHER: &str = "e8a1f3842d0848ca37646440e3b5690d";
const ETCD: &str = "/usr/bin/etcd";

#[test]
#[ignore = "not a test: what helper processes run"]
fn helper_role() {
    support::play_role(|role| panic!("unknown role {role:?}"));
}

/// A node whose runtime puts containers into kubepods cgroups, and the ports of its etcd.
struct Stage {
    node: Node,
    client: Port,
    peer: Port,
    metrics: Port,
}

impl Stage {
    /// Builds it; `None`, with a loud reason, where this machine cannot.
    fn new(test: &str) -> Option<Self> {
        if !support::is_root() {
            skip(test, "not root: no cgroups");
            return None;
        }
        if !Path::new(ETCD).exists() {
            skip(test, "no /usr/bin/etcd (Debian etcd-server)");
            return None;
        }
        let prefix = format!("cprecover-cli-{}-{}", std::process::id(), free_port());
        let node = Node::start(&["--cgroup-prefix", &prefix]);
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        if !mounts.iter().any(|mount| mount.join(&prefix).is_dir()) {
            skip(test, "no writable cgroup v2 hierarchy");
            return None;
        }
        let stage = Self { node, client: free_port(), peer: free_port(), metrics: free_port() };
        let folder = stage.node.root().join("etc/kubernetes/manifests");
        std::fs::create_dir_all(&folder).expect("mkdir");
        std::fs::write(folder.join("etcd.yaml"), stage.manifest()).expect("writes");
        Some(stage)
    }

    fn command(&self) -> Vec<String> {
        let (client, peer, metrics) = (self.client, self.peer, self.metrics);
        vec![
            "/usr/bin/etcd".into(),
            "--name=cp1".into(),
            "--data-dir=/var/lib/etcd".into(),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=cp1=http://127.0.0.1:{peer}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
        ]
    }

    fn manifest(&self) -> String {
        let command: Vec<String> = self.command().iter().map(|word| format!("    - {word}\n")).collect();
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd\n  namespace: kube-system\n  labels:\n    \
             component: etcd\nspec:\n  hostNetwork: true\n  containers:\n  - name: etcd\n    \
             image: registry.k8s.io/etcd:3.5.1-0\n    command:\n{}    volumeMounts:\n    - mountPath: /var/lib/etcd\n      \
             name: data\n  volumes:\n  - hostPath:\n      path: /var/lib/etcd\n      type: DirectoryOrCreate\n    name: data\n",
            command.concat().replace("/usr/bin/etcd", "etcd")
        )
    }

    /// Starts etcd in a container of `sandbox` and waits until it is healthy; returns its pid too.
    fn etcd(&self, sandbox: &SandboxId) -> (ContainerId, i32) {
        let words = self.command();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let created = self.node.create(sandbox, 0, &words).expect("created");
        let request = wire::StartContainerRequest { container_id: created.container_id.clone() };
        self.node.call::<_, wire::StartContainerResponse>("StartContainer", request).expect("starts");
        let container = ContainerId::new(created.container_id);
        eventually("etcd is healthy", || {
            let metrics = self.metrics.to_string();
            self.port(&["who", &metrics]).1["holders"][0]["healthy"]["value"] == true
        });
        let pid = self.node.detail(&container).pid.expect("runs").get();
        (container, pid)
    }

    /// Runs `cprecover -o json port …` on this node.
    fn port(&self, args: &[&str]) -> (Output, Value) {
        let output = self.run(&[&["-o", "json", "port"], args].concat());
        let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output, value)
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(node::PROGRAM)
            .arg("--root")
            .arg(self.node.root())
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("runs")
    }

    fn store(&self) -> PathBuf {
        self.node.options().store()
    }

    /// The events in the audit log.
    fn audit(&self) -> Vec<String> {
        let log = AuditLog::read_if_any(&self.store()).expect("an unbroken log");
        let event = |entry: &Entry| serde_json::to_value(entry).expect("serialises")["event"].clone();
        log.iter().filter_map(|entry| event(entry).as_str().map(str::to_owned)).collect()
    }

    fn database(&self) -> PathBuf {
        self.node.root().join("var/lib/etcd").join(cprecover::ports::DATABASE)
    }

    /// Checks that the program refuses to free the peer port, and that the holder lives on.
    #[track_caller]
    fn refused(&self, pid: i32, args: &[&str]) -> Value {
        let peer = self.peer.to_string();
        let (output, answer) = self.port(&[&["free", &peer, "--grace", "1s"], args].concat());
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert_eq!(answer["free"], false, "{answer}");
        assert!(runs(pid), "{answer}");
        answer
    }
}

fn words(holder: &Value) -> String {
    let facts = holder["evidence"].as_array().expect("evidence");
    facts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_orphan_is_named_rehearsed_and_ended() {
    let Some(stage) = Stage::new("an_orphan_is_named_rehearsed_and_ended") else { return };
    let sandbox = stage.node.sandbox(UID, 0);
    let (container, pid) = stage.etcd(&sandbox);
    let peer = stage.peer.to_string();

    // While the runtime looks after it, it is nobody's to end.
    let answer = stage.refused(pid, &["--expect", "etcd", "--yes"]);
    assert_eq!(answer["holders"][0]["holder"]["letter"], "a", "{answer}");

    signal(stage.node.shim_of(&container), Signal::KILL);
    stage.node.wait_for_exit(&container);
    eventually("PID 1 adopts etcd", || node::parent(pid) == 1);
    let (output, answer) = stage.port(&["who", &peer, "--addr", "127.0.0.1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let holder = &answer["holders"][0];
    assert_eq!((&holder["pid"], &holder["letter"]), (&Value::from(pid), &Value::from("c")), "{answer}");
    assert_eq!(
        (&holder["class"]["kind"], &holder["action"]["kind"]),
        (&"orphan".into(), &"terminate".into())
    );
    assert_eq!(holder["proof"], "cgroup");
    // It answers that it is healthy, and is an orphan all the same.
    assert_eq!(holder["healthy"]["value"], true, "{holder}");
    let said = words(holder);
    for fact in [
        format!("container {container}"),
        "the runtime calls its container".into(),
        "its parent is pid 1".into(),
        "it holds the lock on".into(),
        "its database is the one below the manifest's data directory".into(),
        "it answers that it is healthy".into(),
        format!("it listens on 127.0.0.1:{peer}"),
    ] {
        assert!(said.contains(&fact), "{fact:?} is missing in\n{said}");
    }

    // A stopped one hangs: evidence, and no other verdict.
    signal(pid, Signal::STOP);
    let (_, answer) = stage.port(&["who", &peer]);
    let holder = &answer["holders"][0];
    assert_eq!((&holder["healthy"]["state"], &holder["letter"]), (&"absent".into(), &"c".into()), "{holder}");
    assert!(words(holder).contains("it does not answer a health question"), "{holder}");
    signal(pid, Signal::CONT);

    stage.refused(pid, &["--expect", "kube-apiserver", "--yes"]);
    stage.refused(pid, &["--expect", "etcd"]);
    let (output, answer) = stage.port(&["free", &peer, "--expect", "etcd", "--dry-run", "--yes"]);
    assert_eq!((output.status.code(), &answer["dryRun"]), (Some(0), &Value::from(true)), "{output:?}");
    assert_eq!(answer["holders"][0]["outcome"]["outcome"], "would-end", "{answer}");
    assert!(runs(pid), "a dry run ends nobody");

    // It is healthy and the only member: etcd needs it, and without it there is no quorum.
    let answer = stage.refused(pid, &["--expect", "etcd", "--yes"]);
    assert!(answer["holders"][0]["summary"].as_str().is_some_and(|text| text.contains("quorum")), "{answer}");
    assert_eq!(stage.audit(), ["begin", "end"], "what was refused is told");

    // Nobody else may work on the node meanwhile.
    let lock = NodeLock::acquire(&stage.store()).expect("free");
    let (output, _) = stage.port(&["free", &peer, "--expect", "etcd", "--yes", "--without-quorum"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(runs(pid) && stage.audit().len() == 2, "{output:?}");
    drop(lock);

    let end = ["free", &peer, "--expect", "etcd", "--grace", "20s", "--yes", "--without-quorum"];
    let (output, answer) = stage.port(&end);
    assert_eq!((output.status.code(), &answer["free"]), (Some(0), &Value::from(true)), "{output:?} {answer}");
    let outcome = &answer["holders"][0]["outcome"];
    assert_eq!(
        (&outcome["outcome"], &outcome["release"]["lock"]),
        (&"ended".into(), &"free".into()),
        "{answer}"
    );
    assert_eq!(stage.audit(), ["begin", "end", "begin", "not-saved", "end"], "{answer}");
    // The manifest's image is one whose data a SIGKILL may corrupt.
    assert!(outcome["notes"][0].as_str().is_some_and(|note| note.contains("3.5.1")), "{answer}");
    assert!(!runs(pid));
    assert!(cprecover::ports::lock_is_free(&stage.database()).expect("reads"));
    let (output, answer) = stage.port(&["free", &peer, "--yes"]);
    assert_eq!((output.status.code(), &answer["free"]), (Some(0), &Value::from(true)), "{output:?}");
}

#[test]
fn a_stale_sandbox_is_removed_through_the_runtime_and_nobody_is_signalled_by_us() {
    let name = "a_stale_sandbox_is_removed_through_the_runtime_and_nobody_is_signalled_by_us";
    let Some(stage) = Stage::new(name) else { return };
    let old = stage.node.sandbox(UID, 0);
    let (_, pid) = stage.etcd(&old);
    let new = stage.node.sandbox(OTHER, 0);
    let peer = stage.peer.to_string();

    let output = stage.run(&["port", "who", &peer]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let first = text.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        format!(
            "pid {pid} etcd: (b) a container of sandbox {old}, which {new} replaced; that sandbox has to be \
             removed through the runtime"
        ),
        "{text}"
    );

    let (output, answer) = stage.port(&["free", &peer, "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        answer["holders"][0]["summary"].as_str().is_some_and(|text| text.contains(old.as_str())),
        "{answer}"
    );
    stage.refused(pid, &[]);
    assert_eq!(stage.node.runtime().list(&node::soon()).expect("lists").sandboxes.len(), 2);

    stage.refused(pid, &["--expect", "etcd", "--yes"]);
    let (output, answer) = stage.port(&["free", &peer, "--expect", "etcd", "--yes", "--without-quorum"]);
    assert_eq!((output.status.code(), &answer["free"]), (Some(0), &Value::from(true)), "{output:?} {answer}");
    assert_eq!(stage.audit(), ["begin", "end", "begin", "not-saved", "end"], "{answer}");
    let done = &answer["holders"][0];
    assert_eq!(done["removedSandbox"], old.as_str(), "{answer}");
    assert!(done.get("outcome").is_none(), "no signal of ours: {answer}");
    assert!(!runs(pid));
    let left: Vec<SandboxId> = stage
        .node
        .runtime()
        .list(&node::soon())
        .expect("lists")
        .sandboxes
        .into_iter()
        .map(|s| s.id)
        .collect();
    assert_eq!(left, [new]);
    // It had its grace time: SIGKILL under load may cost an etcd its data.
    let log = std::fs::read_to_string(stage.node.log(UID, 0)).expect("its log");
    assert!(log.contains("received terminated signal"), "{log}");
}

#[test]
fn without_the_runtime_nobody_is_ended() {
    let Some(mut stage) = Stage::new("without_the_runtime_nobody_is_ended") else { return };
    let sandbox = stage.node.sandbox(UID, 0);
    let (container, pid) = stage.etcd(&sandbox);
    signal(stage.node.shim_of(&container), Signal::KILL);
    stage.node.wait_for_exit(&container);
    stage.node.stop_runtime();
    let answer = stage.refused(pid, &["--expect", "etcd", "--yes"]);
    let holder = &answer["holders"][0]["holder"];
    assert_eq!(holder["class"]["kind"], "unproven", "{answer}");
    assert!(words(holder).contains("nobody can tell a live container from an orphan"), "{answer}");
    // Once it is back, the same process is a proven orphan.
    stage.node.start_runtime(&[]);
    let peer = stage.peer.to_string();
    let (output, answer) = stage.port(&["free", &peer, "--expect", "etcd", "--yes", "--without-quorum"]);
    assert_eq!((output.status.code(), &answer["free"]), (Some(0), &Value::from(true)), "{output:?} {answer}");
    assert!(!runs(pid));
}

#[test]
fn an_etcd_of_a_systemd_unit_is_refused_by_the_units_name() {
    const NAME: &str = "an_etcd_of_a_systemd_unit_is_refused_by_the_units_name";
    let Some(stage) = Stage::new(NAME) else { return };
    let unit = format!("cprecover-test-{}.service", std::process::id());
    let Some(cgroup) = Cgroup::make(&format!("/cprecover-test.slice/{unit}")) else {
        return skip(NAME, "no writable cgroup v2 hierarchy");
    };
    let dir = tempfile::tempdir().expect("temp dir");
    let helper = Spawn::role("listen")
        .named(dir.path(), "etcd")
        .shell(&cgroup.enter())
        .set("CPT_ADDRESS", format!("127.0.0.1:{}", stage.peer))
        .start();
    let pid = support::only_holder(&Query::new(stage.peer)).process.pid;
    assert_eq!(pid, helper.pid);
    for args in [&["--yes"][..], &["--yes", "--expect", "etcd"], &["--dry-run"]] {
        let answer = stage.refused(pid.get(), args);
        let holder = &answer["holders"][0]["holder"];
        assert_eq!(
            (&holder["letter"], &holder["class"]["unit"]),
            (&"d".into(), &Value::from(&*unit)),
            "{answer}"
        );
    }
    let output = stage.run(&["port", "free", &stage.peer.to_string(), "--yes"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains(&format!("it belongs to {unit}; stop that unit instead")), "{text}");
    drop(helper);
}
