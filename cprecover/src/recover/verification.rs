//! Whether the node is healthy: every part proven, or named.

use serde::{Deserialize, Serialize};

use super::observation::{JudgedHolder, Observation};
use super::observe::MANIFESTS_FOLDER;
use super::observe::holders::is_unread_holder;
use crate::diagnose::{HealthFact, HealthState, Subject};
use crate::facts::UnitRole;
use crate::healthz;
use crate::model::{Component, Observed};
use crate::ports::Class;
use crate::probe;
use crate::units::ServiceState;

/// One thing that has to hold on a healthy node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Check {
    /// What has to hold, in words.
    pub what: String,
    /// Whether it is proven; a thing that could not be read is not.
    pub holds: bool,
    /// What was seen.
    pub seen: String,
}

/// The verdict on the node as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Verification {
    /// Whether every check holds.
    pub healthy: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Verification {
    /// Judges an observation; pure.
    #[must_use]
    pub fn of(observation: &Observation) -> Self {
        let mut checks = Vec::new();
        for pod in &observation.pods {
            checks.push(manifest_check(observation, pod.component));
            checks.push(container_check(observation, pod.component));
            checks.push(health_check(observation, pod.component));
        }
        checks.push(kubelet_check(observation));
        checks.push(holders_check(observation));
        checks.push(doubles_check(observation));
        Self { healthy: checks.iter().all(|check| check.holds), checks }
    }

    /// Returns the checks that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.holds)
    }
}

fn check(what: impl Into<String>, holds: bool, seen: impl Into<String>) -> Check {
    Check { what: what.into(), holds, seen: seen.into() }
}

fn manifest_check(observation: &Observation, component: Component) -> Check {
    let what = format!("{} is in the manifests folder", component.manifest_file());
    let fact = observation.facts.manifests.iter().find(|manifest| manifest.component == component);
    match fact.map(|fact| &fact.pod) {
        Some(Observed::Present(_)) => check(what, true, "present and valid"),
        Some(Observed::Absent) => {
            let held = observation.facts.held(component).map(|lint| lint.message.clone());
            check(what, false, held.unwrap_or_else(|| "missing".to_owned()))
        }
        Some(Observed::Unknown(why)) => check(what, false, why.clone()),
        None => check(what, false, "not looked at"),
    }
}

fn container_check(observation: &Observation, component: Component) -> Check {
    let what = format!("the {component} container runs in its pod's newest sandbox");
    let state = match &observation.facts.runtime {
        Observed::Present(state) => state,
        Observed::Absent => return check(what, false, "no container runtime"),
        Observed::Unknown(why) => return check(what, false, why.clone()),
    };
    let newest = state.component_sandboxes(component).into_iter().next();
    let running = newest.and_then(|sandbox| {
        state.containers_of(&sandbox.id).into_iter().find(|container| container.is_running())
    });
    match (newest, running) {
        (_, Some(container)) => check(what, true, format!("container {} runs", container.id)),
        (Some(sandbox), None) => {
            check(what, false, format!("no running container in sandbox {}", sandbox.id))
        }
        (None, None) => check(what, false, "no sandbox"),
    }
}

fn health_check(observation: &Observation, component: Component) -> Check {
    let what = format!("{component} says that it is healthy");
    let mut facts = observation
        .facts
        .health
        .iter()
        .filter(|fact| fact.subject == Some(Subject::Component(component)))
        .peekable();
    if facts.peek().is_none() {
        return check(what, false, "could not be asked");
    }
    let bad = facts.find(|fact| !is_healthy(fact));
    match bad {
        Some(fact) => check(what, false, format!("{}: {}", fact.source, describe(&fact.state))),
        None => check(what, true, "healthy"),
    }
}

fn kubelet_check(observation: &Observation) -> Check {
    let unit = observation.facts.host.units.iter().find(|unit| unit.role == UnitRole::Kubelet);
    match unit.map(|unit| &unit.state) {
        // One that dies at its start spends most of its time between two starts, which systemd calls activating.
        Some(Observed::Present(state)) => {
            check("kubelet runs", *state == ServiceState::Active, format!("{state:?}").to_lowercase())
        }
        Some(Observed::Absent) => check("kubelet runs", false, "no such service"),
        Some(Observed::Unknown(why)) => check("kubelet runs", false, why.clone()),
        None => check("kubelet runs", false, "not looked at"),
    }
}

fn holders_check(observation: &Observation) -> Check {
    let what = "every port of the control plane is held by its own container";
    let wrong = observation
        .holders
        .iter()
        .find(|holder| !matches!(holder.verdict.class, Class::Live { .. } | Class::Gone));
    let unread = observation.unobserved.iter().find(|unread| is_unread_holder(unread));
    match (wrong, unread) {
        (Some(holder), _) => check(
            what,
            false,
            format!("port {} is held by {} ({})", holder.port, holder.evidence.process, holder.evidence.comm),
        ),
        (None, Some(unread)) => check(what, false, format!("{}: {}", unread.what, unread.reason)),
        (None, None) => match unseen(observation) {
            Some(seen) => check(what, false, seen),
            None => check(what, true, "no foreign holder"),
        },
    }
}

/// Says whose port nobody was seen on: no holder proves nothing.
fn unseen(observation: &Observation) -> Option<String> {
    if observation.pods.is_empty() {
        return Some("no port of the control plane is known".to_owned());
    }
    let has_holder = |component| {
        let own = |holder: &&JudgedHolder| holder.wanted_by == component;
        let mut own = observation.holders.iter().filter(own);
        own.any(|holder| matches!(holder.verdict.class, Class::Live { .. }))
    };
    let pod = observation.pods.iter().find(|pod| !has_holder(pod.component))?;
    Some(match &pod.pod {
        Some(_) => format!("nobody was seen on a port of {}", pod.component),
        None => format!("the ports of {} are not known", pod.component),
    })
}

