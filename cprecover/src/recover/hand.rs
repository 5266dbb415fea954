//! What a person asks for on a port, as guarded and recorded as what the engine does: the node's lock, the
//! audit log, and for an etcd member the cluster's lease, the quorum and a saved copy.

use super::act::{self, Performed};
use super::audit::{AuditLog, Event};
use super::bundle::by_looks;
use super::cluster_lock::LeaseLock;
use super::host::Host;
use super::lock::NodeLock;
use super::observation::{JudgedHolder, Observation};
use super::observe::observe;
use super::observe::port::{PortQuestion, hear, options, port_facts};
use super::view::policy_view;
use super::world::{NodeWorld, Prepared, World as _};
use crate::diagnose::diagnose;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, ProcessId, SandboxId};
use crate::policy::Action;
use crate::policy::contract;
use crate::policy::guard::{self, Ruling};
use crate::ports::{self, Class, Evidence, Holder, Query, Verdict};
use crate::sys::Deadline;
use crate::terminate::{self, EndOptions, Outcome, Target};

/// The rule and the policy that the audit log names for what a person asked for.
const BY_HAND: &str = "by-hand";

/// Frees ports by a person's word while it holds the node's lock; each effect is in the audit log.
pub struct ByHand<'a> {
    host: &'a Host<'a>,
    without_quorum: bool,
    _lock: NodeLock,
}

impl<'a> ByHand<'a> {
    /// Takes the node's lock; it is given back when this is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] naming who works on the node, and the kinds of a failed open.
    pub fn begin(host: &'a Host<'a>) -> Result<Self> {
        let lock = NodeLock::acquire(&host.node.store())?;
        Ok(Self { host, without_quorum: false, _lock: lock })
    }

    /// Agrees to steps that leave etcd without a quorum, and to those on a member whose data cannot be saved
    /// first. What fails of both is in the audit log.
    #[must_use]
    pub fn without_quorum(mut self, agreed: bool) -> Self {
        self.without_quorum = agreed;
        self
    }

    /// Ends a holder that was judged an orphan.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when it is etcd's and the quorum or its data speak against it,
    /// [`ErrorKind::Busy`] when another node works on the cluster, else as [`terminate::end`].
    pub fn end(
        &mut self,
        holder: &Holder,
        evidence: &Evidence,
        verdict: &Verdict,
        options: &EndOptions,
        deadline: &Deadline,
    ) -> Result<Outcome> {
        let process = holder.process;
        let (Some(listener), Some(query)) = (holder.listeners.first(), options.port.as_ref()) else {
            return Err(Error::new(ErrorKind::Invalid, format!("{process}: no port was asked about")));
        };
        let (address, port, host) = (listener.address, query.port, self.host);
        let is_etcd = matches!(verdict.class, Class::Orphan { component: Some(Component::Etcd), .. });
        let seen = is_etcd.then(|| {
            let mut seen = observe(host, deadline);
            let (evidence, verdict) = (evidence.clone(), verdict.clone());
            seen.holders.push(JudgedHolder { wanted_by: Component::Etcd, port, address, evidence, verdict });
            seen
        });
        let action = Action::TerminateHolder { port, process };
        let target = Target::judged(holder, evidence, verdict);
        self.record(&action, seen.as_ref(), deadline, || {
            require_orphan(host, holder, query, deadline)?;
            let outcome = terminate::end(&target, options, deadline)?;
            let detail = act::ended(port, process, &evidence.comm, outcome.clone());
            Ok((outcome, detail.map(|performed| performed.detail)))
        })
    }

    /// Removes a sandbox that is proven left over now.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] when it is not proven any more, else as [`ByHand::end`].
    pub fn remove_sandbox(&mut self, sandbox: &SandboxId, deadline: &Deadline) -> Result<Performed> {
        let seen = observe(self.host, deadline);
        let action = Action::RemoveSandbox { sandbox: sandbox.clone() };
        let host = self.host;
        self.record(&action, Some(&seen), deadline, || {
            let performed = act::perform(host, &action, &seen, &[], deadline)?;
            let detail = performed.detail.clone();
            Ok((performed, Ok(detail)))
        })
    }

