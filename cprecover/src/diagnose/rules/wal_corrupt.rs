//! Mode 12: the write-ahead log is damaged.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{DataVerdict, Facts};
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::note;
use crate::logs::SignatureId as S;
use crate::model::Component;

pub(super) const RULE: Rule = Rule {
    id: FindingId::WalCorrupt,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let mut evidence = facts.log_evidence(&[S::WalCrcMismatch, S::WalCannotBeRepaired, S::WalMissing]);
    let seen = match facts.etcd_data.present() {
        Some(DataVerdict::WalCorrupt(why)) => Some(note(EvidenceKind::Data, "etcd data folder", why.as_str())),
        _ => None,
    };
    let confidence = if seen.is_some() { Confidence::Proven } else { Confidence::Likely };
    evidence.splice(0..0, seen);
    if evidence.is_empty() {
        return Answer::unless(facts.has_log(LogOf::Pod(Component::Etcd)), "the log of etcd, and its data folder");
    }
    draft(FindingId::WalCorrupt, Severity::Critical, confidence, "etcd's write-ahead log is damaged, so etcd does not start")
        .evidence(evidence)
        .remedy("Keep a copy of the data folder. With other healthy members remove this one and add it anew; alone restore the last snapshot. etcd repairs only a torn end, once.")
}
