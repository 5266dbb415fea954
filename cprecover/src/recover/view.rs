//! What a policy gets to see of an observation and its diagnosis; pure.

use super::observation::{JudgedHolder, Observation};
use super::verification::{Verification, describe};
use crate::cri::{ContainerState, InPlace, RuntimeState, Sandbox, SandboxState};
use crate::diagnose::{Confidence, DataVerdict, Diagnosis, HealthState, Severity, Subject};
use crate::facts::{CertificateFact, UnitRole};
use crate::healthz;
use crate::model::{Component, Observed};
use crate::policy::contract::{self, Verdict};
use crate::policy::contract_component;
use crate::ports::Class;
use crate::probe;
use crate::units::ServiceState;

/// A certificate that ends sooner is called expiring (kubeadm warns 180 days ahead; a week is urgent).
const EXPIRING_S: i64 = 7 * 24 * 60 * 60;

/// Makes a policy's view.
#[must_use]
pub fn policy_view(
    observation: &Observation,
    diagnosis: &Diagnosis,
    history: Vec<contract::PastAction>,
    consents: &[contract::Consent],
) -> contract::Observation {
    let mut evidence = Collector::default();
    let findings = findings(diagnosis, &mut evidence);
    let holders = observation.holders.iter().map(|holder| port_holder(holder, &mut evidence)).collect();
    let runtime = observation.facts.runtime.present();
    contract::Observation {
        node: observation.node.to_string(),
        now_ms: observation.at_unix_ms,
        healthy: verdict(Some(Verification::of(observation).healthy)),
        clock_sane: match observation.facts.host.clock.present() {
            Some(clock) => verdict(Some(clock.now_unix >= clock.not_before_unix)),
            None => Verdict::Unknown,
        },
        findings,
        evidence: evidence.0,
        health_checks: health_checks(observation),
        holders,
        sandboxes: runtime.map(|state| sandboxes(state, observation)).unwrap_or_default(),
        containers: runtime.map(|state| containers(state, observation)).unwrap_or_default(),
        manifests: manifests(observation),
        backups: backups(observation),
        regenerations: regenerations(observation),
        certificates: certificates(observation),
        disks: disks(observation),
        etcd: observation.etcd.clone(),
        services: services(observation),
        pod_dirs: observation.pod_dirs.clone(),
        consents: consents.to_vec(),
        history,
        unobserved: observation.unobserved.clone(),
    }
}

/// Numbers evidence so that findings and decisions can name it.
#[derive(Default)]
struct Collector(Vec<contract::Evidence>);

impl Collector {
    fn add(&mut self, source: &str, text: &str) -> String {
        if let Some(known) = self.0.iter().find(|known| known.source == source && known.text == text) {
            return known.id.clone();
        }
        let id = format!("e{}", self.0.len() + 1);
        self.0.push(contract::Evidence { id: id.clone(), source: source.into(), text: text.into() });
        id
    }
}

fn verdict(value: Option<bool>) -> Verdict {
    match value {
        Some(true) => Verdict::Yes,
        Some(false) => Verdict::No,
        None => Verdict::Unknown,
    }
}

fn observed_verdict(value: &Observed<bool>) -> Verdict {
    verdict(value.present().copied())
}

fn findings(diagnosis: &Diagnosis, evidence: &mut Collector) -> Vec<contract::Finding> {
    let roots = diagnosis.root_cause.ids();
    diagnosis
        .findings
        .iter()
        .map(|finding| contract::Finding {
            id: finding.id.as_str().into(),
            kind: if finding.is_effect || diagnosis.links.iter().any(|link| link.effect == finding.id) {
                contract::FindingKind::Effect
            } else if roots.contains(&finding.id)
                || diagnosis.links.iter().any(|link| link.cause == finding.id)
            {
                contract::FindingKind::Cause
            } else {
                contract::FindingKind::Note
            },
            severity: match finding.severity {
                Severity::Info => contract::Severity::Info,
                Severity::Warning => contract::Severity::Warning,
                Severity::Error | Severity::Critical => contract::Severity::Critical,
            },
            confidence: match finding.confidence {
                Confidence::Possible => 0.3,
                Confidence::Likely => 0.7,
                Confidence::Proven => 1.0,
            },
            component: finding.targets.components.first().copied().map(contract_component),
            summary: finding.summary.clone(),
            evidence: finding.evidence.iter().map(|seen| evidence.add(&seen.source, &seen.text)).collect(),
        })
        .collect()
}

