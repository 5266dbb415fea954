//! Questions that several rules ask of the facts.

use std::path::Path;

use super::facts::{Facts, HealthState, LintFact, PortHolder, Subject};
use super::finding::{Evidence, EvidenceKind};
use super::log_of::LogOf;
use crate::cri::{Container, ContainerState, Sandbox, SandboxState};
use crate::healthz::{CheckState, Report, Verdict};
use crate::logs::{LogMatch, SignatureId};
use crate::model::{Component, Observed, Port};
use crate::probe::Outcome;

/// What is known of a component's health; of several answers the first of these counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// It listens and does not answer.
    Hung,
    /// Nobody listens, or the connection breaks.
    Gone,
    /// It says that it is not healthy.
    Unhealthy,
    /// It says that it is healthy.
    Healthy,
    /// It is alive, and no more is known; any other answer says more.
    Alive,
}

/// Ports of kubeadm's static pods (kubernetes `cmd/kubeadm/app/constants/constants.go`).
const PORTS: [(Component, &[u16]); 4] = [
    (Component::Etcd, &[2379, 2380, 2381]),
    (Component::KubeApiserver, &[6443]),
    (Component::KubeControllerManager, &[10257]),
    (Component::KubeScheduler, &[10259]),
];

impl Facts {
    /// Returns the log matches of any of these signatures.
    pub(super) fn logs<'a>(&'a self, ids: &'a [SignatureId]) -> impl Iterator<Item = &'a LogMatch> {
        self.log_matches.iter().filter(|found| ids.contains(&found.signature))
    }

    /// Returns evidence from the logs for any of these signatures, at most eight lines.
    pub(super) fn log_evidence(&self, ids: &[SignatureId]) -> Vec<Evidence> {
        self.logs(ids).take(8).map(of_log).collect()
    }

    /// Reports whether a log of this program was read.
    pub(super) fn has_log(&self, of: LogOf) -> bool {
        let matched = self.log_matches.iter().map(|found| &found.source);
        self.logs_read.iter().chain(matched).any(|name| of.is_named(name))
    }

    /// Reports whether each of these components runs, so that it has its ports, or its log was read.
    pub(super) fn has_logs_of_the_stopped(&self, components: &[Component]) -> bool {
        components
            .iter()
            .all(|component| self.newest_runs(*component) || self.has_log(LogOf::Pod(*component)))
    }

    /// Returns what is known of a component's health, with its evidence; the worst answer counts.
    pub(super) fn health_of(&self, component: Component) -> Option<(Health, Evidence)> {
        self.health
            .iter()
            .filter(|fact| fact.subject == Some(Subject::Component(component)))
            .filter_map(|fact| {
                let (health, text) = weigh(&fact.state)?;
                Some((
                    health,
                    Evidence { kind: EvidenceKind::Health, source: fact.source.clone(), line: None, text },
                ))
            })
            .min_by_key(|(health, _)| *health)
    }

    /// Returns all reports that health endpoints gave, with the name of their source.
    pub(super) fn reports(&self) -> impl Iterator<Item = (&str, Option<Subject>, &Report)> {
        self.health.iter().filter_map(|fact| match &fact.state {
            HealthState::Recorded(report) | HealthState::Probed(Outcome::Answered { report }) => {
                Some((fact.source.as_str(), fact.subject, report))
            }
            HealthState::Probed(_) => None,
        })
    }

    /// Returns evidence that a named check failed anywhere.
    pub(super) fn failed_check(&self, name: &str) -> Option<Evidence> {
        self.reports().find_map(|(source, _, report)| {
            let check = report.failed().find(|check| check.name == name)?;
            let reason = check.reason.as_deref().unwrap_or("reason withheld");
            Some(Evidence {
                kind: EvidenceKind::Health,
                source: source.to_owned(),
                line: None,
                text: format!("[-]{name} failed: {reason}"),
            })
        })
    }

    /// Returns evidence that a health answer's message contains `text`, as in `ALARM NOSPACE`.
    pub(super) fn health_message(&self, text: &str) -> Option<Evidence> {
        self.reports().find_map(|(source, _, report)| {
            let message = report.message.as_deref().filter(|message| message.contains(text))?;
            Some(Evidence {
                kind: EvidenceKind::Health,
                source: source.to_owned(),
                line: None,
                text: message.to_owned(),
            })
        })
    }

