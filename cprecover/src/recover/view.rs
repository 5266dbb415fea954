//! What a policy gets to see of an observation and its diagnosis; pure.

mod host;

use cprecover_policies::HELD;

use self::host::{certificates, disks, services};
use super::observation::{JudgedHolder, Observation};
use super::verification::{Verification, describe};
use crate::cri::{ContainerState, InPlace, RuntimeState, Sandbox, SandboxState};
use crate::diagnose::{Confidence, DataVerdict, Diagnosis, HealthState, Severity, Subject};
use crate::healthz;
use crate::model::{Component, Observed};
use crate::policy::contract::{self, Verdict};
use crate::policy::contract_component;
use crate::ports::Class;
use crate::probe;

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
            Observed::Absent => match observation.facts.held(fact.component) {
                // The contract has no word for it; what cannot be looked at is neither restored nor made anew.
                Some(held) => (contract::ManifestState::Unreadable, held_since(&held.message).to_owned()),
                None => (contract::ManifestState::Missing, "no such file".to_owned()),
            },
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
        let file = lint.path.file_name()?.to_str()?.to_owned();
        let known = Component::ALL.iter().any(|component| component.manifest_file() == file);
        (lint.is_double() && !known).then(|| contract::Manifest {
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

/// Cuts the file's name off, as policies know details.
fn held_since(message: &str) -> &str {
    message.find(HELD).and_then(|at| message.get(at..)).unwrap_or(message)
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
    use crate::diagnose::{LintFact, ManifestFact, diagnose};
    use crate::policy::{Action, Policy};
    use crate::recover::observation::BackupFact;

    #[test]
    fn a_held_manifest_is_not_restored_but_told_to_a_person() {
        let component = Component::KubeScheduler;
        let path = std::path::Path::new("/etc/kubernetes/manifests").join(component.manifest_file());
        let (pod, parse_error) = (Observed::Absent, None);
        let mut seen = Observation::blank();
        seen.etcd.external = true;
        seen.facts.manifests = vec![ManifestFact { component, path: path.clone(), pod, parse_error }];
        let (verified, same_node) = (Observed::Present(true), Observed::Present(true));
        let snapshot = "000001-20260101T000000Z".to_owned();
        let (taken_unix_ms, last_known_good) = (0, true);
        seen.backups = Observed::Present(vec![BackupFact {
            snapshot,
            component,
            taken_unix_ms,
            verified,
            last_known_good,
            same_node,
        }]);
        let actions = |seen: &Observation| -> Vec<Action> {
            let view = policy_view(seen, &diagnose(&seen.facts), Vec::new(), &[]);
            let policy = Policy::native(cprecover_policies::Profile::Default);
            policy.decide(&view).decisions.into_iter().map(|decision| decision.action).collect()
        };
        let decided = actions(&seen);
        assert!(matches!(decided.as_slice(), [Action::RestoreManifest { .. }]), "{decided:?}");
        let message = "kube-scheduler.yaml is held since 2026-01-01T00:00:00Z (maintenance)";
        seen.facts.lint = vec![LintFact { code: LintFact::HELD.into(), path, message: message.into() }];
        let decided = actions(&seen);
        let [Action::Escalate { summary, hints }] = decided.as_slice() else { panic!("{decided:?}") };
        assert_eq!(summary, message);
        assert!(hints.iter().any(|hint| hint.contains("cprecover release kube-scheduler")), "{hints:?}");
    }
}
