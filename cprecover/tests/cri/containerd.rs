//! The client against a real containerd: an independent hand at every field number.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cprecover::NodeOptions;
use cprecover::cri::wire::{self, Client};
use cprecover::cri::{ContainerState, SandboxState, connect};
use cprecover::model::{Component, ContainerId, Digest, SandboxId};
use cprecover::sys::SystemCommands;

use crate::node::{eventually, runs, soon, strings};

const UID: &str = "b861a3bef24128f124b376302f365ff0";
const IMAGE: &str = "localhost/pause:1";

// A sandbox in the node's network, which needs no CNI: fields that the library never writes.
#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<Config>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Config {
    #[prost(message, optional, tag = "1")]
    metadata: Option<wire::PodSandboxMetadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(btree_map = "string, string", tag = "6")]
    labels: std::collections::BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "7")]
    annotations: std::collections::BTreeMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<Linux>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Linux {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security_context: Option<Security>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Security {
    #[prost(message, optional, tag = "1")]
    namespace_options: Option<Namespaces>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(int32, tag = "3")]
    ipc: i32,
}

struct Containerd {
    dir: tempfile::TempDir,
    child: Child,
    cgroup: String,
}

impl Containerd {
    /// Starts it below a folder of its own; `Err` says why not.
    fn start() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root runs containerd".into());
        }
        for program in ["containerd", "ctr", "runc", "gcc"] {
            let found = std::env::split_paths("/usr/bin:/usr/sbin:/usr/local/bin")
                .any(|folder| folder.join(program).is_file());
            if !found {
                return Err(format!("{program} is not installed (Debian: containerd, runc, gcc)"));
            }
        }
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path();
        std::fs::create_dir_all(root.join("run/containerd")).expect("mkdir");
        let config = format!(
            "version = 2\nroot = \"{root}/root\"\nstate = \"{root}/state\"\n\
             [grpc]\naddress = \"{root}/run/containerd/containerd.sock\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{IMAGE}\"\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{root}/cni\"\nconf_dir = \"{root}/cni\"\n",
            root = root.display()
        );
        std::fs::write(root.join("config.toml"), config).expect("write");
        let log = std::fs::File::create(root.join("containerd.log")).expect("create");
        let child = Command::new("containerd")
            .arg("-c")
            .arg(root.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starts");
        let cgroup = format!("/cprecover-ctd-{}", std::process::id());
        let containerd = Self { dir, child, cgroup };
        let client = containerd.client();
        eventually("containerd answers", || {
            let request = wire::VersionRequest::default();
            client.call::<_, wire::VersionResponse>("Version", "version", request, &soon()).is_ok()
        });
        containerd.import();
        Ok(containerd)
    }

    fn client(&self) -> Client {
        Client::new(self.dir.path().join("run/containerd/containerd.sock"))
    }

    /// Makes an image of one program that waits, and gives it to containerd.
    fn import(&self) {
        let root = self.dir.path();
        let (source, program) = (root.join("pause.c"), root.join("pause"));
        let text = "#include <unistd.h>\n#include <stdlib.h>\n\
             int main(int n, char **v) { if (n > 1) exit(atoi(v[1])); for (;;) pause(); }\n";
        std::fs::write(&source, text).expect("write");
        let compiled = Command::new("gcc").args(["-static", "-o"]).arg(&program).arg(&source).status();
        assert!(compiled.expect("gcc").success());
        let layer = tar(&[("pause", &std::fs::read(&program).expect("read"))]);
        let config = serde_json::json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Entrypoint": ["/pause"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Digest::of(&layer))] },
        })
        .to_string();
        let manifest =
            serde_json::json!([{ "Config": "c.json", "RepoTags": [IMAGE], "Layers": ["l/layer.tar"] }]);
        let archive = tar(&[
            ("c.json", config.as_bytes()),
            ("l/layer.tar", &layer),
            ("manifest.json", manifest.to_string().as_bytes()),
        ]);
        std::fs::write(root.join("image.tar"), archive).expect("write");
        let imported = Command::new("ctr")
            .arg("-a")
            .arg(root.join("run/containerd/containerd.sock"))
            .args(["-n", "k8s.io", "images", "import"])
            .arg(root.join("image.tar"))
            .stdout(Stdio::null())
            .status();
        assert!(imported.expect("ctr").success());
    }

    fn run_sandbox(&self) -> SandboxId {
        let config = Config {
            metadata: Some(wire::PodSandboxMetadata {
                name: "etcd-cp1".into(),
                uid: UID.into(),
                namespace: "kube-system".into(),
                attempt: 2,
            }),
            log_directory: self.dir.path().join("logs").to_string_lossy().into_owned(),
            labels: strings(&[("component", "etcd")]),
            annotations: strings(&[
                ("kubernetes.io/config.hash", UID),
                ("kubernetes.io/config.source", "file"),
            ]),
            linux: Some(Linux {
                cgroup_parent: format!("{}/kubepods/burstable/pod{UID}", self.cgroup),
                security_context: Some(Security {
                    namespace_options: Some(Namespaces { network: 2, pid: 1, ipc: 2 }),
                }),
            }),
        };
        let request = RunPodSandboxRequest { config: Some(config) };
        let answer: wire::RunPodSandboxResponse =
            self.client().call("RunPodSandbox", "run", request, &soon()).expect("a sandbox");
        SandboxId::new(answer.pod_sandbox_id)
    }

    fn run_container(&self, sandbox: &SandboxId, attempt: u32, args: &[&str]) -> ContainerId {
        let config = wire::ContainerConfig {
            metadata: Some(wire::ContainerMetadata { name: "etcd".into(), attempt }),
            image: Some(wire::ImageSpec { image: IMAGE.into(), ..Default::default() }),
            command: vec!["/pause".into()],
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            labels: strings(&[("io.kubernetes.container.name", "etcd")]),
            annotations: strings(&[("io.kubernetes.container.restartCount", &attempt.to_string())]),
            log_path: format!("etcd-{attempt}.log"),
            ..Default::default()
        };
        let sandbox_config = wire::PodSandboxConfig {
            metadata: Some(wire::PodSandboxMetadata { name: "etcd-cp1".into(), ..Default::default() }),
            log_directory: self.dir.path().join("logs").to_string_lossy().into_owned(),
            linux: Some(wire::LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/kubepods/burstable/pod{UID}", self.cgroup),
            }),
            ..Default::default()
        };
        let request = wire::CreateContainerRequest {
            pod_sandbox_id: sandbox.as_str().into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let client = self.client();
        let created: wire::CreateContainerResponse =
            client.call("CreateContainer", "create", request, &soon()).expect("created");
        let request = wire::StartContainerRequest { container_id: created.container_id.clone() };
        client
            .call::<_, wire::StartContainerResponse>("StartContainer", "start", request, &soon())
            .expect("starts");
        ContainerId::new(created.container_id)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let node = NodeOptions::at(self.dir.path()).expect("absolute");
        if let Ok(runtime) = connect(&node, &SystemCommands, &soon())
            && let Ok(state) = runtime.list(&soon())
        {
            for sandbox in state.sandboxes {
                let _ = runtime.stop_sandbox(&sandbox.id, &soon());
                let _ = runtime.remove_sandbox(&sandbox.id, &soon());
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What containerd mounted for sandboxes that were not removed.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = self.dir.path().to_string_lossy().into_owned();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if point.starts_with(&root) {
                let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
            }
        }
        for hierarchy in cgroup_folders(&self.cgroup) {
            for below in [&*format!("kubepods/burstable/pod{UID}"), "kubepods/burstable", "kubepods", ""] {
                let _ = std::fs::remove_dir(hierarchy.join(below));
            }
        }
    }
}

