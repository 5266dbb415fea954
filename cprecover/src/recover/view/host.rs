//! Certificates, disks and services as a policy sees them.

use std::path::Path;

use crate::facts::{CertificateFact, UnitRole};
use crate::policy::{contract, contract_component};
use crate::recover::observation::{ExpectedPod, Observation};
use crate::units::ServiceState;

/// A certificate that ends sooner is called expiring (kubeadm warns 180 days ahead; a week is urgent).
const EXPIRING_S: i64 = 7 * 24 * 60 * 60;

pub(super) fn certificates(observation: &Observation) -> Vec<contract::Certificate> {
    let host = &observation.facts.host;
    let now = host.now_unix;
    let out: Vec<&CertificateFact> = host.certificates_out_of_force().collect();
    let stands = |fact: &&CertificateFact| fact.is_in_force(now) || out.contains(fact);
    let readable = host.certificates.iter().filter(stands).map(|fact| contract::Certificate {
        path: fact.path.display().to_string(),
        component: user_of(observation, &fact.path),
        state: certificate_state(fact, now),
        not_after_ms: u64::try_from(fact.not_after_unix.saturating_mul(1000)).unwrap_or_default(),
    });
    let unreadable = host.unreadable_certificates.iter().map(|(path, _)| contract::Certificate {
        path: path.display().to_string(),
        ..contract::Certificate::default()
    });
    readable.chain(unreadable).collect()
}

/// The component whose manifest names this file, live or as it was backed up.
fn user_of(observation: &Observation, path: &Path) -> Option<contract::Component> {
    let names = |pod: &&ExpectedPod| pod.pod.as_ref().is_some_and(|pod| pod.names_file(path));
    observation.pods.iter().find(names).map(|pod| contract_component(pod.component))
}

fn certificate_state(fact: &CertificateFact, now: i64) -> contract::CertificateState {
    if now < fact.not_before_unix {
        contract::CertificateState::NotYetValid
    } else if now > fact.not_after_unix {
        contract::CertificateState::Expired
    } else if fact.not_after_unix.saturating_sub(now) < EXPIRING_S {
        contract::CertificateState::Expiring
    } else {
        contract::CertificateState::Valid
    }
}

pub(super) fn disks(observation: &Observation) -> Vec<contract::Disk> {
    let facts = observation.facts.host.disks.iter();
    facts
        .map(|disk| contract::Disk {
            path: disk.path.display().to_string(),
            total_bytes: disk.total_bytes,
            available_bytes: disk.available_bytes,
            // btrfs makes inodes as needed and counts none: policies take 0 for none left.
            available_inodes: match disk.total_inodes {
                0 => u64::from(u32::MAX),
                _ => disk.available_inodes,
            },
            read_only: disk.read_only,
        })
        .collect()
}

