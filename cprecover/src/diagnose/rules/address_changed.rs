//! Mode 5: an address of the manifests is not on this host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::{note, of_log};
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::AddressChanged,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let own = facts.host.addresses.present();
    let is_gone = |address: &IpAddr| {
        !address.is_unspecified() && !address.is_loopback() && own.is_some_and(|own| !own.contains(address))
    };
    let mut gone: BTreeSet<IpAddr> = BTreeSet::new();
    let mut evidence = Vec::new();
    let mut targets = Targets::default();
    for fact in &facts.manifests {
        for listener in fact.pod.present().map(crate::parse::manifest::StaticPod::listeners).unwrap_or_default() {
            let address = listener.address.ip();
            if is_gone(&address) {
                targets.components.push(fact.component);
                if gone.insert(address) {
                    evidence.push(note(
                        EvidenceKind::Manifest,
                        fact.path.display().to_string(),
                        format!("--{} wants {address}, which no interface of this host has", listener.flag),
                    ));
                }
            }
        }
    }
    targets.components.dedup();
    let is_proven = !evidence.is_empty();
    for found in facts.logs(&[S::CannotAssignAddress]) {
        let address = found.param("address").and_then(|text| text.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        // An address that the host has now is no reason any more.
        if own.is_none() || address.is_none_or(|address| is_gone(&address)) {
            gone.extend(address);
            evidence.push(of_log(found));
        }
    }
    if evidence.is_empty() {
        return Answer::unless(own.is_some() || facts.has_log(LogOf::Pod(Component::Etcd)), "the addresses of this host");
    }
    let names: Vec<String> = gone.iter().map(IpAddr::to_string).collect();
    let confidence = if is_proven { Confidence::Proven } else { Confidence::Likely };
    let summary = format!("the address {} of the control plane is not on this host; nobody holds the port", names.join(", "));
    draft(FindingId::AddressChanged, Severity::Critical, confidence, summary)
        .evidence(evidence)
        .targets(targets)
        .remedy("End no process. Give the host its old address back, or change manifests, kubeconfigs and certificates to the new one.")
}
