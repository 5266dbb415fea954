//! What everything else stands on: runtime, disk, clock, address, certificates.

use cprecover_policy_sdk::contract::{
    Action, Certificate, CertificateState, Consent, Disk, FindingKind, ServiceName, ServiceState, Verdict,
};

use super::{Case, Step, escalate};

/// Below this, a manifest or an etcd log entry may not fit any more.
const LEAST_FREE_BYTES: u64 = 16 << 20;
const LEAST_FREE_INODES: u64 = 64;

pub(super) fn runtime_down(case: &Case<'_>) -> Step {
    let Some(runtime) = case.service(ServiceName::Runtime) else { return Step::go_on() };
    if !matches!(runtime.state, ServiceState::Inactive | ServiceState::Failed) {
        return Step::go_on();
    }
    let reason = format!("the container runtime does not run ({})", runtime.detail);
    Step::then_stop(vec![case.act(Action::RestartRuntime, reason, Vec::new(), 0.95)])
}

pub(super) fn disk(case: &Case<'_>) -> Step {
    let decisions = case
        .seen
        .disks
        .iter()
        .filter_map(|disk| trouble(disk).map(|trouble| (disk, trouble)))
        .map(|(disk, trouble)| {
            escalate(
                format!("{} {trouble}", disk.path),
                vec!["free space or remount; never delete etcd's wal".into()],
                Vec::new(),
            )
        })
        .collect();
    Step::then_stop(decisions)
}

fn trouble(disk: &Disk) -> Option<String> {
    if disk.read_only {
        return Some("is mounted read-only".into());
    }
    // A size of 0 comes from file systems that do not count, such as overlays over nothing.
    if disk.total_bytes > 0 && disk.available_bytes < LEAST_FREE_BYTES {
        return Some(format!("has {} bytes left", disk.available_bytes));
    }
    if disk.total_bytes > 0 && disk.available_inodes < LEAST_FREE_INODES {
        return Some(format!("has {} inodes left", disk.available_inodes));
    }
    None
}

pub(super) fn clock(case: &Case<'_>) -> Step {
    if case.seen.clock_sane != Verdict::No {
        return Step::go_on();
    }
    Step::then_stop(vec![escalate(
        "the node's clock is not plausible".into(),
        vec!["set the clock before anything else; certificates are judged by it".into()],
        Vec::new(),
    )])
}

/// The least confidence at which the diagnosis has compared manifests with the host's own addresses; a log
/// line alone may be of an address that came back since.
const COMPARED: f32 = 0.9;

/// No restart brings an address back, and manifests for a new one would be without certificates for it.
pub(super) fn address_changed(case: &Case<'_>) -> Step {
    let lost = case.seen.findings.iter().filter(|finding| {
        finding.id == "address-changed"
            && finding.kind != FindingKind::Effect
            && finding.confidence >= COMPARED
    });
    let decisions = lost.map(|finding| {
        escalate(
            finding.summary.clone(),
            vec![
                "give the host its old address back: everything else is as it was then".into(),
                "or move to the new one: the manifests, the kubeconfigs and etcd's member list \
                 (`etcdctl member update`) name the old one, and the certificates of etcd and the API server \
                 have to be made for the new one (`kubeadm init phase certs`)"
                    .into(),
            ],
            finding.evidence.clone(),
        )
    });
    Step::then_stop(decisions.collect())
}

/// Files of a kubeadm node without which kubelet or a static pod does not work (kubernetes
/// `cmd/kubeadm/app/constants/constants.go`, client-go `util/certificate/certificate_store.go`); `admin.conf`,
/// `super-admin.conf` and etcd's health-check client are for people and tools.
pub const NEEDED_CERTIFICATES: [&str; 11] = [
    "ca.crt",
    "apiserver.crt",
    "apiserver-kubelet-client.crt",
    "apiserver-etcd-client.crt",
    "front-proxy-ca.crt",
    "front-proxy-client.crt",
    "server.crt",
    "peer.crt",
    KUBELET_CLIENT,
    "controller-manager.conf",
    "scheduler.conf",
];
/// The certificate that kubelet has rotated to; what `kubelet.conf` holds is used only without it.
pub const KUBELET_CLIENT: &str = "kubelet-client-current.pem";

fn file_name(certificate: &Certificate) -> &str {
    certificate.path.rsplit('/').next().unwrap_or_default()
}

fn is_needed(case: &Case<'_>, certificate: &Certificate) -> bool {
    let is_rotated = || case.seen.certificates.iter().any(|other| file_name(other) == KUBELET_CLIENT);
    let name = file_name(certificate);
    certificate.component.is_some()
        || NEEDED_CERTIFICATES.contains(&name)
        || (name == "kubelet.conf" && !is_rotated())
}

pub(super) fn certificates(case: &Case<'_>) -> Step {
    let decisions = case
        .seen
        .certificates
        .iter()
        .filter(|certificate| is_needed(case, certificate))
        .filter_map(|certificate| match certificate.state {
            CertificateState::Expired if case.consents(Consent::RenewCertificates) => Some(case.act(
                Action::RenewCertificate(certificate.path.clone()),
                format!("certificate {} has expired", certificate.path),
                Vec::new(),
                0.95,
            )),
            CertificateState::Expired => Some(escalate(
                format!("certificate {} has expired", certificate.path),
                vec!["agree to `renew-certificates`, or run `kubeadm certs renew all`".into()],
                Vec::new(),
            )),
            CertificateState::NotYetValid => Some(escalate(
                format!("certificate {} is not valid yet", certificate.path),
                vec!["compare the node's clock with another machine's".into()],
                Vec::new(),
            )),
            CertificateState::Unreadable | CertificateState::Valid | CertificateState::Expiring => None,
        })
        .collect();
    Step::then_stop(decisions)
}

/// Nothing on the node works with these, so that no remedy waits for them.
pub(super) fn spare_certificates(case: &Case<'_>) -> Step {
    let expired = case.seen.certificates.iter().filter(|certificate| {
        certificate.state == CertificateState::Expired && !is_needed(case, certificate)
    });
    let decisions = expired.map(|certificate| {
        escalate(
            format!("certificate {} has expired; the control plane works without it", certificate.path),
            vec!["renew it with `kubeadm certs renew`, or remove the file if nobody needs it".into()],
            Vec::new(),
        )
    });
    Step::aside(decisions.collect())
}
