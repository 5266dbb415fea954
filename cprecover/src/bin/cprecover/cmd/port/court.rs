//! Looks a port up and judges every holder by the runtime's lists and the node's manifests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cprecover::cri::{self, RuntimeView};
use cprecover::model::{Component, ContainerId, Observed, Pid};
use cprecover::parse::manifest::{MAX_MANIFEST_BYTES, StaticPod};
use cprecover::ports::{
    self, Class, Evidence, Holder, IdentityProof, Lookup, NodeFacts, PodFacts, Query, RuntimeFacts, Verdict,
};
use cprecover::sys::{Deadline, SystemCommands, read_bounded};
use cprecover::{NodeOptions, Result};
use serde::Serialize;

/// Running containers whose pids are asked for.
const MAX_DETAILS: usize = 16;

/// A judged holder.
pub(super) struct Judged {
    pub(super) holder: Holder,
    pub(super) evidence: Evidence,
    pub(super) verdict: Verdict,
}

/// Looks up and judges.
pub(super) fn hear(
    node: &NodeOptions,
    query: &Query,
    expected: Option<Component>,
    deadline: &Deadline,
) -> Result<(Lookup, Vec<Judged>)> {
    let lookup = ports::find(query, deadline)?;
    if lookup.holders().is_empty() {
        return Ok((lookup, Vec::new()));
    }
    let facts = NodeFacts { pods: pods(node), pod_identity: node.pod_identity, expected };
    let runtime = runtime(node, deadline);
    let mut judged = Vec::new();
    for holder in lookup.holders() {
        let evidence = ports::collect(holder, query, deadline)?;
        let verdict = ports::judge(&evidence, runtime.as_ref().map_err(String::as_str), &facts);
        judged.push(Judged { holder: holder.clone(), evidence, verdict });
    }
    Ok((lookup, judged))
}

/// Reads the manifests that are there; one that is missing or malformed proves nothing.
pub(super) fn pods(node: &NodeOptions) -> Vec<PodFacts> {
    Component::ALL
        .into_iter()
        .filter_map(|component| {
            let path = node.manifests().join(component.manifest_file());
            let pod = read_bounded(&path, MAX_MANIFEST_BYTES).and_then(|bytes| StaticPod::parse(&bytes));
            let pod = pod.inspect_err(|error| tracing::info!(%error, "no manifest to compare with")).ok()?;
            let database = match pod.etcd_data_dir() {
                Some(dir) => ports::database_file(&node.resolve(dir)),
                None => Observed::Absent,
            };
            PodFacts::of_manifest(&pod, database)
        })
        .collect()
}

fn runtime(node: &NodeOptions, deadline: &Deadline) -> Result<RuntimeFacts, String> {
    let ask = || {
        let runtime = cri::connect(node, &SystemCommands, deadline)?;
        let state = runtime.list(deadline)?;
        Ok(RuntimeFacts { pids: pids(&state, runtime.as_ref(), deadline), state })
    };
    ask().map_err(|error: cprecover::Error| error.to_string())
}

fn pids(
    state: &cri::RuntimeState,
    view: &dyn RuntimeView,
    deadline: &Deadline,
) -> BTreeMap<ContainerId, Pid> {
    let running = Component::ALL.into_iter().flat_map(|component| state.component_containers(component));
    running
        .filter(|container| container.is_running())
        .take(MAX_DETAILS)
        .filter_map(|container| {
            let detail = view.container_detail(&container.id, deadline).ok()?;
            Some((container.id.clone(), detail.pid?))
        })
        .collect()
}

/// A holder, as it is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Printed {
    pub(super) pid: Pid,
    start_ticks: u64,
    pub(super) name: String,
    addresses: Vec<SocketAddr>,
    /// The letter that the documentation gives the class.
    letter: Option<char>,
    class: Class,
    action: ports::Action,
    proof: IdentityProof,
    evidence: Vec<String>,
}

impl Judged {
    pub(super) fn printed(&self) -> Printed {
        Printed {
            pid: self.holder.process.pid,
            start_ticks: self.holder.process.start_ticks,
            name: self.holder.comm.clone(),
            addresses: self.holder.listeners.iter().map(|listener| listener.address).collect(),
            letter: letter(&self.verdict.class),
            class: self.verdict.class.clone(),
            action: self.verdict.action.clone(),
            proof: self.verdict.proof,
            evidence: self.verdict.evidence.clone(),
        }
    }
}

impl Printed {
    /// Returns the holder as lines for people.
    pub(super) fn lines(&self) -> String {
        let letter = self.letter.map(|letter| format!("({letter}) ")).unwrap_or_default();
        let mut text = format!("pid {} {}: {letter}{}\n", self.pid, self.name, in_words(&self.class));
        for fact in &self.evidence {
            text.push_str("  ");
            text.push_str(fact);
            text.push('\n');
        }
        text
    }
}

fn letter(class: &Class) -> Option<char> {
    Some(match class {
        Class::Live { .. } => 'a',
        Class::Stale { .. } => 'b',
        Class::Orphan { .. } => 'c',
        Class::Unit { .. } => 'd',
        Class::Foreign { .. } => 'e',
        Class::Gone => 'f',
        _ => return None,
    })
}

/// Puts a class and what follows from it into words.
pub(super) fn in_words(class: &Class) -> String {
    match class {
        Class::Live { container, .. } => {
            format!("the live container {container} of its pod's newest sandbox; leave it")
        }
        Class::Stale { sandbox, newest, .. } => format!(
            "a container of sandbox {sandbox}, which {newest} replaced; that sandbox has to be removed through the runtime"
        ),
        Class::Orphan { .. } => "an orphan that the container runtime lost; end it".to_owned(),
        Class::Unit { unit: Some(unit), .. } => format!("it belongs to {}; stop that unit instead", unit.0),
        Class::Unit { cgroup, .. } => format!("it belongs to cgroup {cgroup}, no pod's; not ours to end"),
        Class::Foreign { program } => format!("another program, {program}; not ours to end"),
        Class::Gone => "gone meanwhile; look again".to_owned(),
        Class::Unproven { missing } => format!("unproven: {missing}"),
        _ => "unknown".to_owned(),
    }
}
