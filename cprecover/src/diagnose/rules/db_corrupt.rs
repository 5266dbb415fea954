//! Mode 13: the database file is damaged.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{DataVerdict, Facts};
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::note;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::DbCorrupt,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let mut evidence = facts.log_evidence(&[S::Freepages, S::InvalidDatabase]);
    let seen = match facts.etcd_data.present() {
        Some(DataVerdict::DbCorrupt(why)) => Some(note(EvidenceKind::Data, "etcd data folder", why.as_str())),
        _ => None,
    };
    let confidence = if seen.is_some() { Confidence::Proven } else { Confidence::Likely };
    evidence.splice(0..0, seen);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::Etcd)), "the log of etcd, and its data folder");
    }
    draft(FindingId::DbCorrupt, Severity::Critical, confidence, "etcd's database file is damaged, so etcd does not start")
        .evidence(evidence)
        .remedy("Keep a copy of the data folder and check it with `bbolt check`. With other healthy members remove this one and add it anew; alone restore the last snapshot.")
}
