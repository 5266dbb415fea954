//! The rules, one file each: facts in, an answer out.
//!
//! A rule finds one kind of thing, excludes it, or says what it would have to see to decide. Which
//! finding explains which is data: [`Rule::effects`].

use super::facts::Facts;
use super::finding::{Confidence, Evidence, Finding, FindingId, Severity, Targets};
use super::query::{Health, of_log};
use crate::model::{Component, Port};
use crate::units::ServiceState;

/// One rule.
pub(super) struct Rule {
    /// What it finds.
    pub(super) id: FindingId,
    /// Whether what it finds always follows from something else.
    pub(super) is_effect: bool,
    /// What it can bring about, directly or not.
    pub(super) effects: &'static [FindingId],
    /// Looks for it.
    pub(super) check: fn(&Facts) -> Answer,
}

/// What a rule says.
pub(super) enum Answer {
    /// It is there.
    Found(Box<Finding>),
    /// It is not there.
    Excluded,
    /// It cannot be told without this.
    Open(&'static str),
}

impl Answer {
    /// It is not there, provided that what would show it was looked at.
    pub(super) const fn unless(was_looked_at: bool, missing: &'static str) -> Self {
        if was_looked_at { Self::Excluded } else { Self::Open(missing) }
    }
}

/// A finding without its last part.
pub(super) struct Draft(Finding);

/// Begins a finding.
pub(super) fn draft(
    id: FindingId,
    severity: Severity,
    confidence: Confidence,
    summary: impl Into<String>,
) -> Draft {
    Draft(Finding {
        id,
        severity,
        confidence,
        is_effect: false,
        summary: summary.into(),
        evidence: Vec::new(),
        targets: Targets::default(),
        remedy: String::new(),
    })
}

impl Draft {
    pub(super) fn evidence(mut self, evidence: impl IntoIterator<Item = Evidence>) -> Self {
        self.0.evidence.extend(evidence);
        self
    }

    pub(super) fn targets(mut self, targets: Targets) -> Self {
        self.0.targets = targets;
        self
    }

    /// Ends the finding with what to do.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Answer {
        self.0.remedy = remedy.into();
        Answer::Found(Box::new(self.0))
    }
}

/// What follows when etcd does not run.
const ETCD_STOPS: &[FindingId] = &[
    FindingId::CrashLoop,
    FindingId::EtcdDown,
    FindingId::EtcdUnreachable,
    FindingId::ApiserverDown,
    FindingId::ControllersDown,
    FindingId::KubeletDisconnected,
];

/// What follows when a port of etcd or of the API server is held by the wrong process.
const PORT_TAKEN: &[FindingId] = &[
    FindingId::PortHeld,
    FindingId::ApiserverPortHeld,
    FindingId::DbLocked,
    FindingId::CrashLoop,
    FindingId::EtcdDown,
    FindingId::EtcdUnreachable,
    FindingId::ApiserverDown,
    FindingId::ControllersDown,
    FindingId::KubeletDisconnected,
];

macro_rules! rules {
    ($($name:ident,)+) => {
        $(mod $name;)+
        /// All rules, in the order in which causes are worked on.
        static RULES: &[Rule] = &[$($name::RULE),+];
    };
}

rules! {
    runtime_down,
    disk_full,
    disk_failing,
    clock_wrong,
    certificate_invalid,
    kubelet_misconfigured,
    kubelet_down,
    duplicate_manifest,
    manifest_lost,
    manifest_defaults,
    manifest_invalid,
    address_changed,
    data_dir_wrong,
    wal_corrupt,
    db_corrupt,
    db_snap_mismatch,
    etcd_no_space,
    etcd_corrupt_alarm,
    member_removed,
    cluster_id_mismatch,
    stale_sandbox,
    orphan_process,
    foreign_holder,
    db_locked,
    stale_volumes,
    same_uid_restart,
    reserved_name,
    image_missing,
    static_pod_rejected,
    out_of_memory,
    slow_disk,
    quorum_lost,
    etcd_hung,
    log_blocked,
    inotify_exhausted,
    port_held,
    apiserver_port_held,
    etcd_unreachable,
    crash_loop,
    etcd_down,
    apiserver_down,
    controllers_down,
    kubelet_disconnected,
    orphaned_volumes,
    certificate_expiring,
    host_pressure,
}

/// Asks every rule.
pub(super) fn run(facts: &Facts) -> Vec<(&'static Rule, Answer)> {
    RULES
        .iter()
        .map(|rule| {
            let mut answer = (rule.check)(facts);
            if let Answer::Found(finding) = &mut answer {
                finding.is_effect = rule.is_effect;
            }
            (rule, answer)
        })
        .collect()
}

