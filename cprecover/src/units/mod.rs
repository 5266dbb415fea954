//! Services of the node: kubelet and the container runtime, started and stopped.

mod custom;
mod systemd;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::node::{NodeOptions, ServiceControl};
use crate::sys::{Commands, Deadline, find_program};
use custom::CommandService;
use systemd::SystemdUnit;

pub(crate) use systemd::read_any as read_show;

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ServiceState {
    /// It runs.
    Active,
    /// It is starting (systemd `activating`, also the pause before an automatic restart).
    Activating,
    /// It is stopping.
    Deactivating,
    /// It does not run.
    Inactive,
    /// It does not run and ended badly.
    Failed,
    /// There is no such service.
    Missing,
}

impl ServiceState {
    /// Reports whether it runs or is about to.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Active | Self::Activating)
    }
}

/// One service of the node. Every call is bounded by its deadline.
pub trait Service {
    /// Returns how messages name it, as `kubelet.service`.
    fn name(&self) -> &str;

    /// Asks for its state.
    ///
    /// # Errors
    /// [`Peer`](crate::ErrorKind::Peer) when the service manager does not tell (unknown is not
    /// inactive), [`Timeout`](crate::ErrorKind::Timeout).
    fn state(&self, deadline: &Deadline) -> Result<ServiceState>;

    /// Starts it; does nothing when it runs.
    ///
    /// # Errors
    /// [`Peer`](crate::ErrorKind::Peer) with what the service manager said, [`Timeout`](crate::ErrorKind::Timeout).
    fn start(&self, deadline: &Deadline) -> Result<()>;

    /// Stops it; does nothing when it is stopped.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    fn stop(&self, deadline: &Deadline) -> Result<()>;

    /// Stops and starts it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    fn restart(&self, deadline: &Deadline) -> Result<()>;
}

/// Returns the node's kubelet.
///
/// # Errors
/// As [`service`].
pub fn kubelet<'a>(node: &NodeOptions, commands: &'a dyn Commands) -> Result<Box<dyn Service + 'a>> {
    service(node, &node.kubelet, commands)
}

/// Returns the node's container runtime: the configured service, else the unit that goes with the endpoint
/// that kubelet uses.
///
/// # Errors
/// As [`service`], and those of a file of kubelet's that cannot be read or parsed.
pub fn runtime<'a>(node: &NodeOptions, commands: &'a dyn Commands) -> Result<Box<dyn Service + 'a>> {
    match &node.runtime {
        Some(control) => service(node, control, commands),
        None => service(node, &ServiceControl::Systemd(crate::cri::unit(node)?.to_owned()), commands),
    }
}

/// Returns the service that `control` describes.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) for a systemd unit on a node whose root is not `/`:
/// `systemctl` would act on this machine's unit; [`NotFound`](crate::ErrorKind::NotFound) when there is
/// no `systemctl`, [`Invalid`](crate::ErrorKind::Invalid) for an empty or relative command.
pub fn service<'a>(
    node: &NodeOptions,
    control: &ServiceControl,
    commands: &'a dyn Commands,
) -> Result<Box<dyn Service + 'a>> {
    match control {
        ServiceControl::Systemd(unit) => {
            if node.root != Path::new("/") {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "unit {unit} of the node at {}: systemctl controls this machine only; configure commands",
                        node.root.display()
                    ),
                ));
            }
            let systemctl = find_program(&node.root, "systemctl")?;
            Ok(Box::new(SystemdUnit::new(systemctl, unit, commands)?))
        }
        ServiceControl::Commands { start, stop, state } => {
            Ok(Box::new(CommandService::new(start, stop, state, commands)?))
        }
    }
}
