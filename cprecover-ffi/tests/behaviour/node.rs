//! Nodes to test on: one folder with manifests, or the drill's, broken as in the outage.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cprecover::sys::Deadline;
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

/// A real etcd on loopback, named by the manifest of a [`Site`].
pub(crate) struct Member {
    etcd: Child,
}

impl Member {
    /// Starts it; `None`, and a line that says why, where there is no etcd.
    pub(crate) fn start(site: &Site) -> Option<Self> {
        let address = || TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let (client, peer) = (address(), address());
        let manifest = ETCD.replace(
            "--listen-peer-urls",
            &format!("--listen-client-urls=http://{client}, --listen-peer-urls"),
        );
        std::fs::write(site.manifest(), manifest).expect("a manifest");
        let etcd = Command::new("/usr/bin/etcd")
            .arg(format!("--data-dir={}", site.root().join("data").display()))
            .args([
                format!("--listen-client-urls=http://{client}"),
                format!("--advertise-client-urls=http://{client}"),
            ])
            .args([
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
            ])
            .arg(format!("--initial-cluster=default=http://{peer}"))
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let mut member = match etcd {
            Ok(etcd) => Self { etcd },
            Err(error) => {
                eprintln!("SKIPPED: saving a member: /usr/bin/etcd: {error} (Debian package etcd-server)");
                return None;
            }
        };
        let node = cprecover::NodeOptions::load(site.root()).expect("a node");
        let asked = cprecover::etcd::Client::of_manifest(&node).expect("a client");
        for _ in 0..300 {
            std::thread::sleep(Duration::from_millis(100));
            if asked.status(&Deadline::after(Duration::from_secs(5))).is_ok_and(|now| now.leader.is_some()) {
                return Some(member);
            }
            assert!(member.etcd.try_wait().expect("its own child").is_none(), "etcd ended");
        }
        panic!("etcd has no leader after 30 s");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.etcd.kill().expect("its own child");
        self.etcd.wait().expect("its own child");
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
