//! Mode 22: a certificate has expired, is not valid yet or is not trusted.

use std::path::Path;

use super::{Answer, Rule, draft};
use crate::diagnose::facts::Facts;
use crate::diagnose::finding::{Confidence, EvidenceKind, FindingId, Severity, Targets};
use crate::diagnose::query::note;
use crate::facts::CertificateFact;
use crate::logs::SignatureId as S;

pub(super) const RULE: Rule = Rule {
    id: FindingId::CertificateInvalid,
    is_effect: false,
    effects: &[
        FindingId::KubeletDown,
        FindingId::QuorumLost,
        FindingId::CrashLoop,
        FindingId::EtcdDown,
        FindingId::EtcdUnreachable,
        FindingId::ApiserverDown,
        FindingId::ControllersDown,
        FindingId::KubeletDisconnected,
    ],
    check,
};

const EXPIRED: &[S] = &[S::CertificateExpired, S::CertificateNotYetValid, S::BootstrapKubeconfigMissing];

fn check(facts: &Facts) -> Answer {
    let now = facts.host.now_unix;
    let certificates = &facts.host.certificates;
    let mut invalid: Vec<&CertificateFact> = facts.host.certificates_out_of_force().collect();
    // What the control plane works with comes first; nobody's work waits for what only people use.
    invalid.sort_by_key(|certificate| !facts.needs_certificate(&certificate.path));
    let is_spare = invalid.first().is_none_or(|first| !facts.needs_certificate(&first.path));
    let void: Vec<&Path> =
        facts.host.void_certificates().filter(|path| facts.needs_certificate(path)).collect();
    let is_unread = facts.host.unread_certificates().next().is_some();
    let untrusted = facts.log_evidence(&[S::UnknownAuthority]);
    let mut logged = facts.log_evidence(EXPIRED);
    let has_no_bootstrap = facts.logs(&[S::BootstrapKubeconfigMissing]).next().is_some();
    if is_spare && !certificates.is_empty() && !is_unread && !has_no_bootstrap {
        // All certificates that the node works with are valid now: an expired one is somebody else's, or of the past.
        logged.clear();
    }
    if invalid.is_empty() && void.is_empty() && logged.is_empty() && untrusted.is_empty() {
        if is_unread {
            return Answer::Open("certificates that could not be read");
        }
        return Answer::unless(!certificates.is_empty(), "the node's certificates");
    }
    let (confidence, summary) = match (invalid.first(), void.first()) {
        (Some(first), _) => (
            Confidence::Proven,
            format!("{} of the node's certificates are not valid now, the first is {}", invalid.len(), first.path.display()),
        ),
        (None, Some(first)) => {
            (Confidence::Proven, format!("{} is damaged: it holds no certificate", first.display()))
        }
        (None, None) if logged.is_empty() => {
            (Confidence::Possible, "a certificate is not trusted by the one that it is shown to".to_owned())
        }
        (None, None) => (Confidence::Likely, "a certificate that the control plane needs is not valid".to_owned()),
    };
    let seen = invalid.iter().map(|certificate| {
        let text = if certificate.not_after_unix < now { "has expired" } else { "is not valid yet" };
        note(EvidenceKind::Host, certificate.path.display().to_string(), format!("{} {text}", certificate.subject))
    });
    let damaged = void
        .iter()
        .map(|path| note(EvidenceKind::Host, path.display().to_string(), "was read and holds no certificate"));
    let remedy = if invalid.is_empty() && !void.is_empty() {
        "Restore the file from a backup, or make it anew with `kubeadm init phase certs` once it is out of the way; `kubeadm certs renew` cannot renew what it cannot read."
    } else {
        "`kubeadm certs renew all`, `kubeadm init phase kubeconfig kubelet` where kubelet's own has expired, then restart the static pods and kubelet."
    };
    let mut targets = Targets::default();
    targets.paths.extend(void.iter().map(|path| path.to_path_buf()));
    targets.paths.extend(invalid.iter().map(|certificate| certificate.path.clone()));
    let is_harmless = is_spare && !invalid.is_empty() && void.is_empty() && logged.is_empty();
    let severity = if is_harmless { Severity::Warning } else { Severity::Critical };
    draft(FindingId::CertificateInvalid, severity, confidence, summary)
        .evidence(seen.chain(damaged).chain(logged).chain(untrusted))
        .targets(targets)
        .remedy(remedy)
}