pub(super) fn services(observation: &Observation) -> Vec<contract::Service> {
    let units = observation.facts.host.units.iter();
    units
        .map(|unit| contract::Service {
            name: match unit.role {
                UnitRole::Kubelet => contract::ServiceName::Kubelet,
                UnitRole::Runtime => contract::ServiceName::Runtime,
            },
            state: match unit.state.present() {
                // What answers runs, whatever the unit that was looked at says: it may be another runtime's.
                _ if unit.role == UnitRole::Runtime && observation.facts.runtime.present().is_some() => {
                    contract::ServiceState::Active
                }
                Some(state) if state.is_up() => contract::ServiceState::Active,
                Some(ServiceState::Failed) => contract::ServiceState::Failed,
                Some(_) => contract::ServiceState::Inactive,
                None => contract::ServiceState::Unknown,
            },
            restart_ms: observation.restart_ms,
            detail: unit.name.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{FindingId, Severity, diagnose};
    use crate::facts::{DiskFact, UnitFact};
    use crate::model::Observed;
    use crate::policy::{Action, Decision, Policy, guard};
    use crate::recover::policy_view;

    #[test]
    fn a_file_system_that_counts_no_inodes_does_not_lack_them() {
        let mut seen = Observation::blank();
        let (path, read_only, total_bytes, available_bytes) = ("/".into(), false, 9, 9);
        let disk =
            DiskFact { path, total_bytes, available_bytes, total_inodes: 0, available_inodes: 0, read_only };
        seen.facts.host.disks = vec![disk.clone(), DiskFact { total_inodes: 9, ..disk }];
        let told: Vec<u64> = disks(&seen).iter().map(|disk| disk.available_inodes).collect();
        assert_eq!(told, [u64::from(u32::MAX), 0]);
    }

    fn certificate(path: &str, is_ca: bool, not_before_unix: i64, not_after_unix: i64) -> CertificateFact {
        let name = || "x".to_owned();
        CertificateFact {
            path: path.into(),
            subject: name(),
            issuer: name(),
            not_before_unix,
            not_after_unix,
            is_ca,
            names: Vec::new(),
        }
    }

    #[test]
    fn an_old_ca_beside_its_successor_is_no_expired_certificate() {
        let ca = "/etc/kubernetes/pki/ca.crt";
        let mut seen = Observation::blank();
        let facts = &mut seen.facts.host;
        facts.now_unix = 100;
        facts.certificates = vec![certificate(ca, true, 0, 50), certificate(ca, true, 40, 100_000_000)];
        let states = |seen: &Observation| -> Vec<contract::CertificateState> {
            certificates(seen).iter().map(|certificate| certificate.state).collect()
        };
        let diagnosed = |seen: &Observation| {
            let diagnosis = diagnose(&seen.facts);
            diagnosis.finding(FindingId::CertificateInvalid).map(|finding| finding.severity)
        };
        assert_eq!(states(&seen), [contract::CertificateState::Valid]);
        assert_eq!(diagnosed(&seen), None);
        // A kubeconfig's client has a CA beside it, and that is no stand-in.
        seen.facts.host.certificates = vec![certificate("/x/scheduler.conf", false, 0, 50)];
        seen.facts.host.certificates.push(certificate("/x/scheduler.conf", true, 0, 100_000_000));
        let expired = [contract::CertificateState::Expired, contract::CertificateState::Valid];
        assert_eq!(states(&seen), expired);
        assert_eq!(diagnosed(&seen), Some(Severity::Critical));
        // Without a successor it has expired.
        seen.facts.host.certificates = vec![certificate(ca, true, 0, 50), certificate(ca, true, 0, 60)];
        assert_eq!(states(&seen), [contract::CertificateState::Expired; 2]);
        assert_eq!(diagnosed(&seen), Some(Severity::Critical));
    }

    #[test]
    fn a_certificate_that_nobody_works_with_is_not_the_cause_of_an_outage() {
        let severity = |paths: &[&str]| {
            let mut seen = Observation::blank();
            seen.facts.host.now_unix = 100;
            let facts = paths.iter().map(|path| certificate(path, false, 0, 50));
            seen.facts.host.certificates = facts.collect();
            if let Some(current) = seen
                .facts
                .host
                .certificates
                .iter_mut()
                .find(|fact| fact.path.ends_with("kubelet-client-current.pem"))
            {
                current.not_after_unix = 100_000_000;
            }
            diagnose(&seen.facts).finding(FindingId::CertificateInvalid).map(|finding| finding.severity)
        };
        let kubelet = "/etc/kubernetes/kubelet.conf";
        assert_eq!(severity(&["/etc/kubernetes/super-admin.conf"]), Some(Severity::Warning));
        assert_eq!(
            severity(&[kubelet, "/var/lib/kubelet/pki/kubelet-client-current.pem"]),
            Some(Severity::Warning)
        );
        assert_eq!(severity(&[kubelet]), Some(Severity::Critical));
        let both = ["/etc/kubernetes/super-admin.conf", "/etc/kubernetes/pki/apiserver.crt"];
        assert_eq!(severity(&both), Some(Severity::Critical));
    }

    #[test]
    fn a_runtime_that_answers_runs_whatever_the_unit_is_that_was_looked_at() {
        let mut seen = Observation::blank();
        let state = Observed::Present(ServiceState::Inactive);
        seen.facts.host.units =
            vec![UnitFact { role: UnitRole::Runtime, name: "containerd.service".into(), state }];
        let decided = |seen: &Observation| {
            let diagnosis = diagnose(&seen.facts);
            let view = policy_view(seen, &diagnosis, Vec::new(), &[]);
            let policy = Policy::shipped("default").expect("shipped");
            let decisions = policy.decide(&view).decisions;
            let restarts = decisions.iter().any(|decision| decision.action == Action::RestartRuntime);
            let mut restart = Decision::new("r", Action::RestartRuntime, "why");
            restart.max_attempts = 1;
            let is_allowed =
                guard::check(&view, &[restart]).iter().all(|g| g.ruling == guard::Ruling::Allowed);
            (restarts, is_allowed, diagnosis.finding(FindingId::RuntimeDown).is_some())
        };
        seen.etcd.external = true;
        assert_eq!(decided(&seen), (true, true, true));
        seen.facts.runtime = Observed::Present(crate::cri::RuntimeState::default());
        assert_eq!(decided(&seen), (false, false, false));
    }
}
