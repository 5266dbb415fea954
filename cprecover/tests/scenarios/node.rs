//! A healthy node of the drill's, with what a test needs to break it and to look at it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use cprecover::NodeOptions;
use cprecover::cri::{self, RuntimeState};
use cprecover::model::Component;
use cprecover::sys::{Deadline, SystemCommands};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::namespace::Namespace;

/// What identifies a file that nobody touched: inode, size, mtime in nanoseconds.
pub(crate) type Touched = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

/// How long a step of a test's own may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Node {
    pub(crate) root: PathBuf,
    pub(crate) ports: Value,
    pub(crate) namespace: Namespace,
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Waits until something is so.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what} did not come true within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn kinds(report: &Value) -> Vec<&str> {
    let steps = report["steps"].as_array().expect("steps");
    steps.iter().map(|step| step["action"]["kind"].as_str().expect("kind")).collect()
}

pub(crate) fn state(report: &Value) -> &str {
    report["ending"]["state"].as_str().expect("state")
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("positive"), signal).expect("signal");
}

/// The state letter of a process; none when it is gone.
pub(crate) fn letter(pid: i32) -> Option<char> {
    Some(procfs::process::Process::new(pid).ok()?.stat().ok()?.state)
}

impl Node {
    /// A healthy node with the stand-in etcd.
    pub(crate) fn healthy() -> Self {
        Self::built(&["--stand-in"])
    }

    pub(crate) fn built(args: &[&str]) -> Self {
        let namespace = Namespace::new();
        let mut command = namespace.command(env!("CARGO_BIN_EXE_cprecover"));
        let output = command.args(["drill", "--build-only", "-o", "json"]).args(args).output().expect("runs");
        let built = json(&output);
        let root = built["root"].as_str().expect("root").into();
        let node = Self { root, ports: built["ports"].clone(), namespace };
        node.wait_until_healthy();
        node
    }

    pub(crate) fn port(&self, name: &str) -> u64 {
        self.ports[name].as_u64().expect("port")
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = self.namespace.command(env!("CARGO_BIN_EXE_cprecover"));
        command.arg("--root").arg(&self.root).args(args).output().expect("the program runs")
    }

    /// Runs `recover --yes` and returns its exit code and report.
    pub(crate) fn recover(&self, more: &[&str]) -> (i32, Value) {
        let mut args = vec!["recover", "--yes", "-o", "json"];
        args.extend(more);
        let output = self.run(&args);
        (output.status.code().expect("ends by itself"), json(&output))
    }

    /// Recovers and expects a healthy node, with every step done; returns the report.
    pub(crate) fn recovers(&self) -> Value {
        let (code, report) = self.recover(&["--timeout", "120"]);
        assert_eq!((code, state(&report)), (0, "healthy"), "{report:#}");
        self.audit_is_whole();
        report
    }

    /// Recovers and expects that a person is called, and that nothing at all was done; returns why.
    pub(crate) fn calls_a_person(&self, seconds: &str) -> (String, Value) {
        let (code, report) = self.recover(&["--timeout", seconds]);
        assert!([3, 4].contains(&code), "{code}: {report:#}");
        assert_eq!(kinds(&report), Vec::<&str>::new(), "{report:#}");
        let reason = report["ending"]["reason"].as_str().unwrap_or_default().to_owned();
        (reason, report)
    }

    pub(crate) fn audit_is_whole(&self) {
        let audit = self.run(&["audit", "verify"]);
        assert_eq!(audit.status.code(), Some(0), "{}", String::from_utf8_lossy(&audit.stderr));
    }

    pub(crate) fn wait_until_healthy(&self) {
        wait("a healthy node", || self.run(&["recover", "--dry-run"]).status.code() == Some(0));
    }

    pub(crate) fn options(&self) -> NodeOptions {
        NodeOptions::load(&self.root).expect("options")
    }

    pub(crate) fn runtime(&self) -> RuntimeState {
        let deadline = Deadline::after(Duration::from_secs(10));
        let options = self.options();
        let runtime = cri::connect(&options, &SystemCommands, &deadline).expect("runtime");
        runtime.list(&deadline).expect("list")
    }

    /// Container ids of the components that run.
    pub(crate) fn containers(&self) -> BTreeMap<Component, String> {
        let state = self.runtime();
        let newest = |component| {
            let running = state.component_containers(component).into_iter().find(|one| one.is_running());
            running.map(|container| (component, container.id.to_string()))
        };
        Component::ALL.into_iter().filter_map(newest).collect()
    }

    pub(crate) fn runs(&self, component: Component) -> bool {
        self.containers().contains_key(&component)
    }

