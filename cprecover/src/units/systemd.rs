//! Units of systemd, through `systemctl`.

use std::path::PathBuf;

use super::{Service, ServiceState};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{CommandOutput, CommandSpec, Commands, Deadline};

/// A unit, controlled by the machine's own systemd.
pub(super) struct SystemdUnit<'a> {
    systemctl: PathBuf,
    unit: String,
    commands: &'a dyn Commands,
}

impl<'a> SystemdUnit<'a> {
    pub(super) fn new(systemctl: PathBuf, unit: &str, commands: &'a dyn Commands) -> Result<Self> {
        // A leading dash would be an option; systemd.unit(5) allows no blank or slash in a unit name.
        if unit.is_empty()
            || unit.starts_with('-')
            || unit.contains(|c: char| c.is_whitespace() || c == '/' || c.is_control())
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{unit:?} is not the name of a systemd unit"),
            ));
        }
        Ok(Self { systemctl, unit: unit.to_owned(), commands })
    }

    fn systemctl(&self, verb: &str, options: &[&str], deadline: &Deadline) -> Result<CommandOutput> {
        let spec = CommandSpec::new(&self.systemctl)
            .args(["--no-ask-password", "--no-pager", verb])
            .args(options)
            .args(["--", &self.unit])
            .timeout(deadline.remaining());
        self.commands.run(&spec, deadline).map_err(|error| error.context(format!("{verb} {}", self.unit)))
    }

    fn job(&self, verb: &str, deadline: &Deadline) -> Result<()> {
        let output = self.systemctl(verb, &[], deadline)?;
        if output.is_success() {
            return Ok(());
        }
        let said = output.stderr_tail();
        // StartLimitBurst (systemd.unit(5)): a unit that failed too often is not started any more until
        // its counter is reset, and kubelet without a runtime gets there in seconds.
        if verb != "stop" && self.is_start_limited(&said, deadline) {
            tracing::info!(unit = %self.unit, "start limit reached, resetting it");
            self.systemctl("reset-failed", &[], deadline)?;
            let again = self.systemctl(verb, &[], deadline)?;
            return if again.is_success() { Ok(()) } else { Err(self.failed(verb, &again)) };
        }
        Err(self.failed(verb, &output))
    }

    /// Reports whether the start limit kept a job from being done.
    ///
    /// Sources: systemd `src/shared/bus-wait-for-jobs.c` for what systemctl says ("repeated too quickly" is
    /// what PID 1 says), `service_result_table` for the result.
    fn is_start_limited(&self, said: &str, deadline: &Deadline) -> bool {
        let texts = ["attempted too often", "repeated too quickly"];
        texts.iter().any(|text| said.contains(text))
            || self.systemctl("show", &["--property=Result"], deadline).is_ok_and(|output| {
                String::from_utf8_lossy(&output.stdout).trim().starts_with("Result=start-limit")
            })
    }

    fn failed(&self, verb: &str, output: &CommandOutput) -> Error {
        let code = output.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        let said = output.stderr_tail().replace('\n', " | ");
        Error::new(ErrorKind::Peer, format!("systemctl {verb} {} ended with {code}: {said}", self.unit))
    }
}

impl Service for SystemdUnit<'_> {
    fn name(&self) -> &str {
        &self.unit
    }

    fn state(&self, deadline: &Deadline) -> Result<ServiceState> {
        // `is-active` answers 3 for "no such unit" as well as for "stopped"; `show` tells them apart.
        let output = self.systemctl("show", &["--property=LoadState,ActiveState"], deadline)?;
        if !output.is_success() {
            return Err(self.failed("show", &output));
        }
        parse_show(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            Error::new(ErrorKind::Peer, format!("systemctl show {} tells no state that is known", self.unit))
        })
    }

    fn start(&self, deadline: &Deadline) -> Result<()> {
        self.job("start", deadline)
    }

    fn stop(&self, deadline: &Deadline) -> Result<()> {
        self.job("stop", deadline)
    }

    fn restart(&self, deadline: &Deadline) -> Result<()> {
        self.job("restart", deadline)
    }
}

/// Reads a text as properties of a unit, for fuzzing.
pub(crate) fn read_any(text: &str) {
    let _ = parse_show(text);
}

/// Reads `LoadState=` and `ActiveState=` (`org.freedesktop.systemd1(5)`).
fn parse_show(text: &str) -> Option<ServiceState> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if value("LoadState") == Some("not-found") {
        return Some(ServiceState::Missing);
    }
    match value("ActiveState")? {
        "active" | "reloading" | "refreshing" => Some(ServiceState::Active),
        "activating" => Some(ServiceState::Activating),
        "deactivating" => Some(ServiceState::Deactivating),
        "inactive" => Some(ServiceState::Inactive),
        "failed" => Some(ServiceState::Failed),
        _ => None,
    }
}
