//! Takes a static pod's manifest out until its container is gone, then puts it back.

use std::time::Duration;

use super::Performed;
use crate::backup::Store;
use crate::cri::{self, RuntimeView};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, ContainerId};
use crate::recover::host::Host;
use crate::sys::Deadline;

/// How long kubelet may take to stop the old container: its poll of 20 s (`fileCheckFrequency`), the
/// pod's grace time of 30 s, and room.
const GONE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long kubelet may take to start the new one.
const NEW_TIMEOUT: Duration = Duration::from_mins(1);

/// Why the manifest is held meanwhile; a person's hold has another reason and is left alone.
pub(in crate::recover) const REASON: &str = "bounce";

/// Releases the manifest that a bounce was holding when its engine died.
pub(super) fn resume(host: &Host<'_>, component: Component, deadline: &Deadline) -> Result<Option<String>> {
    let store = Store::open(host.node)?;
    let file = component.manifest_file();
    let held = store.held()?;
    if !held.iter().any(|held| held.file == file && held.reason == REASON) {
        return Ok(None);
    }
    store.release(file, deadline)?;
    Ok(Some(format!("{file} was held for a bounce and is released")))
}

pub(super) fn bounce(host: &Host<'_>, component: Component, deadline: &Deadline) -> Result<Performed> {
    let runtime = cri::connect(host.node, host.commands, deadline)?;
    let old = running(runtime.as_ref(), component, deadline)?;
    let store = Store::open(host.node)?;
    let file = component.manifest_file();
    store.hold(file, REASON, deadline)?;
    let gone =
        wait(host, &deadline.at_most(GONE_TIMEOUT), &format!("wait for the end of {component}"), || {
            Ok(running(runtime.as_ref(), component, deadline)?.iter().all(|id| !old.contains(id)))
        });
    // Whatever came of the wait, the manifest goes back: a held manifest is a component that is down.
    store.release(file, &Deadline::after(Duration::from_secs(30)))?;
    gone?;
    let mut new = None;
    wait(host, &deadline.at_most(NEW_TIMEOUT), &format!("wait for a new {component}"), || {
        new = running(runtime.as_ref(), component, deadline)?.into_iter().find(|id| !old.contains(id));
        Ok(new.is_some())
    })?;
    let name = |id: Option<&ContainerId>| id.map_or_else(|| "none".to_owned(), ToString::to_string);
    Ok(Performed::new(format!(
        "{component}: container {} is gone, {} runs",
        name(old.first()),
        name(new.as_ref())
    )))
}

fn running(
    runtime: &(impl RuntimeView + ?Sized),
    component: Component,
    deadline: &Deadline,
) -> Result<Vec<ContainerId>> {
    let state = runtime.list(deadline)?;
    let containers = state.component_containers(component).into_iter();
    Ok(containers.filter(|container| container.is_running()).map(|container| container.id.clone()).collect())
}

fn wait(
    host: &Host<'_>,
    deadline: &Deadline,
    what: &str,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    loop {
        match done() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => tracing::debug!(%error, "{what}"),
        }
        deadline.check(what).map_err(|error| Error::new(error.kind(), error.to_string()))?;
        host.clock.sleep(Duration::from_millis(200));
    }
}
