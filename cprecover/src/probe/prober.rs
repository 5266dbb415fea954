//! Asks each health endpoint of a node once, and port holders at the endpoint that is their own.

use std::cell::RefCell;

use super::target::target_by_flags;
use super::{Limits, Outcome, Target, Trust, probe};
use crate::error::Result;
use crate::healthz::Verdict;
use crate::model::{Component, Observed, Port};
use crate::node::NodeOptions;
use crate::ports::procdir::ProcDir;
use crate::ports::{self, AskHealth, Evidence, Query};
use crate::sys::Deadline;

/// More answers than this are not kept; a node has four endpoints.
const MAX_KEPT: usize = 64;

/// Asks health endpoints of one node, each at most once: for one look at the node, not for longer.
pub struct Prober<'a> {
    node: &'a NodeOptions,
    limits: fn(Component) -> Limits,
    answers: RefCell<Vec<(Target, Outcome)>>,
}

impl std::fmt::Debug for Prober<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").field("answers", &self.answers.borrow().len()).finish_non_exhaustive()
    }
}

impl<'a> Prober<'a> {
    /// Asks within `limits` of each component.
    #[must_use]
    pub fn new(node: &'a NodeOptions, limits: fn(Component) -> Limits) -> Self {
        Self { node, limits, answers: RefCell::default() }
    }

    /// Asks `target`, or returns what it answered before.
    ///
    /// # Errors
    /// As [`probe`].
    pub fn outcome(&self, component: Component, target: &Target, deadline: &Deadline) -> Result<Outcome> {
        if let Some((_, known)) = self.answers.borrow().iter().find(|(asked, _)| asked == target) {
            return Ok(known.clone());
        }
        let outcome = probe(target, &(self.limits)(component), deadline)?;
        let mut answers = self.answers.borrow_mut();
        if answers.len() < MAX_KEPT {
            answers.push((target.clone(), outcome.clone()));
        }
        Ok(outcome)
    }

    fn ask_holder(
        &self,
        evidence: &Evidence,
        query: &Query,
        deadline: &Deadline,
    ) -> Result<Observed<bool>, String> {
        let component = evidence.component().ok_or("its program is no control-plane component's")?;
        let line = evidence.command_line.present().ok_or("its command line is unreadable")?;
        // Controller manager and scheduler sign their own certificates; kubelet does not verify them either.
        let insecure = matches!(component, Component::KubeControllerManager | Component::KubeScheduler);
        let target = target_by_flags(component, self.node, |flag| line.flag(flag), insecure)
            .map_err(|error| error.to_string())?;
        if !owns(evidence, query, &target).map_err(|error| error.to_string())? {
            return Err(format!("{} is where it should answer, and is not its own", target.address));
        }
        let asked = if query.namespace == ports::NetNamespace::Own {
            self.outcome(component, &target, deadline)
        } else {
            // The same address means something else in another namespace, so that nothing is kept.
            let limits = (self.limits)(component);
            ports::within(&query.namespace, &query.proc_dir, || probe(&target, &limits, deadline))
        };
        said(&target, asked.map_err(|error| error.to_string())?)
    }
}

impl AskHealth for Prober<'_> {
    fn ask(&self, evidence: &Evidence, query: &Query, deadline: &Deadline) -> Observed<bool> {
        self.ask_holder(evidence, query, deadline).unwrap_or_else(Observed::Unknown)
    }
}

/// Reports whether the process has a socket open that listens at the target's address.
fn owns(evidence: &Evidence, query: &Query, target: &Target) -> Result<bool> {
    let Some(port) = Port::new(target.address.port()) else { return Ok(false) };
    let mut query = query.clone();
    (query.port, query.address) = (port, Some(target.address.ip()));
    let inodes: Vec<u64> = ports::listeners(&query)?.iter().map(|listener| listener.inode).collect();
    ports::owns(&ProcDir::open(&query.proc_dir)?, evidence.process.pid, &inodes)
}

/// Says what an outcome means for the process that was asked.
fn said(target: &Target, outcome: Outcome) -> Result<Observed<bool>, String> {
    let scheme = if target.trust == Trust::PlainHttp { "http" } else { "https" };
    let at = format!("{scheme}://{}{}", target.address, target.path);
    match outcome {
        Outcome::Answered { report } => match report.verdict {
            Verdict::Healthy => Ok(Observed::Present(true)),
            Verdict::Unhealthy => Ok(Observed::Present(false)),
            Verdict::AliveUndetermined | Verdict::Unknown => {
                Err(format!("what {at} answers says nothing about it"))
            }
        },
        Outcome::Refused | Outcome::Timeout | Outcome::Hung { .. } | Outcome::Reset { .. } => {
            Ok(Observed::Absent)
        }
        Outcome::Tls { reason } => Err(format!("TLS to {at} failed: {reason}")),
        Outcome::Unreachable { reason } => Err(format!("{at} cannot be reached: {reason}")),
        Outcome::NotHttp { reason } => Err(format!("{at} does not speak HTTP: {reason}")),
    }
}
