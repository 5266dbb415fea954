//! The node, as the engine sees it: looked at, prepared, changed.

use std::net::IpAddr;

use super::act::{self, Performed};
use super::cache::Cache;
use super::cluster_lock::ClusterLock;
use super::host::Host;
use super::observation::Observation;
use super::observe::etcd::addresses;
use super::observe::observe_again;
use super::undo::{TakenBack, Undo};
use crate::error::Result;
use crate::policy::Action;
use crate::policy::contract::Consent;
use crate::sys::Deadline;

/// What came of saving what a step could destroy; in words, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepared {
    /// What was saved, and where.
    Saved(String),
    /// Why nothing was saved.
    NotSaved(String),
}

impl Prepared {
    /// Puts what was found before in front of it.
    pub(super) fn behind(self, said: Option<String>) -> Self {
        let join = |text: String| match said {
            Some(said) => format!("{said}; {text}"),
            None => text,
        };
        match self {
            Self::Saved(text) => Self::Saved(join(text)),
            Self::NotSaved(text) => Self::NotSaved(join(text)),
        }
    }
}

/// The node, as the loop sees it.
pub trait World {
    /// Looks at the node.
    fn observe(&mut self, deadline: &Deadline) -> Observation;

    /// Does one action.
    ///
    /// # Errors
    /// [`Changed`](crate::ErrorKind::Changed) when the precondition does not hold any more; nothing was
    /// done then.
    fn perform(&mut self, action: &Action, seen: &Observation, deadline: &Deadline) -> Result<Performed>;

    /// Proves and saves what has to be before an action: for a step on an etcd member, the quorum it
    /// leaves and the member's data. Returns what was saved or why nothing was, for the audit log.
    ///
    /// # Errors
    /// Then the action must not be done.
    fn prepare(
        &mut self,
        _action: &Action,
        _seen: &Observation,
        _deadline: &Deadline,
    ) -> Result<Option<Prepared>> {
        Ok(None)
    }

    /// How an action, about to be done, is taken back; written down before it. `None` where it cannot or
    /// need not be.
    fn undo_of(&mut self, _action: &Action, _seen: &Observation) -> Option<Undo> {
        None
    }

    /// Takes an effect back that began at `since_unix_ms`, where that makes nothing worse; safe to repeat.
    ///
    /// # Errors
    /// What is left behind is then part of the next observation.
    fn undo(&mut self, _undo: &Undo, _since_unix_ms: u64, _deadline: &Deadline) -> Result<TakenBack> {
        Ok(TakenBack::Kept("this world takes nothing back".into()))
    }
}

/// A real node.
pub struct NodeWorld<'a> {
    host: Host<'a>,
    consents: Vec<Consent>,
    unsaved_is_fine: bool,
    cache: Cache,
    cluster_lock: Option<Box<dyn ClusterLock + 'a>>,
}

impl<'a> NodeWorld<'a> {
    /// Wraps a node; `consents` are what the caller agreed to beforehand.
    #[must_use]
    pub fn new(host: Host<'a>, consents: Vec<Consent>) -> Self {
        Self { host, consents, unsaved_is_fine: false, cache: Cache::default(), cluster_lock: None }
    }

    /// Takes this lock before a step on a member of an etcd cluster of several.
    #[must_use]
    pub fn with_cluster_lock(mut self, lock: impl ClusterLock + 'a) -> Self {
        self.cluster_lock = Some(Box::new(lock));
        self
    }

    /// Gives the cluster lock back, as far as the cluster can be asked.
    pub(super) fn release_cluster_lock(&mut self, deadline: &Deadline) {
        if let Some(lock) = &mut self.cluster_lock {
            lock.release(deadline);
        }
    }

    /// Agrees to steps on an etcd member whose data could be saved first, but saving failed.
    #[must_use]
    pub fn accept_unsaved_member(mut self, agreed: bool) -> Self {
        self.unsaved_is_fine = agreed;
        self
    }
}

/// Where the other members of the cluster run, as their URLs say; no name is looked up.
fn peers(seen: &Observation) -> Vec<IpAddr> {
    let members = seen.etcd_facts.cluster.present().map(|view| view.members.as_slice()).unwrap_or_default();
    let own = seen.etcd_facts.local.as_deref();
    let mut found = Vec::new();
    for member in members.iter().filter(|member| own.is_none_or(|own| !member.is_called(own))) {
        for address in addresses(&member.peer_urls).chain(addresses(&member.client_urls)) {
            if !found.contains(&address.ip()) {
                found.push(address.ip());
            }
        }
    }
    found
}

impl World for NodeWorld<'_> {
    fn observe(&mut self, deadline: &Deadline) -> Observation {
        observe_again(&self.host, &mut self.cache, deadline)
    }

    fn perform(&mut self, action: &Action, seen: &Observation, deadline: &Deadline) -> Result<Performed> {
        act::perform(&self.host, action, seen, &self.consents, deadline)
    }

    fn prepare(
        &mut self,
        action: &Action,
        seen: &Observation,
        deadline: &Deadline,
    ) -> Result<Option<Prepared>> {
        // A cluster whose members are not known may have several.
        let is_alone = seen.etcd.members.len() == 1;
        if let (false, true, Some(lock)) =
            (is_alone, act::touches_etcd(action, seen), self.cluster_lock.as_mut())
        {
            lock.hold(&peers(seen), deadline)?;
        }
        act::prepare(&self.host, action, seen, self.unsaved_is_fine, &self.consents, deadline)
    }

    fn undo_of(&mut self, action: &Action, seen: &Observation) -> Option<Undo> {
        act::undo::undo_of(action, seen, |component| act::undo::digest_of(self.host.node, component))
    }

    fn undo(&mut self, undo: &Undo, since_unix_ms: u64, deadline: &Deadline) -> Result<TakenBack> {
        act::undo::undo(&self.host, undo, since_unix_ms, deadline)
    }
}