/// Returns the rule that finds `id`.
///
/// # Panics
/// Never: a test proves that every kind of finding has its rule.
pub(super) fn rule_of(id: FindingId) -> &'static Rule {
    RULES.iter().find(|rule| rule.id == id).expect("every kind of finding has a rule")
}

/// Sorts targets and drops repetitions.
fn tidy(targets: &mut Targets) {
    targets.components.sort();
    targets.components.dedup();
    targets.ports.sort();
    targets.ports.dedup();
    targets.pids.sort();
    targets.pids.dedup();
    targets.containers.sort();
    targets.containers.dedup();
    targets.sandboxes.sort();
    targets.sandboxes.dedup();
    targets.paths.sort();
    targets.paths.dedup();
}

/// Writes names and what they do, in the singular or the plural: `a does`, `a and b do`, `a, b and c do`.
fn verb(names: &[&str], one: &str, several: &str) -> String {
    match names {
        [] => several.to_owned(),
        [name] => format!("{name} {one}"),
        [first @ .., last] => format!("{} and {last} {several}", first.join(", ")),
    }
}

/// Names a service's state for people.
fn service_state(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Active => "active",
        ServiceState::Activating => "starting, or waiting for its next restart",
        ServiceState::Deactivating => "stopping",
        ServiceState::Inactive => "stopped",
        ServiceState::Failed => "failed",
        ServiceState::Missing => "unknown to the service manager",
    }
}

/// Finds ports of `components` that new containers could not listen on.
fn held_ports(facts: &Facts, components: &[Component], begin: impl FnOnce(&str) -> Draft) -> Answer {
    let mut targets = Targets::default();
    let mut evidence = Vec::new();
    for component in components {
        // A newest container that runs has got its port since.
        if facts.newest_container(*component).is_some_and(|(container, _)| container.is_running()) {
            continue;
        }
        for found in facts.bind_conflicts(*component) {
            targets.components.push(*component);
            targets.ports.extend(found.param("port").and_then(|port| port.parse::<Port>().ok()));
            evidence.push(of_log(found));
        }
    }
    if evidence.is_empty() {
        return Answer::unless(facts.has_logs_of_the_stopped(components), "the logs of the static pods");
    }
    tidy(&mut targets);
    let ports: Vec<String> = targets.ports.iter().map(ToString::to_string).collect();
    begin(&ports.join(", "))
        .evidence(evidence)
        .targets(targets)
        .remedy("Find out who holds the port before anything is ended.")
}

/// Finds components that do not work: by their health, by the runtime's list, or by `more`.
fn component_down(facts: &Facts, id: FindingId, components: &[Component], more: Option<Evidence>) -> Answer {
    let mut targets = Targets::default();
    let mut evidence = Vec::new();
    let mut is_known = facts.runtime.present().is_some();
    for component in components {
        let health = facts.health_of(*component);
        is_known |= health.is_some();
        let before = evidence.len();
        // One that answers healthy now is up, whatever else is written.
        match health {
            Some((Health::Healthy, _)) => continue,
            Some((Health::Alive, _)) | None => {}
            Some((_, said)) => evidence.push(said),
        }
        evidence.extend(facts.not_running(*component));
        if evidence.len() > before {
            targets.components.push(*component);
        }
    }
    let is_proven = !evidence.is_empty();
    if let Some(more) = more {
        evidence.push(more);
        targets.components.extend(components);
    }
    if evidence.is_empty() {
        return Answer::unless(is_known, "the component's health and container");
    }
    tidy(&mut targets);
    let names: Vec<&str> = targets.components.iter().map(|component| component.as_str()).collect();
    let confidence = if is_proven { Confidence::Proven } else { Confidence::Likely };
    draft(id, Severity::Critical, confidence, verb(&names, "does not work", "do not work"))
        .evidence(evidence)
        .targets(targets)
        .remedy("It follows from something else; heal that.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_finding_has_exactly_one_rule() {
        for id in FindingId::ALL {
            assert_eq!(RULES.iter().filter(|rule| rule.id == *id).count(), 1, "{id}");
        }
    }

    #[test]
    fn one_does_and_several_do() {
        let names = ["a", "b", "c"];
        let said = |count| verb(names.get(..count).expect("in range"), "does", "do");
        assert_eq!([said(1), said(2), said(3)], ["a does", "a and b do", "a, b and c do"]);
    }

    #[test]
    fn without_facts_no_rule_finds_anything() {
        for (rule, answer) in run(&Facts::default()) {
            assert!(!matches!(answer, Answer::Found(_)), "{}", rule.id);
        }
    }
}
