//! Containers and sandboxes go down.

use std::path::Path;
use std::time::{Duration, Instant};

use cprecover::cri::wire;
use rustix::process::Signal;
use tonic::Status;

use super::engine::{Engine, decode, reply};
use super::protocol::{self, Reply, Request};
use super::record::ContainerRecord;
use super::service::Answer;

/// How long a container may take to end after SIGKILL; one in D state takes longer.
const KILL_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a container's end is looked for.
const POLL: Duration = Duration::from_millis(5);

impl Engine {
    /// Does one of the four calls that end something, unless its containers are to hang.
    pub(super) fn end(&self, method: &str, request: &[u8]) -> Result<Answer, Status> {
        // The id is field 1 of all four requests, and the three that are not here have no other field.
        let wire::StopContainerRequest { container_id: id, timeout } = decode(request)?;
        if self.is_hung(&id)? {
            return Ok(Answer::Hang);
        }
        match method {
            "StopPodSandbox" => self.stop_sandbox(&id)?,
            "RemovePodSandbox" => self.remove_sandbox(&id)?,
            "StopContainer" => {
                self.stop_container(&id, Duration::from_secs(u64::try_from(timeout).unwrap_or(0)))?;
            }
            _ => self.remove_container(&id)?,
        }
        // All four answers are messages without fields.
        reply(&wire::StopContainerResponse {})
    }

    /// Reports whether a running container with this id, or in the sandbox with this id, has to hang.
    fn is_hung(&self, id: &str) -> Result<bool, Status> {
        let is_meant = |own: &str, container: &ContainerRecord| own == id || container.sandbox == id;
        let memory = self.current()?;
        Ok(self.hung && memory.containers.iter().any(|(own, c)| c.is_running() && is_meant(own, c)))
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
        Err(Status::deadline_exceeded(format!(
            "an error occurs during waiting for container {id:?} to be killed"
        )))
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