/// kubelet may run the other file at its next look (kubernetes `pkg/kubelet/config/file.go`), and a backup of
/// both is none that could be restored.
fn doubles_check(observation: &Observation) -> Check {
    let what = "no other file of the manifests folder is one of these pods";
    let unread = observation.unobserved.iter().find(|unread| unread.what == MANIFESTS_FOLDER);
    match (observation.facts.lint.iter().find(|lint| lint.is_double_of_component()), unread) {
        (Some(lint), _) => check(what, false, format!("{}: {}", lint.path.display(), lint.message)),
        (None, Some(unread)) => check(what, false, unread.reason.clone()),
        (None, None) => check(what, true, "none"),
    }
}

fn is_healthy(fact: &HealthFact) -> bool {
    let report = match &fact.state {
        HealthState::Recorded(report) | HealthState::Probed(probe::Outcome::Answered { report }) => report,
        HealthState::Probed(_) => return false,
    };
    report.verdict == healthz::Verdict::Healthy
}

/// Says in words what a health endpoint answered.
pub(super) fn describe(state: &HealthState) -> String {
    match state {
        HealthState::Recorded(report) | HealthState::Probed(probe::Outcome::Answered { report }) => {
            let failed: Vec<String> = report
                .failed()
                .take(5)
                .map(|check| match &check.reason {
                    Some(reason) => format!("[-]{} failed: {reason}", check.name),
                    None => format!("[-]{} failed", check.name),
                })
                .collect();
            if failed.is_empty() { report.verdict.as_str().to_owned() } else { failed.join(", ") }
        }
        HealthState::Probed(outcome) => match outcome {
            probe::Outcome::Refused => "connection refused".to_owned(),
            probe::Outcome::Timeout => "no connection within the deadline".to_owned(),
            probe::Outcome::Hung { .. } => "connected, then silent: it hangs".to_owned(),
            probe::Outcome::Tls { reason } => format!("TLS handshake failed: {reason}"),
            probe::Outcome::Reset { .. } => "connection reset".to_owned(),
            probe::Outcome::Unreachable { reason } => format!("unreachable: {reason}"),
            probe::Outcome::NotHttp { reason } => format!("no HTTP: {reason}"),
            probe::Outcome::Answered { .. } => "answered".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::LintFact;
    use crate::facts::UnitFact;
    use crate::parse::manifest::StaticPod;
    use crate::policy::contract::Unobserved;
    use crate::recover::observation::ExpectedPod;

    /// A node on which etcd holds its port.
    fn of_one_pod() -> Observation {
        let mut seen = Observation::blank();
        let pod = StaticPod::parse(ETCD.as_bytes()).expect("parses");
        seen.pods = vec![ExpectedPod { component: Component::Etcd, source: None, pod: Some(pod) }];
        seen.holders = vec![JudgedHolder::live(Component::Etcd)];
        seen
    }

    const ETCD: &str = include_str!("../../testdata/kubeadm-1.36/manifests/etcd.yaml");

    #[test]
    fn no_holder_proves_nothing() {
        let mut seen = Observation::blank();
        assert!(!holders_check(&seen).holds, "no port is known");
        seen = of_one_pod();
        seen.holders.clear();
        let check = holders_check(&seen);
        assert!(!check.holds && check.seen.contains("port of etcd"), "{check:?}");
    }

    #[test]
    fn a_kubelet_that_only_starts_again_and_again_does_not_run() {
        let mut seen = Observation::blank();
        let mut holds = |state| {
            let (role, name) = (UnitRole::Kubelet, "kubelet.service".to_owned());
            seen.facts.host.units = vec![UnitFact { role, name, state: Observed::Present(state) }];
            kubelet_check(&seen)
        };
        assert!(holds(ServiceState::Active).holds);
        let check = holds(ServiceState::Activating);
        assert!(!check.holds && check.seen == "activating", "{check:?}");
    }

    #[test]
    fn a_second_file_of_a_pod_is_not_healthy() {
        let mut seen = of_one_pod();
        assert!(doubles_check(&seen).holds);
        let lint = |path: &str, message: &str| LintFact {
            code: "backup-copy".into(),
            path: path.into(),
            message: message.into(),
        };
        seen.facts.lint = vec![lint("/m/app.yaml.bak", "kubelet runs it as pod default/app")];
        assert!(doubles_check(&seen).holds, "a pod of a user");
        seen.facts.lint.push(lint("/m/etcd.yaml.bak", "kubelet runs it as pod kube-system/etcd"));
        let check = doubles_check(&seen);
        assert!(!check.holds && check.seen.contains("etcd.yaml.bak"), "{check:?}");
        seen.facts.lint.clear();
        seen.unobserved.push(Unobserved { what: MANIFESTS_FOLDER.into(), reason: "denied".into() });
        assert!(!doubles_check(&seen).holds);
    }

    #[test]
    fn a_port_whose_holder_cannot_be_read_is_not_proven_to_be_its_own() {
        let mut seen = of_one_pod();
        assert!(holders_check(&seen).holds);
        seen.unobserved.push(Unobserved { what: "pod folders".into(), reason: "x".into() });
        assert!(holders_check(&seen).holds);
        let what = "holder of 10.0.0.2:2380 for etcd";
        seen.unobserved.push(Unobserved { what: what.into(), reason: "permission denied".into() });
        let check = holders_check(&seen);
        assert!(!check.holds && check.seen.contains(what), "{check:?}");
    }
}
