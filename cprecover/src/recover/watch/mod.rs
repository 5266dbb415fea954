//! Watching a node: a backup after each change that health followed and of what changes unseen, a word at each
//! turn, a recovery when the caller and the policy say so.
//!
//! Nothing runs by itself: [`Watcher::next`] works on the caller's thread until there is something to say.

mod folder;
mod node;
#[cfg(test)]
mod tests;
mod vigil;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::folder::Folder;
pub use self::node::LiveNode;
use self::vigil::{Do, Vigil};
use super::engine::Progress;
use super::report::{Ending, Report};
use crate::backup::SnapshotId;
use crate::error::{ErrorKind, Result};
use crate::node::NodeOptions;
use crate::sys::{Clock, Deadline, later};

/// How a node is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchOptions {
    /// How long after a look the next one comes, while nothing changes; 30 s by default.
    pub probe_every: Duration,
    /// The same while the node is not proven to be as announced; 5 s by default.
    pub recheck_every: Duration,
    /// How long after the last change of a manifest the node is looked at; 2 s by default.
    pub settle: Duration,
    /// How many bad looks in a row make an outage; 3 by default.
    pub sick_after: u32,
    /// How many good looks in a row make health; 2 by default.
    pub well_after: u32,
    /// Whether an outage is recovered from, as far as the policy goes; no by default.
    pub recover: bool,
    /// The least time from the beginning of one recovery to the next; 10 minutes by default.
    pub recover_pause: Duration,
    /// How many recoveries an hour may have; 3 by default.
    pub recoveries_per_hour: u32,
    /// How long one recovery may take; 5 minutes by default.
    pub recover_timeout: Duration,
    /// How long one look may take; 30 s by default.
    pub look_timeout: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            probe_every: Duration::from_secs(30),
            recheck_every: Duration::from_secs(5),
            settle: Duration::from_secs(2),
            sick_after: 3,
            well_after: 2,
            recover: false,
            recover_pause: Duration::from_mins(10),
            recoveries_per_hour: 3,
            recover_timeout: Duration::from_mins(5),
            look_timeout: Duration::from_secs(30),
        }
    }
}

/// What a look at the node tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Look {
    /// Whether everything is proven.
    pub healthy: bool,
    /// What is not, with what was seen.
    pub not_proven: Vec<String>,
    /// What that comes from, as far as it is known.
    pub root_causes: Vec<String>,
}

/// What the watch has to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum WatchEvent {
    /// Files of the manifests folder changed.
    Changed {
        /// Their names.
        files: Vec<String>,
    },
    /// The node is healthy: now, or again.
    Healthy,
    /// The node is not healthy, several looks in a row.
    Unhealthy {
        /// The last of them.
        look: Look,
    },
    /// What works is backed up; it is the last known good.
    BackedUp {
        /// The snapshot; an earlier one when it holds the same.
        snapshot: SnapshotId,
    },
    /// It could not be backed up as the last known good; it is tried again after a pause that doubles each
    /// time, up to an hour.
    BackupFailed {
        /// Why.
        reason: String,
    },
    /// A recovery ran to its end.
    Recovered {
        /// What it did.
        report: Box<Report>,
    },
    /// A recovery could not run.
    RecoveryFailed {
        /// Why.
        reason: String,
    },
    /// A recovery would be due, but the last ones are too near.
    RecoveryHeld {
        /// For how long, in milliseconds.
        for_ms: u64,
    },
}

/// The node, as the watch sees it.
pub trait WatchedNode {
    /// Looks at the node.
    fn look(&mut self, deadline: &Deadline) -> Look;

    /// Backs up what is there as the last known good.
    ///
    /// # Errors
    /// The kinds of a failed backup.
    fn back_up(&mut self, deadline: &Deadline) -> Result<SnapshotId>;

    /// Recovers the node as far as its policy goes.
    ///
    /// # Errors
    /// [`Busy`](crate::ErrorKind::Busy) while another engine works on the node, and the kinds of a failed
    /// write to the audit log.
    fn recover(&mut self, deadline: &Deadline, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Report>;
}

/// Watches one node.
pub struct Watcher<'a> {
    subject: &'a mut dyn WatchedNode,
    clock: &'a dyn Clock,
    options: WatchOptions,
    folder: Folder,
    vigil: Vigil,
    queue: VecDeque<WatchEvent>,
    /// A recovery follows what was said last.
    recovery_due: bool,
    /// The backup that was last told.
    told: Option<SnapshotId>,
    began: Instant,
    next_look: Instant,
    /// When the first change came that no look was at yet.
    unlooked_since: Option<Instant>,
}

impl<'a> Watcher<'a> {
    /// Begins to watch; the first look is at the first [`next`](Self::next).
    pub fn new(
        node: &NodeOptions,
        subject: &'a mut dyn WatchedNode,
        clock: &'a dyn Clock,
        options: WatchOptions,
    ) -> Self {
        let began = clock.now();
        let folder = Folder::new(node.manifests());
        Self {
            subject,
            clock,
            options,
            folder,
            vigil: Vigil::default(),
            queue: VecDeque::new(),
            recovery_due: false,
            told: None,
            began,
            next_look: began,
            unlooked_since: None,
        }
    }

