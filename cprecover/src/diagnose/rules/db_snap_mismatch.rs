//! Mode 14: database, snapshot and log do not belong together.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{DataVerdict, Facts};
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::note;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::DbSnapMismatch,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let mut evidence = facts.log_evidence(&[S::SnapMissing, S::DbMissing, S::DbSnapMismatch]);
    let seen = match facts.etcd_data.present() {
        Some(DataVerdict::Mismatch(why)) => Some(note(EvidenceKind::Data, "etcd data folder", why.as_str())),
        _ => None,
    };
    let confidence = if seen.is_some() { Confidence::Proven } else { Confidence::Likely };
    evidence.splice(0..0, seen);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::Etcd)), "the log of etcd, and its data folder");
    }
    draft(FindingId::DbSnapMismatch, Severity::Critical, confidence, "etcd's database and snapshot do not belong together, so etcd does not start")
        .evidence(evidence)
        .remedy("Keep a copy of the data folder and restore the folder as a whole: db, snap and wal of one point in time, or a snapshot into a new folder.")
}
