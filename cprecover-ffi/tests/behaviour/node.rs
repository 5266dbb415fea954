//! Nodes to test on: one folder with manifests, or the drill's, broken as in the outage.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A manifest that kubeadm could have written.
pub(crate) const ETCD: &str = "apiVersion: v1
kind: Pod
metadata: {name: etcd, namespace: kube-system, labels: {component: etcd, tier: control-plane}}
spec:
  hostNetwork: true
  containers:
  - name: etcd
    image: registry.k8s.io/etcd:3.5.15-0
    command: [etcd, --listen-peer-urls=https://127.0.0.1:1, --data-dir=/var/lib/etcd]
";

/// A root with one manifest and nothing that runs.
pub(crate) struct Site {
    root: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { root: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir_all(site.manifests()).expect("manifests");
        std::fs::write(site.manifest(), ETCD).expect("a manifest");
        site
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.root().join("etc/kubernetes/manifests")
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.manifests().join("etcd.yaml")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root().join("var/lib/cprecover")
    }
}

/// The drill's node: its own etcd, API server, runtime and kubelet, broken as in the outage.
pub(crate) struct Broken {
    program: PathBuf,
    root: PathBuf,
}

impl Broken {
    /// Builds and breaks a node; `None`, and a line that says why, where that cannot be done.
    pub(crate) fn new() -> Option<Self> {
        let program = program()?;
        let output = Command::new(&program)
            .args(["drill", "--break-only", "--stand-in", "-o", "json"])
            .output()
            .expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "no broken node: {text}\n{log}");
        let broken: Value = serde_json::from_str(&text).expect("JSON");
        Some(Self { program, root: broken["root"].as_str().expect("a root").into() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        let ended = Command::new(&self.program).args(["drill", "--clean"]).arg(&self.root).output();
        let ended = ended.expect("the program runs");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        let root = self.root.display();
        assert!(ended.status.success() || std::thread::panicking(), "{root} is left: {stderr}");
    }
}

/// Cargo puts the program two folders above this test, when it was built.
fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("own path");
    let program = test.parent()?.parent()?.join("cprecover");
    if !program.is_file() {
        eprintln!(
            "SKIPPED: the drill's node: no {} (cargo build -p cprecover --features cli)",
            program.display()
        );
        return None;
    }
    Some(program)
}
