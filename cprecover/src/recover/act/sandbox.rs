//! Removes a stale sandbox through the runtime; processes are not signalled by us.

use super::Performed;
use crate::cri;
use crate::error::{Error, ErrorKind, Result};
use crate::model::SandboxId;
use crate::recover::host::Host;
use crate::sys::Deadline;

pub(super) fn remove(host: &Host<'_>, id: &SandboxId, deadline: &Deadline) -> Result<Performed> {
    let runtime = cri::connect(host.node, host.commands, deadline)?;
    let state = runtime.list(deadline)?;
    let Some(sandbox) = state.sandbox(id) else {
        return Ok(Performed::new(format!("sandbox {id} is gone already")));
    };
    let stale = state.stale_sandboxes(&sandbox.namespace, &sandbox.pod_name);
    if !stale.iter().any(|stale| stale.id == *id) {
        return Err(Error::new(
            ErrorKind::Changed,
            format!(
                "sandbox {id} of {} is not older than a sandbox from another manifest any more",
                sandbox.pod_name
            ),
        ));
    }
    let stopped = cri::retire_sandbox(runtime.as_ref(), &state, id, host.node.grace(), deadline)?;
    if runtime.list(deadline)?.sandbox(id).is_some() {
        return Err(Error::new(
            ErrorKind::Peer,
            format!("the runtime still lists sandbox {id} after removing it"),
        ));
    }
    Ok(Performed::new(format!(
        "sandbox {id} of {} (config.hash {}) removed; {stopped}",
        sandbox.pod_name,
        sandbox.config_hash().unwrap_or("none")
    )))
}
