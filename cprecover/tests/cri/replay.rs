//! A CRI server that answers what was recorded, or misbehaves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cprecover::NodeOptions;
use cprecover::cri::{Container, ContainerState, RuntimeState, Sandbox, SandboxState, wire};
use prost::Message as _;
use tonic::Status;

use crate::service::{Answer, Handler, serve};

/// How the server behaves.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    Honest,
    /// This method never answers.
    Hangs(&'static str),
    /// Every answer is these bytes.
    Says(Vec<u8>),
    /// Every call ends with this status.
    Refuses(Status),
}

/// A method and its request.
type Call = (String, Vec<u8>);

pub(crate) struct Server {
    dir: tempfile::TempDir,
    calls: Arc<Mutex<Vec<Call>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Replay {
    state: RuntimeState,
    manner: Manner,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Server {
    /// Serves below a new root where containerd's socket is.
    pub(crate) fn start(state: RuntimeState, manner: Manner) -> Self {
        Self::start_at("run/containerd/containerd.sock", state, manner)
    }

    pub(crate) fn start_at(socket: &str, state: RuntimeState, manner: Manner) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join(socket);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
        // From inside the folder: the path may be longer than a socket address takes.
        let listener = bind(&path);
        let calls = Arc::default();
        let handler = Replay { state, manner, calls: Arc::clone(&calls) };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            executor.block_on(async {
                listener.set_nonblocking(true).expect("non-blocking");
                let listener = tokio::net::UnixListener::from_std(listener).expect("registers");
                tokio::select! {
                    served = serve(listener, Arc::new(handler), std::future::pending()) => served.expect("serves"),
                    _ = stopped => {}
                }
            });
            executor.shutdown_background();
        });
        Self { dir, calls, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn node(&self) -> NodeOptions {
        NodeOptions::at(self.dir.path()).expect("absolute")
    }

    /// Returns the methods that were called with their requests.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("not poisoned").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(std::thread::panicking() || joined.is_ok(), "the server does not panic");
        }
    }
}

fn bind(path: &Path) -> std::os::unix::net::UnixListener {
    let folder = std::fs::File::open(path.parent().expect("a folder")).expect("opens");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&folder);
    let short = PathBuf::from(format!("/proc/self/fd/{fd}")).join(path.file_name().expect("a name"));
    std::os::unix::net::UnixListener::bind(short).expect("binds")
}

impl Handler for Replay {
    fn handle(&self, method: &str, request: &[u8]) -> Result<Answer, Status> {
        self.calls.lock().expect("not poisoned").push((method.to_owned(), request.to_vec()));
        match &self.manner {
            Manner::Hangs(hung) if *hung == method => return Ok(Answer::Hang),
            Manner::Says(bytes) => return Ok(Answer::Reply(bytes.clone())),
            Manner::Refuses(status) => return Err(status.clone()),
            Manner::Honest | Manner::Hangs(_) => {}
        }
        let answer = match method {
            "Version" => wire::VersionResponse {
                version: "0.1.0".into(),
                runtime_name: "containerd".into(),
                runtime_version: "v2.3.4".into(),
                runtime_api_version: "v1".into(),
            }
            .encode_to_vec(),
            "Status" => wire::StatusResponse {
                status: Some(wire::RuntimeStatus {
                    conditions: vec![
                        condition("RuntimeReady", true, ""),
                        condition("NetworkReady", false, "cni plugin not initialized"),
                    ],
                }),
            }
            .encode_to_vec(),
            "ListPodSandbox" => {
                wire::ListPodSandboxResponse { items: self.state.sandboxes.iter().map(sandbox).collect() }
                    .encode_to_vec()
            }
            "ListContainers" => wire::ListContainersResponse {
                containers: self.state.containers.iter().map(container).collect(),
            }
            .encode_to_vec(),
            "ContainerStatus" => {
                let asked = wire::ContainerStatusRequest::decode(request).expect("decodes");
                let found = self.state.containers.iter().find(|c| c.id.as_str() == asked.container_id);
                status(found.ok_or_else(|| Status::not_found("no such container"))?, asked.verbose)
            }
            "StopPodSandbox" | "RemovePodSandbox" | "StopContainer" | "RemoveContainer" => Vec::new(),
            other => return Err(Status::unimplemented(format!("unknown method {other}"))),
        };
        Ok(Answer::Reply(answer))
    }
}

fn condition(kind: &str, status: bool, message: &str) -> wire::RuntimeCondition {
    wire::RuntimeCondition { r#type: kind.into(), status, message: message.into(), ..Default::default() }
}

fn sandbox(sandbox: &Sandbox) -> wire::PodSandbox {
    wire::PodSandbox {
        id: sandbox.id.as_str().into(),
        metadata: Some(wire::PodSandboxMetadata {
            name: sandbox.pod_name.clone(),
            uid: sandbox.uid.as_str().into(),
            namespace: sandbox.namespace.clone(),
            attempt: sandbox.attempt,
        }),
        state: i32::from(sandbox.state == SandboxState::NotReady),
        created_at: sandbox.created_at.0,
        labels: sandbox.labels.clone(),
        annotations: sandbox.annotations.clone(),
        runtime_handler: String::new(),
    }
}

fn state_number(state: ContainerState) -> i32 {
    match state {
        ContainerState::Created => 0,
        ContainerState::Running => 1,
        ContainerState::Exited => 2,
        _ => 3,
    }
}

fn container(container: &Container) -> wire::Container {
    wire::Container {
        id: container.id.as_str().into(),
        pod_sandbox_id: container.sandbox.as_str().into(),
        metadata: Some(wire::ContainerMetadata { name: container.name.clone(), attempt: container.attempt }),
        image: Some(wire::ImageSpec {
            image: "sha256:e8b7".into(),
            user_specified_image: container.image.clone(),
            ..Default::default()
        }),
        state: state_number(container.state),
        created_at: container.created_at.0,
        labels: container.labels.clone(),
        annotations: container.annotations.clone(),
        ..Default::default()
    }
}

fn status(container: &Container, verbose: bool) -> Vec<u8> {
    let info = serde_json::json!({
        "pid": 4242,
        "runtimeSpec": { "linux": { "cgroupsPath": format!("/kubepods/burstable/podx/{}", container.id) } },
    });
    let exited = container.state == ContainerState::Exited;
    let status = wire::ContainerStatus {
        id: container.id.as_str().into(),
        state: state_number(container.state),
        created_at: container.created_at.0,
        started_at: container.created_at.0,
        finished_at: if exited { container.created_at.0 + 1 } else { 0 },
        exit_code: i32::from(exited),
        reason: if exited { "Error".into() } else { String::new() },
        log_path: "/var/log/pods/x/etcd/5.log".into(),
        ..Default::default()
    };
    let info = if verbose {
        [("info".to_owned(), info.to_string())].into()
    } else {
        std::collections::BTreeMap::new()
    };
    wire::ContainerStatusResponse { status: Some(status), info }.encode_to_vec()
}
