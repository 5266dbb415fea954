//! Sandboxes and containers come up.

use cprecover::cri::wire;
use tonic::Status;

use super::engine::{Engine, internal, no_container};
use super::launch::Host;
use super::protocol::{self, Reply, Request};
use super::record::{ContainerRecord, ExitRecord, Memory, SandboxRecord, now_ns};
use super::shim;

impl Engine {
    pub(super) fn run_sandbox(
        &self,
        request: wire::RunPodSandboxRequest,
    ) -> Result<wire::RunPodSandboxResponse, Status> {
        let config = request.config.ok_or_else(|| Status::invalid_argument("no sandbox config"))?;
        let metadata =
            config.metadata.ok_or_else(|| Status::invalid_argument("no metadata in the sandbox config"))?;
        let taken = |sandbox: &SandboxRecord| {
            sandbox.name == metadata.name
                && sandbox.namespace == metadata.namespace
                && sandbox.uid == metadata.uid
                && sandbox.attempt == metadata.attempt
        };
        if let Some((id, _)) = self.current()?.sandboxes.iter().find(|(_, sandbox)| taken(sandbox)) {
            let name =
                format!("{}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt);
            return Err(reserved("sandbox", &name, id));
        }
        let id = new_id()?;
        let own = self.folder.0.join(&id);
        std::fs::create_dir_all(&own).map_err(|error| Status::internal(error.to_string()))?;
        let shim = shim::spawn(&self.folder, &id, &self.socket)
            .map_err(|error| Status::unknown(format!("failed to start sandbox container task: {error}")))?;
        let parent = config.linux.map(|linux| linux.cgroup_parent).filter(|parent| !parent.is_empty());
        let parent = parent.unwrap_or_else(|| format!("/kubepods/burstable/pod{}", metadata.uid));
        let record = SandboxRecord {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            attempt: metadata.attempt,
            labels: config.labels,
            annotations: config.annotations,
            log_directory: config.log_directory,
            cgroup: self.cgroups.as_ref().map_or_else(|| parent.clone(), |cgroups| cgroups.path(&parent)),
            created_at_ns: now_ns(),
            shim,
            stopped: false,
        };
        let mut memory = self.memory();
        memory.sandboxes.insert(id.clone(), record);
        self.save(&memory)?;
        Ok(wire::RunPodSandboxResponse { pod_sandbox_id: id })
    }

    pub(super) fn create_container(
        &self,
        request: wire::CreateContainerRequest,
    ) -> Result<wire::CreateContainerResponse, Status> {
        let config = request.config.ok_or_else(|| Status::invalid_argument("no container config"))?;
        let metadata =
            config.metadata.ok_or_else(|| Status::invalid_argument("no metadata in the container config"))?;
        let mut memory = self.current()?;
        let sandbox = memory.sandboxes.get(&request.pod_sandbox_id).ok_or_else(|| {
            Status::not_found(format!("failed to find sandbox id {:?}", request.pod_sandbox_id))
        })?;
        if sandbox.stopped {
            let id = &request.pod_sandbox_id;
            return Err(Status::unknown(format!("sandbox container {id:?} is not running")));
        }
        let taken = memory.containers.iter().find(|(_, container)| {
            container.sandbox == request.pod_sandbox_id
                && container.name == metadata.name
                && container.attempt == metadata.attempt
        });
        if let Some((id, _)) = taken {
            let pod = format!("{}_{}_{}", sandbox.name, sandbox.namespace, sandbox.uid);
            return Err(reserved("container", &format!("{}_{pod}_{}", metadata.name, metadata.attempt), id));
        }
        let image = config.image.unwrap_or_default();
        let id = new_id()?;
        let record = ContainerRecord {
            sandbox: request.pod_sandbox_id,
            name: metadata.name,
            attempt: metadata.attempt,
            image: if image.user_specified_image.is_empty() {
                image.image
            } else {
                image.user_specified_image
            },
            argv: config.command.into_iter().chain(config.args).collect(),
            env: config.envs.into_iter().map(|pair| (pair.key, pair.value)).collect(),
            working_dir: config.working_dir,
            mounts: config.mounts.into_iter().map(|mount| (mount.container_path, mount.host_path)).collect(),
            labels: config.labels,
            annotations: config.annotations,
            log_path: config.log_path,
            created_at_ns: now_ns(),
            started_at_ns: 0,
            process: None,
            exit: None,
        };
        memory.containers.insert(id.clone(), record);
        self.save(&memory)?;
        Ok(wire::CreateContainerResponse { container_id: id })
    }

    pub(super) fn start_container(
        &self,
        request: &wire::StartContainerRequest,
    ) -> Result<wire::StartContainerResponse, Status> {
        let id = &request.container_id;
        // Held over the whole start, so that nobody removes or starts it meanwhile.
        let mut memory = self.current()?;
        let Memory { sandboxes, containers } = &mut *memory;
        let container = containers.get_mut(id).ok_or_else(|| no_container(id))?;
        if container.process.is_some() || container.exit.is_some() {
            return Err(Status::unknown(format!("container {id:?} is not in created state")));
        }
        let sandbox =
            sandboxes.get(&container.sandbox).filter(|sandbox| !sandbox.stopped).ok_or_else(|| {
                Status::unknown(format!("sandbox container {:?} is not running", container.sandbox))
            })?;
        let host = Host {
            root: &self.root,
            folder: &self.folder,
            programs: self.programs.as_deref(),
            cgroups: self.cgroups.as_ref(),
        };
        // Before the start: a brief container ends before the shim has answered.
        container.started_at_ns = now_ns();
        let started = host.launch(id, container, sandbox).and_then(|launch| {
            let socket = self.folder.shim_socket(&container.sandbox);
            match protocol::ask(&socket, &Request::Start(launch)).map_err(internal)? {
                Reply::Started(process) => Ok(process),
                Reply::Failed(message) => Err(Status::unknown(message)),
                Reply::Done => Err(Status::internal("the shim does not say what it started")),
            }
        });
        let result = match started {
            Ok(process) => {
                container.process = Some(process);
                Ok(wire::StartContainerResponse {})
            }
            Err(status) => {
                // containerd: `StartError`, exit code 128 (`internal/cri/server/container_start.go`).
                container.exit = Some(ExitRecord {
                    code: 128,
                    finished_at_ns: now_ns(),
                    reason: "StartError".to_owned(),
                    message: status.message().to_owned(),
                });
                Err(status)
            }
        };
        self.save(&memory)?;
        result
    }
}

fn reserved(what: &str, name: &str, id: &str) -> Status {
    Status::unknown(format!("failed to reserve {what} name {name:?}: name {name:?} is reserved for {id:?}"))
}

fn new_id() -> Result<String, Status> {
    let mut bytes = [0_u8; 32];
    let mut random =
        std::fs::File::open("/dev/urandom").map_err(|error| Status::internal(error.to_string()))?;
    std::io::Read::read_exact(&mut random, &mut bytes)
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(cprecover::model::Digest::from_bytes(bytes).to_string())
}