fn cgroup_folders(name: &str) -> Vec<PathBuf> {
    let mount = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(mount).into_iter().flatten().filter_map(Result::ok);
    let mut all: Vec<PathBuf> = hierarchies.map(|entry| entry.path()).collect();
    all.push(mount.to_path_buf());
    all.into_iter().map(|path| path.join(name.trim_start_matches('/'))).filter(|path| path.is_dir()).collect()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, name, *bytes).expect("fits");
    }
    archive.into_inner().expect("complete")
}

#[test]
fn a_real_containerd_is_understood() {
    if std::env::var_os("CPRECOVER_REAL_CONTAINERD").is_none() {
        eprintln!(
            "SKIPPED: a real containerd; CPRECOVER_REAL_CONTAINERD=1 runs it (Debian: containerd runc)"
        );
        return;
    }
    let containerd = match Containerd::start() {
        Ok(containerd) => containerd,
        Err(reason) => {
            eprintln!("SKIPPED: {reason}");
            return;
        }
    };
    let node = NodeOptions::at(containerd.dir.path()).expect("absolute");
    let runtime = connect(&node, &SystemCommands, &soon()).expect("answers");
    let info = runtime.info(&soon()).expect("tells");
    assert_eq!((info.name.as_str(), info.api_version.as_str()), ("containerd", "v1"));
    assert!(info.is_ready(), "{info:?}");
    let sandbox = containerd.run_sandbox();
    let brief = containerd.run_container(&sandbox, 0, &["7"]);
    let holder = containerd.run_container(&sandbox, 1, &[]);
    let state = runtime.list(&soon()).expect("lists");
    let listed = state.sandbox(&sandbox).expect("is listed");
    assert_eq!((listed.uid.as_str(), listed.attempt, listed.state), (UID, 2, SandboxState::Ready));
    assert_eq!((listed.config_hash(), listed.is_static()), (Some(UID), true));
    assert!(listed.created_at.0 > 1_700_000_000_000_000_000);
    let newest = state.component_containers(Component::Etcd)[0];
    assert_eq!((&newest.id, newest.attempt, newest.restart_count()), (&holder, 1, Some(1)));
    assert_eq!(state.sandbox_of(newest), Some(listed));
    eventually("the brief one ends", || {
        runtime.container_detail(&brief, &soon()).is_ok_and(|detail| detail.exit_code.is_some())
    });
    let detail = runtime.container_detail(&brief, &soon()).expect("a status");
    assert_eq!((detail.state, detail.exit_code, detail.pid), (ContainerState::Exited, Some(7), None));
    assert_eq!(detail.reason.as_deref(), Some("Error"));
    // A container that ends at once may have ended before containerd notes that it started.
    assert!(detail.started_at.is_some() && detail.finished_at.is_some());
    let detail = runtime.container_detail(&holder, &soon()).expect("a status");
    let pid = detail.pid.expect("runs").get();
    assert!(runs(pid));
    let cgroup = format!("{}/kubepods/burstable/pod{UID}/{holder}", containerd.cgroup);
    assert_eq!(detail.cgroups_path.as_deref(), Some(cgroup.as_str()));
    assert!(detail.log_path.expect("has a log").ends_with("logs/etcd-1.log"));
    // `pause` does not handle SIGTERM as PID 1 of its namespace, so the grace passes and SIGKILL follows.
    runtime.stop_container(&holder, Duration::from_secs(1), &soon()).expect("stops");
    assert!(!runs(pid));
    runtime.remove_container(&holder, &soon()).expect("removes");
    runtime.remove_container(&holder, &soon()).expect("removing twice is no error");
    let error = runtime.container_detail(&holder, &soon()).expect_err("gone");
    assert_eq!(error.kind(), cprecover::ErrorKind::NotFound, "{error}");
    runtime.stop_sandbox(&sandbox, &soon()).expect("stops");
    let state = runtime.list(&soon()).expect("lists");
    assert_eq!(state.sandbox(&sandbox).map(|s| s.state), Some(SandboxState::NotReady));
    runtime.remove_sandbox(&sandbox, &soon()).expect("removes");
    runtime.remove_sandbox(&sandbox, &soon()).expect("removing twice is no error");
    assert!(runtime.list(&soon()).expect("lists").sandboxes.is_empty());
}
