//! Looks at the node: every part stands alone, and one that cannot be read hides no other.

mod back_off;
pub(super) mod backups;
pub(super) mod etcd;
mod health;
pub(crate) mod holders;
pub(super) mod logs;
mod manifests;
pub(super) mod pods;
pub(super) mod port;

use std::time::Duration;

use self::holders::Court;
use super::cache::Cache;
use super::host::Host;
use super::observation::{BackupFact, ExpectedPod, Observation};
use super::verification::Verification;
use super::{ran, regeneration};
use crate::backup::Store;
use crate::cri::{self, Runtime, RuntimeInfo, RuntimeState, RuntimeView};
use crate::diagnose::{Facts, HealthFact, LintFact, ManifestFact};
use crate::error::Result;
use crate::facts;
use crate::model::{Component, NodeName, Observed};
use crate::node::NodeOptions;
use crate::policy::contract::Unobserved;
use crate::probe::{Limits, Prober};
use crate::sys::Deadline;

/// How an observation names the manifests folder among what it could not read.
pub(super) const MANIFESTS_FOLDER: &str = "manifests folder";
/// How long one look at the container runtime may take.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(4);

/// Looks at the whole node; never fails, since what could not be read is part of the answer.
#[must_use]
pub fn observe(host: &Host<'_>, deadline: &Deadline) -> Observation {
    observe_again(host, &mut Cache::default(), deadline)
}

/// What files alone tell: the manifests, what was backed up of them, and what they should be.
struct OnDisk {
    name: Option<NodeName>,
    manifests: Vec<ManifestFact>,
    lint: Vec<LintFact>,
    store: Option<Store>,
    backups: Observed<Vec<BackupFact>>,
    pods: Vec<ExpectedPod>,
}

impl OnDisk {
    fn read(
        host: &Host<'_>,
        cache: &mut Cache,
        deadline: &Deadline,
        unread: &mut dyn FnMut(&str, String),
    ) -> Self {
        let node = host.node;
        let store = Store::open_read_only(node);
        let name = match &store {
            Ok(store) => store.node_name().map(NodeName::new),
            Err(_) => facts::node_name(node),
        };
        if name.is_none() {
            unread("node name", "neither kubelet's files nor the host tell it; set nodeName".into());
        }
        let manifests = manifests::live(node);
        let mut lint = manifests::lint(node).unwrap_or_else(|error| {
            unread(MANIFESTS_FOLDER, error.to_string());
            Vec::new()
        });
        let backups = match &store {
            Ok(store) => Observed::from_result(backups::best(store, host.clock.now(), cache, deadline)),
            Err(error) => Observed::Unknown(error.to_string()),
        };
        if let Observed::Unknown(why) = &backups {
            unread("backups", why.clone());
        }
        let store = store.ok();
        match store.as_ref().map_or_else(|| Ok(Vec::new()), |store| manifests::held(node, store)) {
            Ok(held) => lint.extend(held),
            Err(error) => unread("held manifests", error.to_string()),
        }
        let known = backups.present().map(Vec::as_slice).unwrap_or_default();
        let pods = manifests::expected(&manifests, known, store.as_ref());
        Self { name, manifests, lint, store, backups, pods }
    }
}

/// As [`observe`], without reading again what has not changed since `cache` saw it.
pub(super) fn observe_again(host: &Host<'_>, cache: &mut Cache, deadline: &Deadline) -> Observation {
    let node = host.node;
    let mut unobserved = Vec::new();
    let mut unread = |what: &str, reason: String| unobserved.push(Unobserved { what: what.into(), reason });

    let OnDisk { name, manifests: manifest_facts, lint, store, backups, pods } =
        OnDisk::read(host, cache, deadline, &mut unread);
    let known = backups.present().map(Vec::as_slice).unwrap_or_default();

    let (runtime, runtime_info, mut state) = ask_runtime(host, deadline);
    let view = runtime.as_deref().map(|runtime| runtime as &dyn RuntimeView);
    let prober = Prober::new(node, limits);
    let list = || view.map(|view| list(view, &deadline.at_most(RUNTIME_TIMEOUT)));
    let court = Court::new(node, &pods, view, &state, deadline).asking(&prober);
    let (mut judged, missing) = holders::judged(node, &pods, &court, deadline);
    holders::by_the_newest(&mut judged, &mut state, list, |state, judged| {
        Court::new(node, &pods, view, state, deadline).judge_again(judged);
    });
    if let Observed::Unknown(why) = &state {
        unread("container runtime", why.clone());
    }
    let crashes = back_off::crashes(view, &state, &deadline.at_most(RUNTIME_TIMEOUT));
    for (what, why) in &missing {
        unread(what, why.clone());
    }
    let port_holders = match missing.first() {
        Some((what, why)) if judged.is_empty() => Observed::Unknown(format!("{what}: {why}")),
        _ => Observed::Present(judged.iter().map(holders::diagnosis_fact).collect()),
    };

    let present: Vec<Component> = manifest_facts
        .iter()
        .filter(|fact| fact.pod.present().is_some())
        .map(|fact| fact.component)
        .collect();
    let (health, missing) = health::ask(node, &present, &prober, deadline);
    let read_logs = logs::read(node, &state, host.commands, deadline);
    for (what, why) in missing.iter().chain(&read_logs.unread) {
        unread(what, why.clone());
    }
    let machine = facts::collect(node, host.clock, host.commands, deadline);
    for (path, why) in machine.unread_certificates() {
        unread(&format!("certificates in {}", path.display()), why.clone());
    }
    let unmanaged = health::of_unmanaged_etcd(node, &pods, &present, &prober, deadline);
    let asked: Vec<HealthFact> = health.iter().cloned().chain(unmanaged).collect();
    let etcd = etcd::look(node, &pods, &asked, cache, deadline);
    if let Observed::Unknown(why) = &etcd.facts.cluster
        && !etcd.contract.external
    {
        unread("etcd members", why.clone());
    }

    let booted = back_off::booted(&node.proc_dir);
    let back_offs = back_off::back_offs(&read_logs.matches, &state, &crashes, booted, host.clock.unix());
    let lost: Vec<Component> = pods
        .iter()
        .map(|pod| pod.component)
        .filter(|component| is_lost(*component, &manifest_facts, known))
        .collect();
    let ran = |components: &[Component]| match (view, &state) {
        (Some(view), Observed::Present(state)) => {
            ran::of(view, state, components, &deadline.at_most(RUNTIME_TIMEOUT))
        }
        _ => Vec::new(),
    };
    let regenerations = regeneration::facts(node, &lost, store.as_ref(), known, ran);
    let mut observation = Observation {
        node: name.unwrap_or_else(|| NodeName::new("")),
        at_unix_ms: host.unix_ms(),
        facts: Facts {
            health,
            log_matches: read_logs.matches,
            logs_read: read_logs.read,
            runtime: state,
            port_holders,
            process_cgroups: Vec::new(),
            manifests: manifest_facts,
            lint,
            host: machine,
            etcd_data: etcd.data,
            etcd_voters: etcd.voters,
            backups: known.iter().filter(|backup| backup.is_good()).map(|backup| backup.component).collect(),
        },
        regenerations,
        pods,
        runtime_info,
        holders: judged,
        back_offs,
        restart_ms: node.restart_ms,
        backups,
        etcd: etcd.contract,
        etcd_facts: etcd.facts,
        pod_dirs: Vec::new(),
        unobserved,
    };
    by_health(&mut observation, node, deadline);
    observation
}

