//! Services that the operator's own commands control: `OpenRC`, k3s, RKE2, an agent.

use std::time::Duration;

use super::{Service, ServiceState};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{CommandOutput, CommandSpec, Commands, Deadline};

/// How long the start in a restart may take at least, whatever is left of the caller's time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A service behind three commands; they run on this machine, with an empty environment.
pub(super) struct CommandService<'a> {
    name: String,
    start: CommandSpec,
    stop: CommandSpec,
    state: CommandSpec,
    commands: &'a dyn Commands,
}

impl<'a> CommandService<'a> {
    pub(super) fn new(
        start: &[String],
        stop: &[String],
        state: &[String],
        commands: &'a dyn Commands,
    ) -> Result<Self> {
        Ok(Self {
            name: start.join(" "),
            // `/etc/init.d/kubelet start` may end in `kubelet &`, with our streams as kubelet's.
            start: spec("start", start)?.leaves_daemon(),
            stop: spec("stop", stop)?,
            state: spec("state", state)?,
            commands,
        })
    }

    fn run(&self, verb: &str, spec: &CommandSpec, deadline: &Deadline) -> Result<CommandOutput> {
        let spec = spec.clone().timeout(deadline.remaining());
        self.commands.run(&spec, deadline).map_err(|error| error.context(format!("{verb} a service")))
    }

    fn job(&self, verb: &str, spec: &CommandSpec, deadline: &Deadline) -> Result<()> {
        let output = self.run(verb, spec, deadline)?;
        if output.is_success() { Ok(()) } else { Err(failed(spec, &output)) }
    }
}

impl Service for CommandService<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self, deadline: &Deadline) -> Result<ServiceState> {
        let output = self.run("ask for the state of", &self.state, deadline)?;
        // The codes of `systemctl is-active` and of LSB init scripts' `status`.
        match output.code {
            Some(0) => Ok(ServiceState::Active),
            Some(3) => Ok(ServiceState::Inactive),
            _ => Err(failed(&self.state, &output)),
        }
    }

    fn start(&self, deadline: &Deadline) -> Result<()> {
        self.job("start", &self.start, deadline)
    }

    fn stop(&self, deadline: &Deadline) -> Result<()> {
        self.job("stop", &self.stop, deadline)
    }

    fn restart(&self, deadline: &Deadline) -> Result<()> {
        let stopped = self.stop(deadline);
        // A stop that failed or was cut short may have stopped it all the same.
        let started = self.start(&deadline.renewed(deadline.remaining().max(START_TIMEOUT)));
        match (stopped, started) {
            (Err(stop), Err(start)) => Err(stop.context(format!("it may be stopped: {start}"))),
            (stopped, started) => stopped.and(started),
        }
    }
}

fn spec(which: &str, command: &[String]) -> Result<CommandSpec> {
    let Some((program, args)) = command.split_first() else {
        return Err(Error::new(ErrorKind::Invalid, format!("the {which} command of a service is empty")));
    };
    if !program.starts_with('/') {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("the {which} command of a service: program {program:?} is not an absolute path"),
        ));
    }
    Ok(CommandSpec::new(program).args(args))
}

fn failed(spec: &CommandSpec, output: &CommandOutput) -> Error {
    let code = output.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    let said = output.stderr_tail().replace('\n', " | ");
    Error::new(ErrorKind::Peer, format!("{} ended with {code}: {said}", spec.program.display()))
}