fn port_holder(holder: &JudgedHolder, evidence: &mut Collector) -> contract::PortHolder {
    let (class, sandbox_id, unit) = match &holder.verdict.class {
        Class::Live { sandbox, .. } => (contract::HolderClass::Current, Some(sandbox.to_string()), None),
        Class::Stale { sandbox, .. } => {
            (contract::HolderClass::StaleSandbox, Some(sandbox.to_string()), None)
        }
        Class::Orphan { .. } => (contract::HolderClass::Orphan, None, None),
        Class::Unit { unit, cgroup } => {
            let name = unit.as_ref().map_or_else(|| cgroup.clone(), |unit| unit.0.clone());
            (contract::HolderClass::SystemdUnit, None, Some(name))
        }
        Class::Foreign { .. } => (contract::HolderClass::Foreign, None, None),
        Class::Gone | Class::Unproven { .. } => (contract::HolderClass::Unproven, None, None),
    };
    let source = format!("port {} {}", holder.port, holder.evidence.process);
    contract::PortHolder {
        port: holder.port.get(),
        address: holder.address.ip().to_string(),
        pid: u32::try_from(holder.evidence.process.pid.get()).unwrap_or_default(),
        start_ticks: holder.evidence.process.start_ticks,
        executable: match holder.evidence.exe.present() {
            Some(exe) => exe.path.display().to_string(),
            None => holder.evidence.comm.clone(),
        },
        class,
        wanted_by: Some(contract_component(holder.wanted_by)),
        sandbox_id,
        unit,
        evidence: holder.verdict.evidence.iter().map(|text| evidence.add(&source, text)).collect(),
    }
}

fn health_checks(observation: &Observation) -> Vec<contract::HealthCheck> {
    let facts = observation.facts.health.iter();
    facts
        .map(|fact| contract::HealthCheck {
            component: match fact.subject {
                Some(Subject::Component(component)) => Some(contract_component(component)),
                _ => None,
            },
            endpoint: fact.source.clone(),
            healthy: match &fact.state {
                HealthState::Recorded(report) | HealthState::Probed(probe::Outcome::Answered { report }) => {
                    match report.verdict {
                        healthz::Verdict::Healthy => Verdict::Yes,
                        healthz::Verdict::Unhealthy => Verdict::No,
                        _ => Verdict::Unknown,
                    }
                }
                HealthState::Probed(_) => Verdict::No,
            },
            detail: describe(&fact.state),
        })
        .collect()
}

fn sandboxes(state: &RuntimeState, observation: &Observation) -> Vec<contract::Sandbox> {
    let of = |component: Component| {
        let all = state.component_sandboxes(component);
        let newest = all.first().map(|newest| newest.id.clone());
        let pod = observation.pods.iter().find(|pod| pod.component == component);
        let in_place = pod.and_then(|pod| pod.pod.as_ref()).and_then(InPlace::of);
        let stale = all.first().map(|newest| state.left_over(newest, in_place)).unwrap_or_default();
        let view = |sandbox: &&Sandbox| contract::Sandbox {
            id: sandbox.id.to_string(),
            component: Some(contract_component(component)),
            pod_uid: sandbox.uid.to_string(),
            config_hash: sandbox.config_hash().unwrap_or_default().into(),
            ready: match sandbox.state {
                SandboxState::Ready => Verdict::Yes,
                SandboxState::NotReady => Verdict::No,
                SandboxState::Unknown => Verdict::Unknown,
            },
            role: if newest.as_ref() == Some(&sandbox.id) {
                contract::SandboxRole::Current
            } else if stale.iter().any(|stale| stale.id == sandbox.id) {
                contract::SandboxRole::Stale
            } else {
                contract::SandboxRole::Unknown
            },
            created_ms: u64::try_from(sandbox.created_at.0 / 1_000_000).unwrap_or_default(),
        };
        all.iter().map(view).collect::<Vec<_>>()
    };
    Component::ALL.into_iter().flat_map(of).collect()
}

fn containers(state: &RuntimeState, observation: &Observation) -> Vec<contract::Container> {
    Component::ALL
        .into_iter()
        .filter_map(|component| {
            let newest = state.component_containers(component).into_iter().next()?;
            let back_off = observation.back_offs.iter().find(|back_off| back_off.component == component);
            Some(contract::Container {
                id: newest.id.to_string(),
                component: Some(contract_component(component)),
                sandbox_id: newest.sandbox.to_string(),
                state: match newest.state {
                    ContainerState::Created => contract::ContainerState::Created,
                    ContainerState::Running => contract::ContainerState::Running,
                    ContainerState::Exited => contract::ContainerState::Exited,
                    ContainerState::Unknown => contract::ContainerState::Unknown,
                },
                exit_code: None,
                attempt: newest.attempt,
                back_off_ms: back_off.filter(|_| !newest.is_running()).map(|back_off| back_off.remaining_ms),
            })
        })
        .collect()
}

