//! Looks a port up and judges every holder by the runtime's lists and the node's manifests.

use std::net::SocketAddr;
use std::time::Duration;

use cprecover::model::{Component, Observed, Pid};
use cprecover::ports::{
    self, AskHealth as _, Class, Evidence, Holder, IdentityProof, Lookup, PodFacts, Query, Verdict,
};
use cprecover::probe::{Limits, Prober};
use cprecover::recover::{Host, port_facts};
use cprecover::sys::Deadline;
use cprecover::{NodeOptions, Result};
use serde::Serialize;

/// A judged holder.
pub(super) struct Judged {
    pub(super) holder: Holder,
    pub(super) evidence: Evidence,
    pub(super) verdict: Verdict,
}

/// What was found, and what it was compared with.
pub(super) struct Hearing {
    pub(super) lookup: Lookup,
    pub(super) judged: Vec<Judged>,
    /// The pods of this node, for an etcd's data directory and version.
    pub(super) pods: Vec<PodFacts>,
}

/// Looks up and judges.
pub(super) fn hear(
    node: &NodeOptions,
    query: &Query,
    expected: Option<Component>,
    deadline: &Deadline,
) -> Result<Hearing> {
    let lookup = ports::find(query, deadline)?;
    if lookup.holders().is_empty() {
        return Ok(Hearing { lookup, judged: Vec::new(), pods: Vec::new() });
    }
    let (mut facts, runtime) = port_facts(&Host::new(node), deadline);
    facts.expected = expected;
    let prober = Prober::new(node, |_| limits());
    let mut judged = Vec::new();
    for holder in lookup.holders() {
        let mut evidence = ports::collect(holder, query, deadline)?;
        evidence.healthy = prober.ask(&evidence, query, deadline);
        let verdict = ports::judge(&evidence, runtime.as_ref().map_err(String::as_str), &facts);
        judged.push(Judged { holder: holder.clone(), evidence, verdict });
    }
    Ok(Hearing { lookup, judged, pods: facts.pods })
}

/// Longer than etcd's election and the API server's own etcd check take, short enough to wait for.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.connect = Duration::from_millis(500);
    limits.first_byte = Duration::from_millis(2500);
    limits.whole = Duration::from_secs(4);
    limits
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
    /// What it answers to a health question.
    healthy: Observed<bool>,
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
            healthy: self.evidence.healthy.clone(),
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
