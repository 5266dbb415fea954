//! Whether what a process held is free after it ended.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::plan::{EndOptions, Target};
use crate::error::Result;
use crate::ports;
use crate::sys::{Deadline, later};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether a thing that the process held is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Freed {
    /// Nobody has it.
    Free,
    /// Somebody else has it already, such as the pod that kubelet restarted.
    TakenOver,
    /// It is not free: a process that shares it still has it.
    StillHeld,
}

/// Whether port and lock are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Release {
    /// The port; `None` when none was asked about.
    pub port: Option<Freed>,
    /// The lock on the data directory; `None` when none was asked about.
    pub lock: Option<Freed>,
}

impl Release {
    /// Reports whether nothing that was asked about is still held.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        [self.port, self.lock].iter().all(|freed| *freed != Some(Freed::StillHeld))
    }
}

/// Waits until port and lock are free or taken over, at most [`EndOptions::release_wait`].
pub(super) fn wait(target: &Target, options: &EndOptions, deadline: &Deadline) -> Result<Release> {
    let end = later(Instant::now(), options.release_wait);
    loop {
        let release = look(target, options)?;
        if release.is_complete() || Instant::now() >= end {
            return Ok(release);
        }
        deadline.check("wait for port and lock to become free")?;
        std::thread::sleep(PAUSE);
    }
}

/// Looks once.
pub(super) fn look(target: &Target, options: &EndOptions) -> Result<Release> {
    let port = port(target, options)?;
    Ok(Release { port, lock: lock(options.database.as_deref(), port)? })
}

fn port(target: &Target, options: &EndOptions) -> Result<Option<Freed>> {
    let Some(query) = &options.port else { return Ok(None) };
    let own = target.sockets();
    let now = ports::listeners(query)?;
    if now.iter().any(|listener| own.contains(&listener.inode)) {
        return Ok(Some(Freed::StillHeld));
    }
    if !now.is_empty() {
        return Ok(Some(Freed::TakenOver));
    }
    let free = ports::is_bindable(query, &target.listeners)?;
    Ok(Some(if free { Freed::Free } else { Freed::StillHeld }))
}

fn lock(database: Option<&Path>, port: Option<Freed>) -> Result<Option<Freed>> {
    let Some(database) = database else { return Ok(None) };
    if ports::lock_is_free(database)? {
        return Ok(Some(Freed::Free));
    }
    // Whoever took over the port has the data directory too, or waits for it.
    Ok(Some(if port == Some(Freed::TakenOver) { Freed::TakenOver } else { Freed::StillHeld }))
}
