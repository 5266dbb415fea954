//! One recovery with everything that guards it.

use super::audit::AuditLog;
use super::cluster_lock::LeaseLock;
use super::engine::{Engine, Progress, RecoverOptions};
use super::host::Host;
use super::lock::NodeLock;
use super::report::Report;
use super::world::NodeWorld;
use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;
use crate::policy::{Outcome, contract};
use crate::sys::Deadline;

/// Recovers a node: under the node's lock, with the cluster's lease for steps on an etcd of several members,
/// and with everything that is done in the audit log.
///
/// `decide` is asked what to do, most often a [`Policy`](crate::policy::Policy). A dry run takes neither lock nor
/// lease and writes nothing; an audit log that cannot be read does not keep it from saying what would be done.
/// That the node did not become healthy is part of the report, and no error.
///
/// # Errors
/// [`ErrorKind::Busy`] when another engine works on the node, [`ErrorKind::Corrupt`] when its audit log was
/// meddled with, and the kinds of a failed write to it: an effect that cannot be recorded is not begun.
pub fn recover(
    host: &Host<'_>,
    decide: &dyn Fn(&contract::Observation) -> Outcome,
    options: &RecoverOptions,
    deadline: &Deadline,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    let (node, clock) = (host.node, host.clock);
    let mut world = NodeWorld::new(*host, options.consents.clone())
        .accept_unsaved_member(options.accept_unsaved_member)
        .with_cluster_lock(LeaseLock::new(host));
    let store = node.store();
    if options.dry_run {
        // The past only counts how often something was tried.
        let past = AuditLog::read_if_any(&store).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was done before is not known");
            Vec::new()
        });
        let mut engine = Engine::new(&mut world, decide, clock, None, options).with_past(&past);
        return engine.run(deadline, progress);
    }
    let _lock = NodeLock::acquire(&store)?;
    let mut log = AuditLog::open(&store, host.unix_ms()).map_err(|error| with_way_out(error, node))?;
    Engine::new(&mut world, decide, clock, Some(&mut log), options).run(deadline, progress)
}

/// Says what to do about a log that was meddled with: a recovery does not depend on what is in it.
fn with_way_out(error: Error, node: &NodeOptions) -> Error {
    if error.kind() != ErrorKind::Corrupt {
        return error;
    }
    let verify = node.by_hand("audit verify");
    error.context(format!(
        "the audit log is not whole (`{verify}` says where); keep audit.jsonl and audit.end.json elsewhere with mv, then \
         run again"
    ))
}
