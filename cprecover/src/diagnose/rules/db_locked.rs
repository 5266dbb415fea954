//! Mode 11: another process holds etcd's database.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::{DataVerdict, Facts};
use crate::diagnose::finding::{Confidence, Evidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::log_of::LogOf;
use crate::diagnose::query::note;
use crate::logs::SignatureId as S;
use crate::model::{Component, Observed};

pub(super) const RULE: Rule = Rule {
    id: FindingId::DbLocked,
    is_effect: false,
    effects: super::ETCD_STOPS,
    check,
};

fn check(facts: &Facts) -> Answer {
    let logged = facts.log_evidence(&[S::DbFlocked]);
    // etcd itself holds the lock while it runs; only without a running container it is a finding.
    let holder = match &facts.etcd_data {
        Observed::Present(DataVerdict::Locked(pid)) if facts.not_running(Component::Etcd).is_some() => Some(*pid),
        _ => None,
    };
    if logged.is_empty() && holder.is_none() {
        return Answer::unless(facts.etcd_data.present().is_some() || facts.has_log(LogOf::Pod(Component::Etcd)), "the lock of etcd's database");
    }
    if holder.is_none() {
        match &facts.etcd_data {
            // Nobody holds it now, whatever a log says.
            Observed::Present(verdict) if !matches!(verdict, DataVerdict::Locked(_)) => return Answer::Excluded,
            _ if facts.newest_runs(Component::Etcd) => return may_be_loading(logged),
            _ => {}
        }
    }
    let seen = holder.map(|pid| {
        let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("pid {pid}"));
        note(EvidenceKind::Data, "member/snap/db", format!("{who} holds the lock, and no etcd container runs"))
    });
    let confidence = if seen.is_some() { Confidence::Proven } else { Confidence::Likely };
    let mut targets = Targets::default();
    targets.components.push(Component::Etcd);
    targets.pids.extend(holder.flatten());
    draft(
        FindingId::DbLocked,
        Severity::Critical,
        confidence,
        "another process holds etcd's database, so the new etcd waits for ever",
    )
    .evidence(seen.into_iter().chain(logged))
    .targets(targets)
    .remedy("Find the process that holds the lock of member/snap/db; treat it as a stale sandbox or as an orphan.")
}

/// etcd says so after ten seconds, whatever it is that takes its time (etcd `server/embed/etcd.go`, `openBackend`):
/// it reads a large database that is not in memory.
fn may_be_loading(logged: Vec<Evidence>) -> Answer {
    draft(
        FindingId::DbLocked,
        Severity::Info,
        Confidence::Possible,
        "etcd opens its database for longer than ten seconds: it may still be loading, or another process holds it",
    )
    .evidence(logged)
    .remedy("Wait; a database of several gigabytes takes minutes from a slow disk. Then look who holds the lock of member/snap/db.")
}