    /// Reports whether a check passed in an answer of the API server.
    pub(super) fn has_passed(&self, name: &str) -> bool {
        self.reports().any(|(_, _, report)| {
            report.checks.iter().any(|check| check.name == name && check.state == CheckState::Ok)
        })
    }

    /// Reports whether API server and etcd say now that they are healthy, and nothing says otherwise.
    ///
    /// What only a log says is then the past.
    pub(super) fn is_serving(&self) -> bool {
        let etcd = self.says_healthy(Component::Etcd).unwrap_or_else(|| self.has_passed("etcd"));
        self.says_healthy(Component::KubeApiserver) == Some(true)
            && etcd
            && self.failed_check("etcd").is_none()
    }

    /// Reports whether etcd itself says now that it is healthy, and no API server that it is not.
    ///
    /// What only a log says of etcd is then the past, whatever keeps the API server down.
    pub(super) fn is_etcd_serving(&self) -> bool {
        self.says_healthy(Component::Etcd) == Some(true) && self.failed_check("etcd").is_none()
    }

    fn says_healthy(&self, component: Component) -> Option<bool> {
        self.health_of(component).map(|(health, _)| health == Health::Healthy)
    }

    /// Returns the newest container of a component and its sandbox.
    pub(super) fn newest_container(&self, component: Component) -> Option<(&Container, Option<&Sandbox>)> {
        let runtime = self.runtime.present()?;
        let newest_sandbox = runtime.component_sandboxes(component).into_iter().next()?;
        let container = runtime
            .containers_of(&newest_sandbox.id)
            .into_iter()
            .find(|container| container.name == component.as_str())?;
        Some((container, Some(newest_sandbox)))
    }

    /// Reports whether a component's newest container runs.
    pub(super) fn newest_runs(&self, component: Component) -> bool {
        self.newest_container(component).is_some_and(|(container, _)| container.is_running())
    }

    /// Returns the linter's word on a component's manifest that is held, and since when.
    pub(crate) fn held(&self, component: Component) -> Option<&LintFact> {
        let file = component.manifest_file();
        self.lint.iter().find(|lint| lint.code == LintFact::HELD && lint.path.ends_with(file))
    }

    /// Returns the running containers of a component, in whatever sandbox.
    pub(super) fn running_containers(&self, component: Component) -> Vec<&Container> {
        self.runtime
            .present()
            .map(|runtime| runtime.component_containers(component))
            .unwrap_or_default()
            .into_iter()
            .filter(|container| container.is_running())
            .collect()
    }

    /// Returns evidence that the runtime lists no running container in a component's newest sandbox.
    pub(super) fn not_running(&self, component: Component) -> Option<Evidence> {
        let runtime = self.runtime.present()?;
        let text = match self.newest_container(component) {
            Some((container, _)) if container.state == ContainerState::Running => return None,
            Some((container, _)) => format!(
                "newest {component} container {} is {}, attempt {}",
                short(container.id.as_str()),
                state_name(container.state),
                container.attempt
            ),
            None if runtime.sandboxes.is_empty() => return None,
            None => format!("the runtime lists no {component} container"),
        };
        Some(Evidence { kind: EvidenceKind::Runtime, source: "CRI".to_owned(), line: None, text })
    }

    /// Returns the log matches that say that a port of `component` is in use.
    pub(super) fn bind_conflicts(&self, component: Component) -> Vec<&LogMatch> {
        self.logs(&[SignatureId::BindInUse, SignatureId::ApiserverPortInUse])
            .filter(|found| {
                found
                    .param("port")
                    .and_then(|port| port.parse::<Port>().ok())
                    .is_some_and(|port| self.component_of_port(port) == Some(component))
            })
            .collect()
    }

    /// Returns the component that should listen on a port: by the manifests, else by kubeadm's defaults.
    pub(super) fn component_of_port(&self, port: Port) -> Option<Component> {
        self.manifests
            .iter()
            .find(|fact| {
                fact.pod
                    .present()
                    .is_some_and(|pod| pod.listeners().iter().any(|l| l.address.port() == port.get()))
            })
            .map(|fact| fact.component)
            .or_else(|| {
                PORTS.iter().find(|(_, ports)| ports.contains(&port.get())).map(|(component, _)| *component)
            })
    }

