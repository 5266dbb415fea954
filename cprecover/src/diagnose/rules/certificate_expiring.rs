//! A certificate ends soon.

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::note;
use crate::facts::CertificateFact;

pub(super) const RULE: Rule =
    Rule { id: FindingId::CertificateExpiring, is_effect: false, effects: &[], check };

const DAY: i64 = 86_400;
/// kubeadm's certificates live a year; a month is time enough to act in working hours.
const SOON: i64 = 30 * DAY;

fn check(facts: &Facts) -> Answer {
    let now = facts.host.now_unix;
    let soon: Vec<&CertificateFact> = facts
        .host
        .certificates
        .iter()
        .filter(|certificate| certificate.not_after_unix >= now && certificate.not_after_unix < now + SOON)
        .collect();
    if soon.is_empty() {
        return Answer::unless(!facts.host.certificates.is_empty(), "the node's certificates");
    }
    let seen = soon.iter().map(|certificate| {
        let days = (certificate.not_after_unix - now) / DAY;
        note(EvidenceKind::Host, certificate.path.display().to_string(), format!("{} ends in {days} days", certificate.subject))
    });
    let mut targets = Targets::default();
    targets.paths.extend(soon.iter().map(|certificate| certificate.path.clone()));
    let summary = format!("{} certificates end within 30 days", soon.len());
    draft(FindingId::CertificateExpiring, Severity::Warning, Confidence::Proven, summary)
        .evidence(seen)
        .targets(targets)
        .remedy("`kubeadm certs renew all` in working hours, then restart the static pods.")
}
