//! Mode 3: a service or another program holds the port.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{Facts, HolderClass, PortHolder};
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::{note, of_log};
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::ForeignHolder,
    is_effect: false,
    effects: super::PORT_TAKEN,
    check,
};

fn check(facts: &Facts) -> Answer {
    if facts.port_holders.present().is_none() {
        let has_conflict = Component::ALL.into_iter().any(|component| !facts.bind_conflicts(component).is_empty());
        return Answer::unless(!has_conflict && facts.has_logs_of_the_stopped(&Component::ALL), "who holds the port");
    }
    let foreign: Vec<&PortHolder> = facts
        .holders()
        .iter()
        .filter(|holder| matches!(holder.class, HolderClass::Service | HolderClass::Foreign))
        .filter(|holder| holder.wanted_by.is_some_and(|component| facts.running_containers(component).is_empty()))
        .collect();
    let Some(first) = foreign.first() else { return Answer::Excluded };
    let mut targets = Targets::default();
    for holder in &foreign {
        targets.components.extend(holder.wanted_by);
        targets.ports.push(holder.port);
        targets.pids.extend(holder.pid);
    }
    super::tidy(&mut targets);
    let what = if first.class == HolderClass::Service { "a service of this host" } else { "another program" };
    let summary = format!("{what}, {}, holds port {} of the control plane", first.name, first.port);
    let seen =
        foreign.iter().map(|holder| note(EvidenceKind::Port, format!("port {}", holder.port), holder.evidence.as_str()));
    let conflicts = targets.components.iter().flat_map(|component| facts.bind_conflicts(*component)).map(of_log);
    draft(FindingId::ForeignHolder, Severity::Critical, Confidence::Proven, summary)
        .evidence(seen.chain(conflicts).collect::<Vec<_>>())
        .targets(targets)
        .remedy("This is not ours to end. If it is not meant to run here, stop it with its own service manager; else move one of the two to another port.")
}
