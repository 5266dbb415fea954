//! The calls of CRI, done with processes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cprecover::cri::wire;
use rustix::process::Signal;
use tonic::Status;

use super::answers;
use super::cgroup::Cgroups;
use super::launch::Host;
use super::protocol::{self, Reply, Request};
use super::record::{
    ContainerRecord, ExitRecord, Folder, Memory, SandboxRecord, is_alive, now_ns, read_json, write_json,
};
use super::service::{Answer, Handler};
use super::shim;

/// How long a container may take to end after SIGKILL; one in D state takes longer.
const KILL_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a container's end is looked for.
const POLL: Duration = Duration::from_millis(5);

/// The stand-in runtime.
pub(super) struct Engine {
    pub(super) root: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) folder: Folder,
    pub(super) programs: Option<PathBuf>,
    pub(super) cgroups: Option<Cgroups>,
    /// Whether containers do not end, whatever they are told.
    pub(super) hung: bool,
    pub(super) memory: Mutex<Memory>,
}

impl Handler for Engine {
    fn handle(&self, method: &str, request: &[u8]) -> Result<Answer, Status> {
        match method {
            "Version" => reply(&answers::version()),
            "Status" => reply(&answers::status()),
            "RunPodSandbox" => reply(&self.run_sandbox(decode(request)?)?),
            "StopPodSandbox" => {
                let id = decode::<wire::StopPodSandboxRequest>(request)?.pod_sandbox_id;
                if self.is_hung(|container| container.sandbox == id)? {
                    return Ok(Answer::Hang);
                }
                self.stop_sandbox(&id)?;
                reply(&wire::StopPodSandboxResponse {})
            }
            "RemovePodSandbox" => {
                let id = decode::<wire::RemovePodSandboxRequest>(request)?.pod_sandbox_id;
                if self.is_hung(|container| container.sandbox == id)? {
                    return Ok(Answer::Hang);
                }
                self.remove_sandbox(&id)?;
                reply(&wire::RemovePodSandboxResponse {})
            }
            "PodSandboxStatus" => reply(&answers::sandbox_status(&*self.current()?, &decode(request)?)?),
            "ListPodSandbox" => reply(&answers::sandboxes(&*self.current()?, decode(request)?)),
            "CreateContainer" => reply(&self.create_container(decode(request)?)?),
            "StartContainer" => reply(&self.start_container(&decode(request)?)?),
            "StopContainer" => {
                let request: wire::StopContainerRequest = decode(request)?;
                if self.is_hung_container(&request.container_id)? {
                    return Ok(Answer::Hang);
                }
                let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
                self.stop_container(&request.container_id, grace)?;
                reply(&wire::StopContainerResponse {})
            }
            "RemoveContainer" => {
                let id = decode::<wire::RemoveContainerRequest>(request)?.container_id;
                if self.is_hung_container(&id)? {
                    return Ok(Answer::Hang);
                }
                self.remove_container(&id)?;
                reply(&wire::RemoveContainerResponse {})
            }
            "ListContainers" => reply(&answers::containers(&*self.current()?, decode(request)?)),
            "ContainerStatus" => {
                reply(&answers::container_status(&*self.current()?, &decode(request)?, self.cgroups.is_some())?)
            }
            other => Err(Status::unimplemented(format!(
                "unknown method {other} for service runtime.v1.RuntimeService"
            ))),
        }
    }
}