    /// Records, prepares, does, records; the text that comes with the result is for the log.
    fn record<T>(
        &mut self,
        action: &Action,
        seen: Option<&Observation>,
        deadline: &Deadline,
        effect: impl FnOnce() -> Result<(T, Result<String>)>,
    ) -> Result<T> {
        let host = self.host;
        let mut log = AuditLog::open(&host.node.store(), host.unix_ms())?;
        let begin = Event::Begin {
            action: action.clone(),
            rule: BY_HAND.into(),
            reason: "a person asked for it".into(),
            policy: BY_HAND.into(),
            undo: None,
        };
        let begun = log.append(host.unix_ms(), begin)?;
        // Holds the lease, where one was taken, until the effect is over.
        let mut world = NodeWorld::new(*host, Vec::new()).with_cluster_lock(LeaseLock::new(host));
        let prepared = match seen {
            Some(seen) => self.prepare(&mut world, action, seen, deadline),
            None => Ok(None),
        };
        let result = prepared.and_then(|saved| {
            match saved {
                Some(Prepared::Saved(detail)) => {
                    log.append(host.unix_ms(), Event::Saved { begun, detail })?;
                }
                Some(Prepared::NotSaved(detail)) => {
                    log.append(host.unix_ms(), Event::NotSaved { begun, detail })?;
                }
                None => {}
            }
            effect()
        });
        let failed = |error: &Error| match error.kind() {
            ErrorKind::Refused | ErrorKind::Busy => (contract::Outcome::Refused, error.to_string()),
            _ => (contract::Outcome::Failed, error.to_string()),
        };
        let (outcome, detail) = match &result {
            Ok((_, Ok(detail))) => (contract::Outcome::Done, detail.clone()),
            Ok((_, Err(error))) | Err(error) => failed(error),
        };
        log.append(host.unix_ms(), Event::End { begun, outcome, detail: by_looks(&detail) })?;
        result.map(|(value, _)| value)
    }

    /// Asks for lease, quorum and a saved copy, as the engine and its guard do.
    fn prepare(
        &self,
        world: &mut NodeWorld<'_>,
        action: &Action,
        seen: &Observation,
        deadline: &Deadline,
    ) -> Result<Option<Prepared>> {
        let view = policy_view(seen, &diagnose(&seen.facts), Vec::new(), &[]);
        let checked = match guard::quorum_alone(&view, action) {
            Ruling::Allowed => world.prepare(action, seen, deadline),
            Ruling::Deferred { reason, .. } | Ruling::Refused { reason, .. } => {
                Err(Error::new(ErrorKind::Refused, format!("{action}: {reason}")))
            }
        };
        match checked {
            Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Busy) => Err(error),
            Err(error) if self.without_quorum => {
                let why = format!("neither quorum nor a saved copy is proven, as agreed: {error}");
                Ok(Some(Prepared::NotSaved(why)))
            }
            Err(error) => Err(Error::new(ErrorKind::Refused, format!("nothing was done: {error}"))),
            Ok(prepared) => Ok(prepared),
        }
    }
}

/// Judges again, right before the effect: to save a member takes minutes, and a container that started while
/// the first list was made is not in it.
fn require_orphan(host: &Host<'_>, holder: &Holder, query: &Query, deadline: &Deadline) -> Result<()> {
    let evidence = ports::collect(holder, query, deadline)?;
    let (facts, runtime) = port_facts(host, deadline);
    let verdict = ports::judge(&evidence, runtime.as_ref().map_err(String::as_str), &facts);
    if matches!(verdict.class, Class::Orphan { .. } | Class::Gone) {
        return Ok(());
    }
    let why = verdict.evidence.join("; ");
    let what = format!("{} is not judged an orphan (any more): {why}", holder.process);
    Err(Error::new(ErrorKind::Changed, what))
}

/// Ends the process `process` when it holds the port and is judged an orphan now: under the node's lock, in
/// the audit log, and where it is an etcd member's only if the quorum allows it and its data are saved.
///
/// # Errors
/// [`ErrorKind::Changed`] when the process does not hold the port (any more), [`ErrorKind::Refused`] when
/// it is no orphan or etcd needs it, [`ErrorKind::Busy`] when somebody else works on the node or, with a member
/// of several, on the cluster, else as [`terminate::end`]. A dry run takes no lock and asks no member.
pub fn end_holder(
    host: &Host<'_>,
    question: &PortQuestion,
    process: ProcessId,
    dry_run: bool,
    deadline: &Deadline,
) -> Result<Outcome> {
    let mut hand = if dry_run { None } else { Some(ByHand::begin(host)?) };
    let hearing = hear(host, question, deadline)?;
    let port = question.port;
    let judged = hearing.report.holders.iter().find(|judged| judged.evidence.process == process);
    let holder = hearing.lookup.holders().iter().find(|holder| holder.process == process);
    let (Some(judged), Some(holder)) = (judged, holder) else {
        return Err(Error::new(ErrorKind::Changed, format!("{process} does not hold port {port}")));
    };
    if judged.verdict.action != ports::Action::Terminate {
        let why = judged.verdict.evidence.join("; ");
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{process} on port {port} is not ended: it is no proven orphan ({why})"),
        ));
    }
    let mut options = options(host.node, &hearing);
    options.dry_run = dry_run;
    if let Some(hand) = &mut hand {
        return hand.end(holder, &judged.evidence, &judged.verdict, &options, deadline);
    }
    terminate::end(&Target::judged(holder, &judged.evidence, &judged.verdict), &options, deadline)
}