    /// The process of a component's running container, and of that one's parent.
    pub(crate) fn process(&self, component: Component) -> (i32, i32) {
        let deadline = Deadline::after(Duration::from_secs(10));
        let options = self.options();
        let runtime = cri::connect(&options, &SystemCommands, &deadline).expect("runtime");
        let state = runtime.list(&deadline).expect("list");
        let running = state.component_containers(component).into_iter().find(|one| one.is_running());
        let id = &running.expect("runs").id;
        let pid = runtime.container_detail(id, &deadline).expect("detail").pid.expect("pid").get();
        let parent =
            procfs::process::Process::new(pid).and_then(|process| process.stat()).expect("stat").ppid;
        (pid, parent)
    }

    /// Kills etcd's supervisor and stops etcd itself, as in the outage; returns the orphan's pid.
    pub(crate) fn orphan_etcd(&self) -> i32 {
        let (pid, shim) = self.process(Component::Etcd);
        signal(pid, Signal::STOP);
        signal(shim, Signal::KILL);
        self.wait_for_log("address already in use");
        pid
    }

    /// Waits for a line in any container's log.
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait(text, || {
            let mut folders = vec![self.root.join("var/log/pods")];
            while let Some(folder) = folders.pop() {
                for path in folder.read_dir().into_iter().flatten().filter_map(Result::ok).map(|e| e.path()) {
                    if path.is_dir() {
                        folders.push(path);
                    } else if std::fs::read_to_string(&path).is_ok_and(|log| log.contains(text)) {
                        return true;
                    }
                }
            }
            false
        });
    }

    pub(crate) fn daemon(&self, verb: &str, name: &str) {
        let output = self.run(&["double", "daemon", verb, name]);
        assert!(output.status.success(), "{verb} {name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn manifest(&self, component: Component) -> PathBuf {
        self.root.join("etc/kubernetes/manifests").join(component.manifest_file())
    }

    pub(crate) fn read(&self, component: Component) -> Vec<u8> {
        std::fs::read(self.manifest(component)).expect("manifest")
    }

    /// Takes a component's manifest out and waits for the end of its container; returns the manifest.
    pub(crate) fn lose(&self, component: Component) -> Vec<u8> {
        let bytes = self.read(component);
        std::fs::remove_file(self.manifest(component)).expect("remove");
        wait("the end of the container", || !self.runs(component));
        bytes
    }

    /// Writes a file of the manifests folder as a person with an editor would: whole, under its name.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let folder = self.root.join("etc/kubernetes/manifests");
        std::fs::write(folder.join(".edited"), bytes).expect("write");
        std::fs::rename(folder.join(".edited"), folder.join(name)).expect("rename");
    }

    /// Everything below these folders of the root.
    pub(crate) fn touched(&self, folders: &[&str]) -> Touched {
        let mut seen = Touched::new();
        for folder in folders {
            walk(&self.root.join(folder), &mut seen);
        }
        // The lock names its owner; taking it is no change of the node.
        let changes = ["engine.lock", "audit.jsonl", "audit.end.json"];
        seen.retain(|path, _| !changes.iter().any(|name| path.ends_with(name)));
        seen
    }

    /// What no recovery that only calls a person may change: configuration, manifests, keys, data.
    pub(crate) fn everything(&self) -> Touched {
        let mut seen = self.touched(&["etc", "var/lib/cprecover", "var/lib/kubelet"]);
        // The store's folder itself changes with the lock and the audit log in it.
        seen.remove(&self.root.join("var/lib/cprecover"));
        seen
    }

    /// Whether any snapshot or held file of the store has this content.
    pub(crate) fn store_has(&self, bytes: &[u8]) -> bool {
        let mut seen = Touched::new();
        walk(&self.root.join("var/lib/cprecover"), &mut seen);
        walk(&self.root.join("etc/kubernetes/manifests"), &mut seen);
        seen.into_keys().any(|path| std::fs::read(path).is_ok_and(|content| content == bytes))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut command = self.namespace.command(env!("CARGO_BIN_EXE_cprecover"));
        let output = command.args(["drill", "--clean"]).arg(&self.root).output().expect("runs");
        assert!(
            output.status.success() || std::thread::panicking(),
            "clean-up failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn walk(path: &Path, seen: &mut Touched) {
    let meta = path.symlink_metadata().expect("metadata");
    seen.insert(path.to_owned(), (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()));
    if meta.is_dir() {
        for entry in path.read_dir().expect("list") {
            walk(&entry.expect("entry").path(), seen);
        }
    }
}