/// Drops what counts only on a node that is down, and looks at what matters only there.
fn by_health(observation: &mut Observation, node: &NodeOptions, deadline: &Deadline) {
    if Verification::of(observation).healthy {
        // Every part is proven to work now, so what the logs tell lies in the past.
        observation.facts.log_matches.clear();
        return;
    }
    let Observed::Present(state) = &observation.facts.runtime else { return };
    // Whose folder is whose cannot be told without it; it is listed as unobserved.
    if observation.node.as_str().is_empty() {
        return;
    }
    match pods::look(node, &observation.node, state, deadline) {
        Ok(folders) => observation.pod_dirs = folders,
        Err(error) => {
            let reason = error.to_string();
            observation.unobserved.push(Unobserved { what: "pod folders".into(), reason });
        }
    }
}

/// The best backups of the node's manifests, verified now.
pub(super) fn good_backups(host: &Host<'_>, store: &Store, deadline: &Deadline) -> Result<Vec<BackupFact>> {
    backups::best(store, host.clock.now(), &mut Cache::default(), deadline)
}

/// Reports whether a component's manifest is gone and no good backup holds it.
fn is_lost(component: Component, manifests: &[ManifestFact], backups: &[BackupFact]) -> bool {
    manifests.iter().any(|fact| fact.component == component && fact.pod.is_absent())
        && !backups.iter().any(|backup| backup.component == component && backup.is_good())
}

/// The bounds of one health probe during a recovery: shorter than the defaults, since the node is asked
/// again and again. An etcd that has just started holds its answer back until it has a leader, and one
/// second is its election timeout; the API server's own etcd check takes up to 2 s.
fn limits(component: Component) -> Limits {
    let first_byte = match component {
        Component::Etcd => Duration::from_millis(700),
        _ => Duration::from_millis(2500),
    };
    Limits {
        connect: Duration::from_millis(500),
        first_byte,
        whole: Duration::from_secs(4),
        ..Limits::default()
    }
}

type Connected<'a> = (Option<Box<dyn Runtime + 'a>>, Observed<RuntimeInfo>, Observed<RuntimeState>);

fn ask_runtime<'a>(host: &Host<'a>, deadline: &Deadline) -> Connected<'a> {
    let deadline = deadline.at_most(RUNTIME_TIMEOUT);
    let runtime = match cri::connect(host.node, host.commands, &deadline) {
        Ok(runtime) => runtime,
        Err(error) => {
            let why = error.to_string();
            return (None, Observed::Unknown(why.clone()), Observed::Unknown(why));
        }
    };
    let info = Observed::from_result(runtime.info(&deadline));
    let state = list(runtime.as_ref(), &deadline);
    (Some(runtime), info, state)
}

/// Lists, and asks for what tells a left-over sandbox from the one of the manifest in place.
fn list(view: &dyn RuntimeView, deadline: &Deadline) -> Observed<RuntimeState> {
    let listed = view.list(deadline).map(|mut state| {
        state.learn_arguments(view, deadline);
        state
    });
    Observed::from_result(listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ServiceControl;

    #[test]
    fn a_certificate_that_could_not_be_read_was_not_observed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut node = NodeOptions::at(dir.path()).expect("absolute");
        let none = vec!["/bin/false".to_owned()];
        let control = ServiceControl::Commands { start: none.clone(), stop: none.clone(), state: none };
        node.kubelet = control.clone();
        node.runtime = Some(control);
        node.runtime_endpoint = Some("unix:///run/none.sock".into());
        // A folder in its place stands for a file that the disk does not give back.
        std::fs::create_dir_all(node.resolve("/etc/kubernetes/pki/etcd/server.crt")).expect("mkdir");
        let seen = observe(&Host::new(&node), &Deadline::after(Duration::from_secs(20)));
        let what = "certificates in /etc/kubernetes/pki/etcd/server.crt";
        assert!(seen.unobserved.iter().any(|unread| unread.what == what), "{:?}", seen.unobserved);
    }
}