fn manifests(observation: &Observation) -> Vec<contract::Manifest> {
    let of_component = observation.facts.manifests.iter().map(|fact| {
        let (state, detail) = match &fact.pod {
            Observed::Present(_) => (contract::ManifestState::Present, String::new()),
            Observed::Absent => (contract::ManifestState::Missing, "no such file".to_owned()),
            Observed::Unknown(why) if fact.parse_error.is_some() => {
                (contract::ManifestState::Invalid, why.clone())
            }
            Observed::Unknown(why) => (contract::ManifestState::Unreadable, why.clone()),
        };
        contract::Manifest {
            file: fact.component.manifest_file().into(),
            component: Some(contract_component(fact.component)),
            state,
            detail,
        }
    });
    let duplicates = observation.facts.lint.iter().filter_map(|lint| {
        let duplicate = lint.code == "duplicate-pod" || lint.code == "backup-copy";
        let file = lint.path.file_name()?.to_str()?.to_owned();
        let known = Component::ALL.iter().any(|component| component.manifest_file() == file);
        (duplicate && !known).then(|| contract::Manifest {
            component: Component::ALL
                .into_iter()
                .find(|component| file.starts_with(component.manifest_file()))
                .map(contract_component),
            file,
            state: contract::ManifestState::Duplicate,
            detail: lint.message.clone(),
        })
    });
    let mut all: Vec<contract::Manifest> = of_component.collect();
    for duplicate in duplicates {
        if !all.iter().any(|known| known.file == duplicate.file) {
            all.push(duplicate);
        }
    }
    all
}

fn backups(observation: &Observation) -> Vec<contract::Backup> {
    let facts = observation.backups.present().map(Vec::as_slice).unwrap_or_default();
    facts
        .iter()
        .map(|backup| contract::Backup {
            id: backup.snapshot.clone(),
            component: contract_component(backup.component),
            taken_ms: backup.taken_unix_ms,
            verified: observed_verdict(&backup.verified),
            last_known_good: backup.last_known_good,
            same_node: observed_verdict(&backup.same_node),
        })
        .collect()
}

fn regenerations(observation: &Observation) -> Vec<contract::Regeneration> {
    observation
        .regenerations
        .iter()
        .map(|fact| contract::Regeneration {
            component: contract_component(fact.component),
            possible: observed_verdict(&fact.possible),
            missing: fact.missing.clone(),
            dangerous: fact.dangerous.clone(),
        })
        .collect()
}

fn certificates(observation: &Observation) -> Vec<contract::Certificate> {
    let now = observation.facts.host.now_unix;
    let readable = observation.facts.host.certificates.iter().map(|fact| contract::Certificate {
        path: fact.path.display().to_string(),
        component: None,
        state: certificate_state(fact, now),
        not_after_ms: u64::try_from(fact.not_after_unix.saturating_mul(1000)).unwrap_or_default(),
    });
    let unreadable = observation.facts.host.unreadable_certificates.iter().map(|(path, _)| {
        contract::Certificate { path: path.display().to_string(), ..contract::Certificate::default() }
    });
    readable.chain(unreadable).collect()
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

fn disks(observation: &Observation) -> Vec<contract::Disk> {
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

fn services(observation: &Observation) -> Vec<contract::Service> {
    let units = observation.facts.host.units.iter();
    units
        .map(|unit| contract::Service {
            name: match unit.role {
                UnitRole::Kubelet => contract::ServiceName::Kubelet,
                UnitRole::Runtime => contract::ServiceName::Runtime,
            },
            state: match unit.state.present() {
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

/// Turns the offline verdict on the data folder into the contract's.
#[must_use]
pub(super) fn contract_data(verdict: &Observed<DataVerdict>) -> contract::EtcdData {
    match verdict {
        Observed::Present(DataVerdict::Intact) => contract::EtcdData::Intact,
        Observed::Present(DataVerdict::Locked(_)) => contract::EtcdData::Locked,
        Observed::Present(DataVerdict::Empty) => contract::EtcdData::Empty,
        Observed::Present(
            DataVerdict::WalCorrupt(_) | DataVerdict::DbCorrupt(_) | DataVerdict::Mismatch(_),
        ) => contract::EtcdData::Damaged,
        Observed::Present(DataVerdict::Foreign(_)) => contract::EtcdData::Foreign,
        // A contract of v1 has no word of its own for it; either way etcd can write nothing there.
        Observed::Present(DataVerdict::NoSpace(_) | DataVerdict::ReadOnly(_)) => contract::EtcdData::NoSpace,
        Observed::Absent => contract::EtcdData::Missing,
        Observed::Unknown(_) => contract::EtcdData::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::DiskFact;

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
}
