//! A node with a stand-in runtime, for tests: everything that it starts is ended with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::cri::wire::{self, Client};
use cprecover::cri::{ContainerDetail, ContainerState, Runtime, connect};
use cprecover::model::{ContainerId, SandboxId};
use cprecover::sys::{Deadline, SystemCommands};
use cprecover::{NodeOptions, Result};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_cprecover");

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

pub(crate) struct Node {
    dir: tempfile::TempDir,
    runtime: Option<Child>,
    pub(crate) client: Client,
}

impl Node {
    pub(crate) fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let client = Client::new(dir.path().join("run/containerd/containerd.sock"));
        let mut node = Self { dir, runtime: None, client };
        node.start_runtime(options);
        node
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn options(&self) -> NodeOptions {
        NodeOptions::at(self.root()).expect("absolute")
    }

    pub(crate) fn runtime(&self) -> Box<dyn Runtime + 'static> {
        connect(&self.options(), &SystemCommands, &soon()).expect("the runtime answers")
    }

    pub(crate) fn start_runtime(&mut self, options: &[&str]) {
        let child = Command::new(PROGRAM)
            .arg("--root")
            .arg(self.root())
            .args(["double", "runtime", "--socket"])
            .arg(self.client.socket())
            .args(options)
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        self.runtime = Some(child);
        eventually("the runtime answers", || {
            self.call::<_, wire::VersionResponse>("Version", wire::VersionRequest::default()).is_ok()
        });
    }

    /// Ends the runtime as systemd does: SIGTERM, and everything else stays.
    pub(crate) fn stop_runtime(&mut self) {
        let mut child = self.runtime.take().expect("runs");
        signal(i32::try_from(child.id()).expect("a pid"), rustix::process::Signal::TERM);
        child.wait().expect("ends");
    }

    pub(crate) fn call<Q, A>(&self, method: &str, request: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.client.call(method, method, request, &soon())
    }

    pub(crate) fn sandbox(&self, uid: &str, attempt: u32) -> SandboxId {
        SandboxId::new(self.try_sandbox(uid, attempt).expect("a sandbox").pod_sandbox_id)
    }

    pub(crate) fn try_sandbox(&self, uid: &str, attempt: u32) -> Result<wire::RunPodSandboxResponse> {
        let annotations = [
            ("kubernetes.io/config.hash", uid),
            ("kubernetes.io/config.seen", "2026-11-24T00:00:00Z"),
            ("kubernetes.io/config.source", "file"),
        ];
        let config = wire::PodSandboxConfig {
            metadata: Some(wire::PodSandboxMetadata {
                name: "etcd-cp1".into(),
                uid: uid.into(),
                namespace: "kube-system".into(),
                attempt,
            }),
            log_directory: format!("/var/log/pods/kube-system_etcd-cp1_{uid}"),
            labels: strings(&[("component", "etcd"), ("tier", "control-plane")]),
            annotations: strings(&annotations),
            ..Default::default()
        };
        let request = wire::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        self.call("RunPodSandbox", request)
    }

    /// Creates and starts `etcd` in a sandbox, running a shell script.
    pub(crate) fn container(&self, sandbox: &SandboxId, attempt: u32, script: &str) -> ContainerId {
        let created = self.create(sandbox, attempt, &["/bin/sh", "-c", script]).expect("created");
        let request = wire::StartContainerRequest { container_id: created.container_id.clone() };
        self.call::<_, wire::StartContainerResponse>("StartContainer", request).expect("starts");
        ContainerId::new(created.container_id)
    }

    pub(crate) fn create(
        &self,
        sandbox: &SandboxId,
        attempt: u32,
        command: &[&str],
    ) -> Result<wire::CreateContainerResponse> {
        let mount = |path: &str| wire::Mount {
            container_path: path.into(),
            host_path: path.into(),
            ..Default::default()
        };
        let config = wire::ContainerConfig {
            metadata: Some(wire::ContainerMetadata { name: "etcd".into(), attempt }),
            image: Some(wire::ImageSpec {
                image: "registry.k8s.io/etcd:3.6.8-0".into(),
                ..Default::default()
            }),
            command: command.iter().map(|&text| text.to_owned()).collect(),
            envs: vec![wire::KeyValue { key: "GREETING".into(), value: "hello".into() }],
            mounts: vec![mount("/var/lib/etcd"), mount("/etc/kubernetes/pki/etcd")],
            labels: strings(&[("io.kubernetes.container.name", "etcd")]),
            annotations: strings(&[("io.kubernetes.container.restartCount", &attempt.to_string())]),
            log_path: format!("etcd/{attempt}.log"),
            ..Default::default()
        };
        let request = wire::CreateContainerRequest {
            pod_sandbox_id: sandbox.as_str().into(),
            config: Some(config),
            sandbox_config: None,
        };
        self.call("CreateContainer", request)
    }

    pub(crate) fn detail(&self, id: &ContainerId) -> ContainerDetail {
        self.runtime().container_detail(id, &soon()).expect("a status")
    }

    pub(crate) fn wait_for_exit(&self, id: &ContainerId) -> ContainerDetail {
        eventually("the container ends", || self.detail(id).state == ContainerState::Exited);
        self.detail(id)
    }

    pub(crate) fn log(&self, uid: &str, attempt: u32) -> PathBuf {
        self.root().join(format!("var/log/pods/kube-system_etcd-cp1_{uid}/etcd/{attempt}.log"))
    }

    /// Returns the shim of a sandbox: the parent of its container.
    pub(crate) fn shim_of(&self, container: &ContainerId) -> i32 {
        parent(self.detail(container).pid.expect("runs").get())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let cleaned =
            Command::new(PROGRAM).arg("--root").arg(self.root()).args(["double", "runtime-cleanup"]).status();
        if let Some(mut child) = self.runtime.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() {
            assert!(cleaned.expect("the clean-up runs").success(), "the clean-up succeeds");
        }
    }
}

pub(crate) fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("not 0");
    rustix::process::kill_process(pid, signal).expect("the process is there");
}

/// Returns the parent of a process.
pub(crate) fn parent(pid: i32) -> i32 {
    procfs::process::Process::new(pid).expect("is there").stat().expect("is readable").ppid
}

/// Reports whether a process runs; a zombie does not.
pub(crate) fn runs(pid: i32) -> bool {
    let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.state != 'Z')
}

pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
