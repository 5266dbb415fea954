//! Effects: each checks its precondition again right before it, and proves its result right after.

pub(super) mod bounce;
mod holder;
mod manifest;
mod member;
pub(super) mod pod_folder;
pub(super) mod regenerate;
pub(super) mod renew;
mod sandbox;
mod service;
#[cfg(test)]
mod tests;
pub(super) mod undo;

use serde::{Deserialize, Serialize};

pub(super) use self::holder::ended;
pub(super) use self::member::prepare;
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
    /// How it is taken back by hand, where it can be.
    #[serde(default)]
    pub undo: Option<String>,
}

impl Performed {
    /// Makes the result of an effect.
    pub fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), undo: None }
    }

    /// Says how it is taken back.
    #[must_use]
    pub fn undo(mut self, how: impl Into<String>) -> Self {
        self.undo = Some(how.into());
        self
    }
}

/// Reports whether an action ends this node's etcd member or starts it otherwise than before.
pub(super) fn touches_etcd(action: &Action, seen: &Observation) -> bool {
    member::touches(action, seen).is_some()
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
            manifest::restore(host, *component, backup_id, seen, deadline)
        }
        Action::RegenerateComponent { component } => {
            manifest::regenerate(host, *component, seen, consents, deadline)
        }
        Action::QuarantineManifest { file } => manifest::quarantine(host, file, deadline),
        Action::RestartKubelet => service::restart_kubelet(host, deadline),
        Action::RestartRuntime => service::restart_runtime(host, deadline),
        Action::QuarantinePodDir { uid } => pod_folder::quarantine(host, uid, deadline),
        Action::RemoveSandbox { sandbox } => sandbox::remove(host, sandbox, deadline),
        Action::BounceStaticPod { component } => bounce::bounce(host, *component, deadline),
        Action::RenewCertificate { path } => renew::renew(host, path, seen, consents, deadline),
        Action::Wait { .. } | Action::Escalate { .. } => {
            Err(Error::new(ErrorKind::Internal, format!("{action} is no effect")))
        }
    }
}
