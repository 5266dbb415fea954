//! One port on demand: who holds it, and what kind of holder that is.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::holders::Court;
use super::{ask_runtime, good_backups, limits, manifests};
use crate::backup::Store;
use crate::cri::RuntimeView;
use crate::error::Result;
use crate::model::{Component, Port};
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::ports::{self, Evidence, Lookup, NodeFacts, Query, RuntimeFacts, Unowned, Verdict};
use crate::probe::Prober;
use crate::recover::host::Host;
use crate::recover::observation::ExpectedPod;
use crate::sys::Deadline;
use crate::terminate::{EndOptions, EtcdVersion};

/// Whether somebody listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PortState {
    /// Somebody does, and every listener's owner is known.
    Held,
    /// Somebody does, but the owner of a listener cannot be read.
    OwnerUnknown,
    /// Nobody does.
    Free,
    /// The asked address is on no interface of this host.
    AddressNotOnHost,
}

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PortReport {
    /// The port.
    pub port: Port,
    /// Whether it is held.
    pub state: PortState,
    /// The component whose manifest wants the port, if one does.
    pub wanted_by: Option<Component>,
    /// The holders, judged.
    pub holders: Vec<PortVerdict>,
    /// Listeners without a known owner.
    pub unowned: Vec<Unowned>,
}

/// A holder with the evidence and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PortVerdict {
    /// What was read about the process.
    pub evidence: Evidence,
    /// What it is.
    pub verdict: Verdict,
}

/// What is asked about a port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortQuestion {
    /// The port.
    pub port: Port,
    /// The address that somebody wants to bind; any when not given.
    pub address: Option<IpAddr>,
    /// Whose port it should be; found by the manifests when not given.
    pub wanted_by: Option<Component>,
}

impl PortQuestion {
    /// Asks about a port on any address.
    #[must_use]
    pub const fn new(port: Port) -> Self {
        Self { port, address: None, wanted_by: None }
    }
}

/// Looks up and judges the holders of one port; changes nothing.
///
/// # Errors
/// As [`ports::find`]. A runtime that does not answer is no error: its verdicts say what is missing.
pub fn port_report(host: &Host<'_>, question: &PortQuestion, deadline: &Deadline) -> Result<PortReport> {
    hear(host, question, deadline).map(|hearing| hearing.report)
}

/// Says how a holder of the port is ended: what has to be free afterwards, and the release of an etcd.
pub(in crate::recover) fn options(node: &NodeOptions, hearing: &Hearing) -> EndOptions {
    let mut options = EndOptions::on_node(node);
    options.port = Some(hearing.query.clone());
    if hearing.report.wanted_by == Some(Component::Etcd) {
        let pod = hearing.pods.iter().find(|pod| pod.component == Component::Etcd);
        let pod = pod.and_then(|pod| pod.pod.as_ref());
        let folder = pod.and_then(StaticPod::etcd_data_dir).unwrap_or_else(|| node.etcd_data_dir.clone());
        let database = node.resolve(folder).join(ports::DATABASE);
        options.database = ports::lock_is_free(&database).is_ok().then_some(database);
        options.etcd_version =
            pod.and_then(StaticPod::main).and_then(|main| EtcdVersion::of_image(&main.image));
    }
    options
}

/// A port's holders, judged, and what they were compared with.
pub(in crate::recover) struct Hearing {
    pub(in crate::recover) report: PortReport,
    pub(in crate::recover) lookup: Lookup,
    query: Query,
    pods: Vec<ExpectedPod>,
}

/// Looks up and judges.
pub(in crate::recover) fn hear(
    host: &Host<'_>,
    question: &PortQuestion,
    deadline: &Deadline,
) -> Result<Hearing> {
    let node = host.node;
    let pods = known_pods(host, deadline);
    let (runtime, _, state) = ask_runtime(host, deadline);
    let view = runtime.as_deref().map(|runtime| runtime as &dyn RuntimeView);
    let prober = Prober::new(node, limits);
    let court = Court::new(node, &pods, view, &state, deadline).asking(&prober);
    let wanted_by = question.wanted_by.or_else(|| wanted_by(&pods, question.port));

    let mut query = court.query(node, question.port);
    query.address = question.address;
    let lookup = ports::find(&query, deadline)?;
    let mut holders = Vec::new();
    for holder in lookup.holders() {
        let evidence = court.collect(holder, &query, deadline)?;
        let verdict = court.judge(&evidence, wanted_by);
        holders.push(PortVerdict { evidence, verdict });
    }
    let (state, unowned) = match &lookup {
        Lookup::Found { .. } => (PortState::Held, Vec::new()),
        Lookup::OwnerUnknown { unowned, .. } => (PortState::OwnerUnknown, unowned.clone()),
        Lookup::Free => (PortState::Free, Vec::new()),
        Lookup::AddressNotOnHost { .. } => (PortState::AddressNotOnHost, Vec::new()),
    };
    let report = PortReport { port: question.port, state, wanted_by, holders, unowned };
    Ok(Hearing { report, lookup, query, pods })
}

/// Gathers what holders are compared with: the manifests in place or, where one is gone, its last good
/// backup, and the runtime's lists or why there are none; changes nothing.
pub fn port_facts(
    host: &Host<'_>,
    deadline: &Deadline,
) -> (NodeFacts, std::result::Result<RuntimeFacts, String>) {
    let pods = known_pods(host, deadline);
    let (runtime, _, state) = ask_runtime(host, deadline);
    let view = runtime.as_deref().map(|runtime| runtime as &dyn RuntimeView);
    let court = Court::new(host.node, &pods, view, &state, deadline);
    (court.facts, court.runtime)
}

/// The pods that this node should run; without backups the manifests in place are all that is known,
/// and the verdicts then say so.
pub(in crate::recover) fn known_pods(host: &Host<'_>, deadline: &Deadline) -> Vec<ExpectedPod> {
    let facts = manifests::live(host.node);
    let store = Store::open_read_only(host.node);
    let known =
        store.as_ref().ok().and_then(|store| good_backups(host, store, deadline).ok()).unwrap_or_default();
    manifests::expected(&facts, &known, store.as_ref().ok())
}

fn wanted_by(pods: &[ExpectedPod], port: Port) -> Option<Component> {
    let wants = |pod: &StaticPod| pod.listeners().iter().any(|own| own.address.port() == port.get());
    pods.iter().find(|expected| expected.pod.as_ref().is_some_and(wants)).map(|expected| expected.component)
}
