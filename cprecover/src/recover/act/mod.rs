//! Effects: each checks its precondition again right before it, and proves its result right after.

pub(super) mod bounce;
mod holder;
mod manifest;
pub(super) mod regenerate;
mod sandbox;
mod service;

use serde::{Deserialize, Serialize};

use super::host::Host;
use super::observation::Observation;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::Action;
use crate::policy::contract::Consent;
use crate::sys::Deadline;

/// What an effect changed, proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Performed {
    /// One line for people, with digests where files changed.
    pub detail: String,
}

impl Performed {
    /// Makes the result of an effect.
    pub fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into() }
    }
}

/// Does one action on the node.
///
/// # Errors
/// [`ErrorKind::Changed`] when the node is no longer as the decision assumed; nothing was done then.
pub(super) fn perform(
    host: &Host<'_>,
    action: &Action,
    seen: &Observation,
    consents: &[Consent],
    deadline: &Deadline,
) -> Result<Performed> {
    match action {
        Action::TerminateHolder { port, process } => holder::end(host, *port, *process, seen, deadline),
        Action::RestoreManifest { component, backup_id } => {
            manifest::restore(host, *component, backup_id, deadline)
        }
        Action::RegenerateComponent { component } => {
            manifest::regenerate(host, *component, seen, consents, deadline)
        }
        Action::QuarantineManifest { file } => manifest::quarantine(host, file, deadline),
        Action::RestartKubelet => service::restart(host, "kubelet", &host.node.kubelet, deadline),
        Action::RestartRuntime => {
            service::restart(host, "the container runtime", &host.node.runtime, deadline)
        }
        Action::RemoveSandbox { sandbox } => sandbox::remove(host, sandbox, deadline),
        Action::BounceStaticPod { component } => bounce::bounce(host, *component, deadline),
        Action::Wait { .. } | Action::Escalate { .. } => {
            Err(Error::new(ErrorKind::Internal, format!("{action} is no effect")))
        }
        other => Err(Error::new(ErrorKind::Unsupported, format!("{other} is not implemented"))),
    }
}