    /// Works until there is something to say; `None` when the time is up or the caller cancelled.
    ///
    /// `progress` is told of the steps of a recovery while it runs; one that an outage calls for begins in the call
    /// after the one that told of the outage. A backup is made only when no manifest
    /// changed between the look that proved health and the backup; a change within its few milliseconds is
    /// part of the next one.
    ///
    /// # Errors
    /// The kinds of a failed poll; everything else is an event.
    pub fn next(
        &mut self,
        deadline: &Deadline,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Option<WatchEvent>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            if deadline.check("watch").is_err() {
                return Ok(None);
            }
            if std::mem::take(&mut self.recovery_due) {
                self.recover(deadline, progress);
                self.rest();
                continue;
            }
            let now = self.clock.now();
            if now >= self.next_look {
                self.look(deadline);
                continue;
            }
            self.folder.wait(self.next_look.duration_since(now).min(deadline.remaining()))?;
            let names = self.folder.told();
            self.take(names);
        }
    }

    /// Takes note of changed files; returns whether there were any.
    fn take(&mut self, files: Vec<String>) -> bool {
        if files.is_empty() {
            return false;
        }
        self.vigil.changed();
        let now = self.clock.now();
        let since = *self.unlooked_since.get_or_insert(now);
        // Editors and kubeadm write several files in a row; the last change counts. Changes without end do not
        // keep the node from being looked at.
        self.next_look = later(now, self.options.settle).min(later(since, self.options.probe_every));
        self.queue.push_back(WatchEvent::Changed { files });
        true
    }

    /// The files that changed, as far as the kernel told of them or a comparison shows it.
    fn changed(&mut self) -> Vec<String> {
        // What the kernel tells is asked for first, so that it is not told again after the comparison.
        let mut changed = self.folder.told();
        changed.extend(self.folder.compared().unwrap_or_else(|error| {
            tracing::warn!(%error, "manifests cannot be compared with the last look");
            Vec::new()
        }));
        changed
    }

    fn look(&mut self, deadline: &Deadline) {
        let changed = self.changed();
        if self.take(changed) && self.clock.now() < self.next_look {
            return;
        }
        self.unlooked_since = None;
        let look = self.subject.look(&deadline.at_most(self.options.look_timeout));
        if deadline.is_cancelled() {
            return;
        }
        let changed = self.changed();
        if self.take(changed) && look.healthy {
            // The look may have been at the old files.
            return;
        }
        let now = self.since_began();
        for what in self.vigil.looked(look.healthy, now, &self.options) {
            match what {
                Do::Announce { healthy: true } => self.queue.push_back(WatchEvent::Healthy),
                Do::Announce { healthy: false } => {
                    self.queue.push_back(WatchEvent::Unhealthy { look: look.clone() });
                }
                Do::Hold { for_ms } => self.queue.push_back(WatchEvent::RecoveryHeld { for_ms }),
                Do::BackUp => self.back_up(deadline, true),
                Do::Refresh => self.back_up(deadline, false),
                // Whoever waits for the word of an outage gets it before minutes of recovery.
                Do::Recover => self.recovery_due = true,
            }
        }
        self.rest();
    }

    /// Puts the next look off as long as the node's state allows, unless a change waits for one.
    fn rest(&mut self) {
        if self.unlooked_since.is_some() {
            return;
        }
        let pause =
            if self.vigil.is_unsettled() { self.options.recheck_every } else { self.options.probe_every };
        self.next_look = later(self.clock.now(), pause);
    }

    fn since_began(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.began)
    }

    /// Makes a backup; one that holds what an earlier one does is told where it `is_news`.
    fn back_up(&mut self, deadline: &Deadline, is_news: bool) {
        // Changed since the look: what is there now is not what was proven.
        let changed = self.changed();
        if self.take(changed) {
            return;
        }
        let event = match self.subject.back_up(&deadline.at_most(self.options.look_timeout)) {
            Ok(snapshot) => {
                self.vigil.saved(self.since_began());
                if !is_news && self.told.as_ref() == Some(&snapshot) {
                    return;
                }
                self.told = Some(snapshot.clone());
                WatchEvent::BackedUp { snapshot }
            }
            Err(error) => {
                self.vigil.not_saved(self.since_began(), &self.options);
                WatchEvent::BackupFailed { reason: error.to_string() }
            }
        };
        self.queue.push_back(event);
    }

    fn recover(&mut self, deadline: &Deadline, progress: &mut dyn FnMut(Progress<'_>)) {
        let limit = deadline.at_most(self.options.recover_timeout);
        let event = match self.subject.recover(&limit, progress) {
            Ok(report) => {
                let healthy = report.ending == Ending::Healthy;
                self.queue.push_back(WatchEvent::Recovered { report: Box::new(report) });
                // Its own changes are no news, but no backup holds them, nor what others changed meanwhile.
                if !self.changed().is_empty() {
                    self.vigil.changed();
                }
                if !healthy || !self.vigil.recovered() {
                    return;
                }
                WatchEvent::Healthy
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return,
            Err(error) => WatchEvent::RecoveryFailed { reason: error.to_string() },
        };
        self.queue.push_back(event);
    }
}
