//! The calls of CRI, done with processes.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tonic::Status;

use super::answers;
use super::cgroup::Cgroups;
use super::record::{ExitRecord, Folder, Memory, is_alive, now_ns, read_json, write_json};
use super::service::{Answer, Handler};

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
            "StopPodSandbox" | "RemovePodSandbox" | "StopContainer" | "RemoveContainer" => {
                self.end(method, request)
            }
            "PodSandboxStatus" => reply(&answers::sandbox_status(&*self.current()?, &decode(request)?)?),
            "ListPodSandbox" => reply(&answers::sandboxes(&*self.current()?, decode(request)?)),
            "CreateContainer" => reply(&self.create_container(decode(request)?)?),
            "StartContainer" => reply(&self.start_container(&decode(request)?)?),
            "ListContainers" => reply(&answers::containers(&*self.current()?, decode(request)?)),
            "ContainerStatus" => reply(&answers::container_status(
                &*self.current()?,
                &decode(request)?,
                self.cgroups.is_some(),
            )?),
            other => Err(Status::unimplemented(format!(
                "unknown method {other} for service runtime.v1.RuntimeService"
            ))),
        }
    }
}

impl Engine {
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the records after a look at what has happened to their processes.
    pub(super) fn current(&self) -> Result<MutexGuard<'_, Memory>, Status> {
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

    pub(super) fn save(&self, memory: &Memory) -> Result<(), Status> {
        write_json(&self.folder.memory(), memory).map_err(internal)
    }
}

/// A killed shim tells nobody how its containers ended; containerd then reports SIGKILL
/// (`cleanupAfterDeadShim`), whether or not they ended.
pub(super) fn lost_with_its_shim() -> ExitRecord {
    ExitRecord {
        code: 137,
        finished_at_ns: now_ns(),
        reason: "Error".to_owned(),
        message: "shim disconnected".to_owned(),
    }
}

pub(super) fn no_container(id: &str) -> Status {
    Status::not_found(format!("an error occurred when try to find container {id:?}: not found"))
}

/// Taken by value, so that `map_err` takes it.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn internal(error: cprecover::Error) -> Status {
    Status::internal(error.to_string())
}

pub(super) fn decode<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// A `Result`, so that each arm of the handler ends with it.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn reply(message: &impl prost::Message) -> Result<Answer, Status> {
    Ok(Answer::Reply(message.encode_to_vec()))
}
