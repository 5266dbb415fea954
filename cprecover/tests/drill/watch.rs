//! The watch on a node that breaks: it says so, recovers when told to, and keeps what works afterwards.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::node::{Node, busy, json};

struct Watch {
    child: Child,
    events: Receiver<Value>,
}

impl Watch {
    fn start(node: &Node, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cprecover"))
            .args(["--root", node.root(), "-o", "json", "watch", "--every", "1", "--timeout", "240"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let stdout: ChildStdout = child.stdout.take().expect("piped");
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).expect("one JSON object a line");
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, events }
    }

    /// The next event of that kind, with those before it.
    fn until(&self, kind: &str) -> (Value, Vec<String>) {
        let started = Instant::now();
        let mut before = Vec::new();
        while started.elapsed() < Duration::from_mins(2) {
            let Ok(event) = self.events.recv_timeout(Duration::from_secs(5)) else { continue };
            assert_eq!(event["schema"], "cprecover.dev/watch-event/v1");
            let name = event["event"].as_str().expect("kind").to_owned();
            if name == kind {
                return (event, before);
            }
            before.push(name);
        }
        panic!("no {kind} in time, but {before:?}");
    }

    fn end(&mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signal");
        self.child.wait().expect("ends").code()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_recovers_when_told_to_and_keeps_what_works() {
    let _busy = busy();
    let node = Node::broken();
    let mut watch = Watch::start(&node, &["--recover", "--sick-after", "2"]);
    let (unhealthy, before) = watch.until("unhealthy");
    assert!(before.is_empty(), "{before:?}");
    assert!(unhealthy["look"]["notProven"].to_string().contains("missing"), "{unhealthy:#}");
    let (recovered, _) = watch.until("recovered");
    assert_eq!(recovered["report"]["ending"]["state"], "healthy", "{recovered:#}");
    let (backup, _) = watch.until("backed-up");
    let first = backup["snapshot"].as_str().expect("id").to_owned();

    let manifest = node.manifests().join("kube-scheduler.yaml");
    let mut text = std::fs::read_to_string(&manifest).expect("read");
    text.push_str("# looked at by a person\n");
    let new = node.manifests().join(".kube-scheduler.new");
    std::fs::write(&new, text).expect("write");
    std::fs::rename(&new, &manifest).expect("rename");
    watch.until("changed");
    let (backup, _) = watch.until("backed-up");
    assert_ne!(backup["snapshot"].as_str(), Some(first.as_str()), "the change is in a snapshot of its own");
    assert_eq!(watch.end(), Some(0));
}

/// A process that hangs until this is dropped, however the test ends.
struct Hung(rustix::process::Pid);

impl Hung {
    fn kubelet(node: &Node) -> Self {
        let text = std::fs::read(node.root.join("run/kubelet.pid")).expect("read");
        let started: Value = serde_json::from_slice(&text).expect("JSON");
        let pid = started["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("positive");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it runs");
        Self(pid)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::CONT);
    }
}

#[test]
fn a_watch_calls_nothing_good_that_a_kubelet_that_hangs_never_ran() {
    let _busy = busy();
    let node = Node::broken();
    assert_eq!(node.run(&["recover", "--yes"]).status.code(), Some(0));
    let mut watch = Watch::start(&node, &[]);
    watch.until("backed-up");
    let hung = Hung::kubelet(&node);
    let manifest = node.manifests().join("kube-apiserver.yaml");
    let text = std::fs::read_to_string(&manifest).expect("read");
    let misspelt = text.replace("--secure-port=", "--no-such-flag=1\n    - --secure-port=");
    assert_ne!(misspelt, text);
    std::fs::write(node.manifests().join(".new"), misspelt).expect("write");
    std::fs::rename(node.manifests().join(".new"), &manifest).expect("rename");
    watch.until("changed");
    let (failed, before) = watch.until("backup-failed");
    assert!(!before.iter().any(|event| event == "backed-up"), "{before:?}");
    let reason = failed["reason"].as_str().expect("text");
    assert!(reason.contains("kube-apiserver.yaml") && reason.contains("--no-such-flag"), "{reason}");
    let verified = |id: &str| -> bool {
        let listed = json(&node.run(&["backup", "list", "-o", "json"]));
        let all = listed["snapshots"].as_array().expect("snapshots").clone();
        let found = all.iter().find(|snapshot| snapshot["id"] == id).expect("it is kept all the same");
        found["snapshot"]["healthVerified"] == true
    };
    let id = reason
        .split_whitespace()
        .nth(reason.split_whitespace().position(|w| w == "snapshot").expect("id") + 1);
    assert!(!verified(id.expect("id")), "{reason}");
    drop(hung);
    let (backup, _) = watch.until("backed-up");
    assert!(verified(backup["snapshot"].as_str().expect("id")));
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn a_watch_without_a_word_only_watches() {
    let _busy = busy();
    let node = Node::broken();
    let before = node.touched();
    let mut watch = Watch::start(&node, &["--sick-after", "2"]);
    watch.until("unhealthy");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(watch.end(), Some(3), "the node is not healthy");
    assert_eq!(node.touched(), before);
    assert!(node.orphan_lives());
}

/// stdout is a full disk or a terminal that went away; the watch was started to keep a node alive.
#[test]
fn a_watch_that_cannot_print_goes_on_recovering_and_keeping_what_works() {
    let _busy = busy();
    let node = Node::broken();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("opens");
    let mut child = Command::new(env!("CARGO_BIN_EXE_cprecover"))
        .args([
            "--root",
            node.root(),
            "watch",
            "--recover",
            "--every",
            "1",
            "--sick-after",
            "2",
            "--timeout",
            "60",
        ])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let started = Instant::now();
    let kept = || {
        let listed = json(&node.run(&["backup", "list", "-o", "json"]));
        let all = listed["snapshots"].as_array().expect("snapshots").clone();
        all.iter()
            .any(|listed| listed["snapshot"]["reason"].as_str().is_some_and(|why| why.starts_with("watch")))
    };
    while !kept() {
        assert!(started.elapsed() < Duration::from_secs(50), "no backup");
        assert_eq!(child.try_wait().expect("waits"), None, "it ended");
        std::thread::sleep(Duration::from_millis(200));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.matches("cannot be printed").count(), 1, "{told}");
}
