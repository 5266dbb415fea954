//! The watch on a node that breaks: it says so, recovers when told to, and keeps what works afterwards.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::node::{Node, busy};

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