impl Engine {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the records after a look at what has happened to their processes.
    fn current(&self) -> Result<MutexGuard<'_, Memory>, Status> {
        let mut memory = self.memory();
        let mut changed = false;
        let Memory { sandboxes, containers } = &mut *memory;
        for sandbox in sandboxes.values_mut().filter(|sandbox| !sandbox.stopped) {
            if !is_alive(sandbox.shim) {
                tracing::warn!(pod = sandbox.name, "shim disconnected");
                sandbox.stopped = true;
                changed = true;
            }
        }
        for (id, container) in containers.iter_mut().filter(|(_, container)| container.is_running()) {
            let exit_file = self.folder.exit_file(&container.sandbox, id);
            if let Some(exit) = read_json::<ExitRecord>(&exit_file).map_err(internal)? {
                container.exit = Some(exit);
                changed = true;
            } else if sandboxes.get(&container.sandbox).is_none_or(|sandbox| sandbox.stopped) {
                container.exit = Some(lost_with_its_shim());
                changed = true;
            }
        }
        if changed {
            self.save(&memory)?;
        }
        Ok(memory)
    }

    fn save(&self, memory: &Memory) -> Result<(), Status> {
        write_json(&self.folder.memory(), memory).map_err(internal)
    }

    fn is_hung(&self, which: impl Fn(&ContainerRecord) -> bool) -> Result<bool, Status> {
        Ok(self.hung && self.current()?.containers.values().any(|c| c.is_running() && which(c)))
    }

    fn is_hung_container(&self, id: &str) -> Result<bool, Status> {
        Ok(self.hung && self.current()?.containers.get(id).is_some_and(ContainerRecord::is_running))
    }

    fn run_sandbox(&self, request: wire::RunPodSandboxRequest) -> Result<wire::RunPodSandboxResponse, Status> {
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

    fn create_container(
        &self,
        request: wire::CreateContainerRequest,
    ) -> Result<wire::CreateContainerResponse, Status> {
        let config = request.config.ok_or_else(|| Status::invalid_argument("no container config"))?;
        let metadata =
            config.metadata.ok_or_else(|| Status::invalid_argument("no metadata in the container config"))?;
        let mut memory = self.current()?;
        let sandbox = memory
            .sandboxes
            .get(&request.pod_sandbox_id)
            .ok_or_else(|| Status::not_found(format!("failed to find sandbox id {:?}", request.pod_sandbox_id)))?;
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
            image: if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image },
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

    fn start_container(
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
        let sandbox = sandboxes
            .get(&container.sandbox)
            .filter(|sandbox| !sandbox.stopped)
            .ok_or_else(|| Status::unknown(format!("sandbox container {:?} is not running", container.sandbox)))?;
        let host = Host {
            root: &self.root,
            folder: &self.folder,
            programs: self.programs.as_deref(),
            cgroups: self.cgroups.as_ref(),
        };
        let started = host.launch(id, container, sandbox).and_then(|launch| {
            let socket = self.folder.shim_socket(&container.sandbox);
            match protocol::ask(&socket, &Request::Start(launch)).map_err(internal)? {
                Reply::Started(process) => Ok(process),
                Reply::Failed(message) => Err(Status::unknown(message)),
                Reply::Done => Err(Status::internal("the shim does not say what it started")),
            }
        });
        container.started_at_ns = now_ns();
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

    /// As containerd does: SIGTERM and a wait when there is a grace, then SIGKILL.
    fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Status> {
        let sandbox = match self.current()?.containers.get(id) {
            Some(container) if container.is_running() => container.sandbox.clone(),
            _ => return Ok(()),
        };
        if !grace.is_zero() {
            self.signal(&sandbox, id, Signal::TERM)?;
            if self.ends_within(id, grace)? {
                return Ok(());
            }
        }
        self.signal(&sandbox, id, Signal::KILL)?;
        if self.ends_within(id, KILL_TIMEOUT)? {
            return Ok(());
        }
        Err(Status::deadline_exceeded(format!("an error occurs during waiting for container {id:?} to be killed")))
    }

    fn signal(&self, sandbox: &str, container: &str, signal: Signal) -> Result<(), Status> {
        let request = Request::Signal { container: container.to_owned(), signal: signal.as_raw() };
        match protocol::ask(&self.folder.shim_socket(sandbox), &request) {
            Ok(Reply::Failed(message)) => Err(Status::unknown(message)),
            Ok(_) => Ok(()),
            // The shim ended meanwhile; the next look at the records finds that out.
            Err(error) => {
                tracing::debug!(%error, "the shim is gone");
                Ok(())
            }
        }
    }

    fn ends_within(&self, id: &str, limit: Duration) -> Result<bool, Status> {
        let until = Instant::now() + limit;
        loop {
            if self.current()?.containers.get(id).is_none_or(|container| !container.is_running()) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
    }

    /// As containerd does: its containers are killed without a grace (`stopPodSandbox`).
    fn stop_sandbox(&self, id: &str) -> Result<(), Status> {
        for container in self.containers_of(id)? {
            self.stop_container(&container, Duration::ZERO)?;
        }
        let mut memory = self.current()?;
        let Some(sandbox) = memory.sandboxes.get_mut(id) else { return Ok(()) };
        if !sandbox.stopped {
            if let Ok(Reply::Failed(message)) =
                protocol::ask(&self.folder.shim_socket(id), &Request::Shutdown)
            {
                return Err(Status::unknown(message));
            }
            sandbox.stopped = true;
            self.save(&memory)?;
        }
        Ok(())
    }

    fn containers_of(&self, sandbox: &str) -> Result<Vec<String>, Status> {
        let memory = self.current()?;
        let own = memory.containers.iter().filter(|(_, container)| container.sandbox == sandbox);
        Ok(own.map(|(id, _)| id.clone()).collect())
    }

    fn remove_container(&self, id: &str) -> Result<(), Status> {
        self.stop_container(id, Duration::ZERO)?;
        let mut memory = self.current()?;
        let Some(container) = memory.containers.remove(id) else { return Ok(()) };
        self.save(&memory)?;
        let _ = std::fs::remove_file(self.folder.exit_file(&container.sandbox, id));
        if let (Some(cgroups), Some(sandbox)) = (&self.cgroups, memory.sandboxes.get(&container.sandbox)) {
            cgroups.remove(&format!("{}/{id}", sandbox.cgroup));
        }
        Ok(())
    }

    fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        self.stop_sandbox(id)?;
        for container in self.containers_of(id)? {
            self.remove_container(&container)?;
        }
        let mut memory = self.current()?;
        let Some(sandbox) = memory.sandboxes.remove(id) else { return Ok(()) };
        self.save(&memory)?;
        if let Some(cgroups) = &self.cgroups {
            cgroups.remove(&sandbox.cgroup);
        }
        let own: &Path = &self.folder.0.join(id);
        std::fs::remove_dir_all(own)
            .map_err(|error| Status::internal(format!("remove {}: {error}", own.display())))
    }
}

/// A killed shim tells nobody how its containers ended; containerd then reports SIGKILL
/// (`cleanupAfterDeadShim`), whether or not they ended.
fn lost_with_its_shim() -> ExitRecord {
    ExitRecord {
        code: 137,
        finished_at_ns: now_ns(),
        reason: "Error".to_owned(),
        message: "shim disconnected".to_owned(),
    }
}

fn reserved(what: &str, name: &str, id: &str) -> Status {
    Status::unknown(format!(
        "failed to reserve {what} name {name:?}: name {name:?} is reserved for {id:?}"
    ))
}

fn no_container(id: &str) -> Status {
    Status::not_found(format!("an error occurred when try to find container {id:?}: not found"))
}

fn internal(error: cprecover::Error) -> Status {
    Status::internal(error.to_string())
}

fn new_id() -> Result<String, Status> {
    let mut bytes = [0_u8; 32];
    let mut random = std::fs::File::open("/dev/urandom").map_err(|error| Status::internal(error.to_string()))?;
    std::io::Read::read_exact(&mut random, &mut bytes).map_err(|error| Status::internal(error.to_string()))?;
    Ok(cprecover::model::Digest::from_bytes(bytes).to_string())
}

fn decode<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn reply(message: &impl prost::Message) -> Result<Answer, Status> {
    Ok(Answer::Reply(message.encode_to_vec()))
}
