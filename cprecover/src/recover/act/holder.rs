//! Ends an orphan that holds a port.

use super::Performed;
use crate::cri::{self, RuntimeView};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Observed, Port, ProcessId};
use crate::parse::manifest::StaticPod;
use crate::ports::{self, Action, Lookup, Query};
use crate::recover::host::Host;
use crate::recover::observation::Observation;
use crate::recover::observe::holders::Court;
use crate::sys::Deadline;
use crate::terminate::{self, EndOptions, EtcdVersion, Outcome, Target};

pub(super) fn end(
    host: &Host<'_>,
    port: Port,
    process: ProcessId,
    seen: &Observation,
    deadline: &Deadline,
) -> Result<Performed> {
    let known = seen.holders.iter().find(|holder| holder.port == port && holder.evidence.process == process);
    let known = known
        .ok_or_else(|| Error::new(ErrorKind::Changed, format!("{process} was not seen on port {port}")))?;
    // The precondition, again, from scratch: who holds the port now, and what is it?
    let runtime = cri::connect(host.node, host.commands, deadline)?;
    let state = Observed::Present(runtime.list(deadline)?);
    let view: &dyn RuntimeView = runtime.as_ref();
    let court = Court::new(host.node, &seen.pods, Some(view), &state, deadline);
    let (lookup, judged) = court.hear(host.node, known.wanted_by, known.address, deadline)?;
    if matches!(lookup, Lookup::Free) {
        return Ok(Performed::new(format!("port {port} is free already")));
    }
    let found = lookup.holders().iter().zip(&judged).find(|(holder, _)| holder.process == process);
    let Some((holder, judged)) = found else {
        return Err(Error::new(ErrorKind::Changed, format!("{process} does not hold port {port} any more")));
    };
    if judged.verdict.action != Action::Terminate {
        let why = judged.verdict.evidence.join("; ");
        return Err(Error::new(
            ErrorKind::Changed,
            format!("{process} is not judged an orphan any more: {why}"),
        ));
    }
    let target = Target::judged(holder, &judged.evidence, &judged.verdict);
    let outcome = terminate::end(&target, &options(host, known.wanted_by, known.address, seen), deadline)?;
    ended(port, process, &judged.evidence.comm, outcome)
}

fn options(
    host: &Host<'_>,
    component: Component,
    address: std::net::SocketAddr,
    seen: &Observation,
) -> EndOptions {
    let pod = seen.pods.iter().find(|pod| pod.component == component).and_then(|pod| pod.pod.as_ref());
    let mut options = EndOptions::on_node(host.node);
    options.port =
        Port::new(address.port()).map(|port| Query::on_node(host.node, port).address(address.ip()));
    if component == Component::Etcd {
        let folder =
            pod.and_then(StaticPod::etcd_data_dir).unwrap_or_else(|| host.node.etcd_data_dir.clone());
        let database = host.node.resolve(folder).join("member/snap/db");
        options.database = ports::lock_is_free(&database).is_ok().then_some(database);
        options.etcd_version =
            pod.and_then(StaticPod::main).and_then(|main| EtcdVersion::of_image(&main.image));
    }
    options
}

/// Says in words what came of it; an error when something is still held.
pub(in crate::recover) fn ended(
    port: Port,
    process: ProcessId,
    comm: &str,
    outcome: Outcome,
) -> Result<Performed> {
    match outcome {
        Outcome::Ended { steps, release, notes } if release.is_complete() => {
            let killed = steps
                .iter()
                .any(|step| matches!(step, terminate::Step::Kill | terminate::Step::KillCgroup { .. }));
            let how = if killed { "SIGKILL after the grace time" } else { "SIGTERM" };
            let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
            Ok(Performed::new(format!(
                "{comm}, {process}, ended by {how}; port {port} and the lock are free{notes}"
            )))
        }
        Outcome::AlreadyGone { release } if release.is_complete() => {
            Ok(Performed::new(format!("{process} had ended; port {port} and the lock are free")))
        }
        Outcome::LetGo { release, .. } if release.is_complete() => {
            Ok(Performed::new(format!("{comm}, {process}, let go of port {port} and the lock after SIGTERM")))
        }
        Outcome::Ended { .. } | Outcome::AlreadyGone { .. } | Outcome::LetGo { .. } => Err(Error::new(
            ErrorKind::Changed,
            format!("{process} ended, but port {port} or the lock on the database is still held"),
        )),
        Outcome::Survived { state, .. } => {
            Err(Error::new(ErrorKind::Timeout, format!("{process} still exists after SIGKILL: {state}")))
        }
        Outcome::WouldEnd { .. } => Err(Error::new(ErrorKind::Internal, "a dry run was not asked for")),
    }
}
