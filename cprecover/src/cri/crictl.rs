//! The runtime through the `crictl` program.

use std::path::PathBuf;
use std::time::Duration;

use super::model::{ContainerDetail, RuntimeInfo, RuntimeState};
use super::{Endpoint, Runtime, RuntimeView, parse};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContainerId, SandboxId};
use crate::node::NodeOptions;
use crate::sys::{CommandOutput, CommandSpec, Commands, Deadline, find_program};

/// As much as the parser reads.
const OUTPUT_BYTES: usize = 64 << 20;

/// A runtime behind `crictl`.
pub(super) struct CrictlRuntime<'a> {
    program: PathBuf,
    endpoint: String,
    name: String,
    commands: &'a dyn Commands,
}

impl<'a> CrictlRuntime<'a> {
    /// Finds the program and asks for the version.
    pub(super) fn connect(
        node: &NodeOptions,
        endpoint: &Endpoint,
        commands: &'a dyn Commands,
        deadline: &Deadline,
    ) -> Result<Self> {
        let program = match &node.crictl {
            Some(path) => node.resolve(path),
            None => find_program(&node.root, "crictl")?,
        };
        let mut runtime = Self { program, endpoint: endpoint.url(), name: String::new(), commands };
        let version = runtime.run("version", &["version"], deadline)?;
        runtime.name = parse::runtime_name(&String::from_utf8_lossy(&version.stdout)).unwrap_or_default();
        Ok(runtime)
    }

    fn run(&self, what: &str, args: &[&str], deadline: &Deadline) -> Result<CommandOutput> {
        deadline.check(what)?;
        let mut spec = CommandSpec::new(&self.program)
            .args(["--runtime-endpoint", &self.endpoint])
            // crictl's own default is 2 s, too short for a stop; ours ends it in any case.
            .args(["--timeout", &format!("{}s", super::runtime::whole_seconds(deadline.remaining()))])
            .args(args)
            .timeout(deadline.remaining());
        spec.output_limit = OUTPUT_BYTES;
        let output = self
            .commands
            .run(&spec, deadline)
            .map_err(|error| error.context(format!("crictl: {what} ({})", self.endpoint)))?;
        if output.truncated {
            let message = format!("crictl: {what}: more than {OUTPUT_BYTES} bytes of output");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        if output.is_success() { Ok(output) } else { Err(failed(what, &output)) }
    }

    /// Runs a command whose effect may be there already.
    fn effect(&self, what: &str, args: &[&str], deadline: &Deadline) -> Result<()> {
        match self.run(what, args, deadline) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

impl RuntimeView for CrictlRuntime<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn info(&self, deadline: &Deadline) -> Result<RuntimeInfo> {
        let version = self.run("version", &["version"], deadline)?;
        let info = self.run("info", &["info", "-o", "json"], deadline)?;
        parse::info(&version.stdout, &info.stdout, &self.endpoint)
    }

    fn list(&self, deadline: &Deadline) -> Result<RuntimeState> {
        // The order: see `GrpcRuntime::list`.
        let containers = self.run("list containers", &["ps", "-a", "-o", "json"], deadline)?;
        let sandboxes = self.run("list sandboxes", &["pods", "-o", "json"], deadline)?;
        Ok(RuntimeState {
            sandboxes: parse::pods(&sandboxes.stdout)?,
            containers: parse::containers(&containers.stdout)?,
            ..RuntimeState::default()
        })
    }

    fn container_detail(&self, id: &ContainerId, deadline: &Deadline) -> Result<ContainerDetail> {
        let what = format!("ask for container {id}");
        let output = self.run(&what, &["inspect", "-o", "json", checked(id.as_str())?], deadline)?;
        parse::container_detail(&output.stdout)
    }
}

impl Runtime for CrictlRuntime<'_> {
    fn stop_sandbox(&self, id: &SandboxId, deadline: &Deadline) -> Result<()> {
        self.effect(&format!("stop sandbox {id}"), &["stopp", checked(id.as_str())?], deadline)
    }

    fn remove_sandbox(&self, id: &SandboxId, deadline: &Deadline) -> Result<()> {
        // Without --force crictl itself refuses a ready sandbox, which CRI's RemovePodSandbox does not.
        self.effect(&format!("remove sandbox {id}"), &["rmp", "--force", checked(id.as_str())?], deadline)
    }

    fn stop_container(&self, id: &ContainerId, grace: Duration, deadline: &Deadline) -> Result<()> {
        let seconds = super::runtime::whole_seconds(grace).to_string();
        let args = ["stop", "--timeout", &seconds, checked(id.as_str())?];
        self.effect(&format!("stop container {id}"), &args, deadline)
    }

    fn remove_container(&self, id: &ContainerId, deadline: &Deadline) -> Result<()> {
        self.effect(&format!("remove container {id}"), &["rm", "--force", checked(id.as_str())?], deadline)
    }
}

/// crictl takes prefixes of ids and options in the same place; only a plain id is passed on.
fn checked(id: &str) -> Result<&str> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{id:?} is not the id of a sandbox or container"),
        ));
    }
    Ok(id)
}

/// crictl prints gRPC's status: `rpc error: code = NotFound desc = …` (grpc-go `internal/status`).
fn failed(what: &str, output: &CommandOutput) -> Error {
    let said = output.stderr_tail().replace('\n', " | ");
    let kind = if said.contains("code = NotFound") {
        ErrorKind::NotFound
    } else if said.contains("code = DeadlineExceeded") {
        ErrorKind::Timeout
    } else if said.contains("permission denied") {
        ErrorKind::PermissionDenied
    } else {
        ErrorKind::Peer
    };
    let code = output.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    Error::new(kind, format!("crictl: {what} ended with {code}: {said}"))
}