    /// Reports whether kubelet or a component works with the certificates of this file.
    pub(super) fn needs_certificate(&self, path: &Path) -> bool {
        let mut pods = self.manifests.iter().filter_map(|fact| fact.pod.present());
        self.host.is_needed(path) || pods.any(|pod| pod.names_file(path))
    }

    /// Returns the port holders, where they were looked for.
    pub(super) fn holders(&self) -> &[PortHolder] {
        self.port_holders.present().map(Vec::as_slice).unwrap_or_default()
    }

    /// Reports whether this node is expected to run its own etcd.
    ///
    /// A node with an external etcd has no etcd manifest, and its API server is given other hosts
    /// (kubeadm `phases/etcd`, `--etcd-servers`).
    pub(super) fn has_own_etcd(&self) -> bool {
        let apiserver = self.manifests.iter().find(|fact| fact.component == Component::KubeApiserver);
        let Some(servers) =
            apiserver.and_then(|fact| fact.pod.present()).and_then(|pod| pod.flag("etcd-servers"))
        else {
            return true;
        };
        let own = |host: &str| {
            let host = host.trim_matches(['[', ']']);
            host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| {
                    address.is_loopback()
                        || matches!(&self.host.addresses, Observed::Present(all) if all.contains(&address))
                })
        };
        servers.split(',').any(|url| {
            let rest = url.trim().split_once("://").map_or(url, |(_, rest)| rest);
            own(rest.rsplit_once(':').map_or(rest, |(host, _)| host))
        })
    }
}

/// Makes evidence of a log match.
pub(super) fn of_log(found: &LogMatch) -> Evidence {
    let count = if found.count > 1 { format!(" ({} times)", found.count) } else { String::new() };
    Evidence {
        kind: EvidenceKind::Log,
        source: found.source.clone(),
        line: Some(found.last_line),
        text: format!("{}{count}", found.text),
    }
}

/// Makes evidence of one sentence.
pub(super) fn note(kind: EvidenceKind, source: impl Into<String>, text: impl Into<String>) -> Evidence {
    Evidence { kind, source: source.into(), line: None, text: text.into() }
}

/// Returns the first 12 characters of an id, as crictl prints it.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Reports whether a name as logs write it (`kube-system/etcd-cp1`, `etcd-cp1`) is a component's static pod.
pub(super) fn component_of_pod(pod: &str) -> Option<Component> {
    let name = pod.strip_prefix("kube-system/").unwrap_or(pod);
    Component::ALL.into_iter().find(|component| {
        name.strip_prefix(component.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

/// Reports whether a sandbox is ready.
pub(super) fn is_ready(sandbox: &Sandbox) -> bool {
    sandbox.state == SandboxState::Ready
}

fn state_name(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created but not started",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
        _ => "in an unknown state",
    }
}

fn weigh(state: &HealthState) -> Option<(Health, String)> {
    let report = match state {
        HealthState::Recorded(report) | HealthState::Probed(Outcome::Answered { report }) => report,
        HealthState::Probed(outcome) => return weigh_failure(outcome),
    };
    match report.verdict {
        Verdict::Healthy => Some((Health::Healthy, "answers healthy".to_owned())),
        Verdict::AliveUndetermined => Some((Health::Alive, "answers, without saying how it is".to_owned())),
        Verdict::Unhealthy => {
            let failed: Vec<&str> = report.failed().map(|check| check.name.as_str()).collect();
            let what = match (failed.is_empty(), &report.message) {
                (false, _) => format!("answers unhealthy, failed: {}", failed.join(", ")),
                (true, Some(message)) => format!("answers unhealthy: {message}"),
                (true, None) => "answers unhealthy".to_owned(),
            };
            Some((Health::Unhealthy, what))
        }
        Verdict::Unknown => None,
    }
}

fn weigh_failure(outcome: &Outcome) -> Option<(Health, String)> {
    Some(match outcome {
        Outcome::Refused => (Health::Gone, "connection refused: nobody listens".to_owned()),
        Outcome::Reset { .. } => (Health::Gone, "closes the connection without an answer".to_owned()),
        Outcome::Hung { .. } => {
            (Health::Hung, "accepts the connection and stays silent: it hangs".to_owned())
        }
        Outcome::Tls { reason } => (Health::Alive, format!("speaks TLS, but the handshake failed: {reason}")),
        Outcome::NotHttp { .. } => (Health::Alive, "answers, but not in HTTP".to_owned()),
        // No way to reach it says nothing about it.
        _ => return None,
    })
}
