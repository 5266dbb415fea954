//! Who holds the ports that the expected pods want, and what kind of holder that is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::cri::{RuntimeState, RuntimeView};
use crate::diagnose::{HolderClass, PortHolder};
use crate::error::Result;
use crate::model::{Component, ContainerId, Observed, Pid, Port};
use crate::node::NodeOptions;
use crate::policy::contract::Unobserved;
use crate::ports::{
    self, Action, AskHealth, Class, Evidence, Holder, Lookup, NodeFacts, PodFacts, Query, RuntimeFacts,
    Verdict,
};
use crate::recover::observation::{ExpectedPod, JudgedHolder};
use crate::sys::Deadline;

/// How what could not be read begins where it is a port's holder.
const UNREAD: &str = "holder of ";

/// What the judge needs besides the evidence.
pub(crate) struct Court<'a> {
    pub(super) runtime: std::result::Result<RuntimeFacts, String>,
    pub(super) facts: NodeFacts,
    /// Asks holders whether they are healthy; nobody does before an effect, for it changes no verdict.
    health: Option<&'a dyn AskHealth>,
}

impl<'a> Court<'a> {
    /// Gathers what the runtime and the manifests say.
    pub(crate) fn new(
        node: &NodeOptions,
        pods: &[ExpectedPod],
        runtime: Option<&dyn RuntimeView>,
        state: &Observed<RuntimeState>,
        deadline: &Deadline,
    ) -> Self {
        let runtime = match (state, runtime) {
            (Observed::Present(state), Some(view)) => Ok(RuntimeFacts {
                name: Some(view.name().to_owned()),
                pids: pids(state, view, deadline),
                state: state.clone(),
            }),
            (Observed::Unknown(why), _) => Err(why.clone()),
            _ => Err("there is no container runtime to ask".into()),
        };
        let pods = pods.iter().filter_map(|expected| {
            let pod = expected.pod.as_ref()?;
            let database = match pod.etcd_data_dir() {
                Some(dir) => ports::database_file(&node.resolve(dir)),
                None => Observed::Absent,
            };
            PodFacts::of_manifest(pod, database)
        });
        let facts = NodeFacts { pods: pods.collect(), pod_identity: node.pod_identity, expected: None };
        Self { runtime, facts, health: None }
    }

    /// Has holders asked whether they are healthy.
    pub(super) fn asking(mut self, health: &'a dyn AskHealth) -> Self {
        self.health = Some(health);
        self
    }

    /// Collects the evidence about a holder.
    pub(super) fn collect(&self, holder: &Holder, query: &Query, deadline: &Deadline) -> Result<Evidence> {
        let mut evidence = ports::collect(holder, query, deadline)?;
        if let Some(health) = self.health {
            evidence.healthy = health.ask(&evidence, query, deadline);
        }
        Ok(evidence)
    }

    /// Looks up one port and judges every holder.
    pub(crate) fn hear(
        &self,
        node: &NodeOptions,
        wanted_by: Component,
        address: SocketAddr,
        deadline: &Deadline,
    ) -> Result<(Lookup, Vec<JudgedHolder>)> {
        let Some(port) = Port::new(address.port()) else { return Ok((Lookup::Free, Vec::new())) };
        let query = self.query(node, port).address(address.ip());
        let lookup = ports::find(&query, deadline)?;
        let mut judged = Vec::new();
        for holder in lookup.holders() {
            let evidence = self.collect(holder, &query, deadline)?;
            let verdict = self.judge(&evidence, Some(wanted_by));
            judged.push(JudgedHolder { wanted_by, port, address, evidence, verdict });
        }
        Ok((lookup, judged))
    }

    /// Asks about a port, looking at the processes that the runtime knows first.
    pub(super) fn query(&self, node: &NodeOptions, port: Port) -> Query {
        let query = Query::on_node(node, port);
        match &self.runtime {
            Ok(runtime) => query.likely_pids(runtime.pids.values().copied()),
            Err(_) => query,
        }
    }

    /// Judges one holder; `wanted_by` is the component whose port it should be.
    pub(super) fn judge(&self, evidence: &Evidence, wanted_by: Option<Component>) -> Verdict {
        let mut facts = self.facts.clone();
        facts.expected = wanted_by;
        ports::judge(evidence, self.runtime.as_ref().map_err(String::as_str), &facts)
    }

    /// Judges holders anew by what was seen of them.
    pub(super) fn judge_again(&self, judged: &mut [JudgedHolder]) {
        for holder in judged {
            holder.verdict = self.judge(&holder.evidence, Some(holder.wanted_by));
        }
    }
}

/// First processes of the control plane's running containers; what the runtime does not tell, or not in its
/// time, is left out.
fn pids(state: &RuntimeState, view: &dyn RuntimeView, deadline: &Deadline) -> BTreeMap<ContainerId, Pid> {
    // Of all together: one that hangs leaves the rest of the look its time.
    let deadline = deadline.at_most(super::RUNTIME_TIMEOUT);
    let running = Component::ALL.into_iter().flat_map(|component| state.component_containers(component));
    running
        .filter(|container| container.is_running())
        .take(16)
        .filter_map(|container| {
            let detail = view.container_detail(&container.id, &deadline).ok()?;
            Some((container.id.clone(), detail.pid?))
        })
        .collect()
}

/// Has holders judged again by a newer `list` where one would be ended: a container that started between the
/// list and the look at the ports is in the first list as little as an orphan is. What was seen of the
/// holders stays, so that the newer list is younger than all of it.
pub(super) fn by_the_newest(
    judged: &mut [JudgedHolder],
    state: &mut Observed<RuntimeState>,
    list: impl FnOnce() -> Option<Observed<RuntimeState>>,
    judge_again: impl FnOnce(&Observed<RuntimeState>, &mut [JudgedHolder]),
) {
    if judged.iter().any(|holder| holder.verdict.action == Action::Terminate)
        && let Some(newer) = list()
    {
        *state = newer;
        judge_again(state, judged);
    }
}

/// Judges the holders of every port that a pod wants; a look-up that failed is returned as text.
pub(super) fn judged(
    node: &NodeOptions,
    pods: &[ExpectedPod],
    court: &Court<'_>,
    deadline: &Deadline,
) -> (Vec<JudgedHolder>, Vec<(String, String)>) {
    let mut holders = Vec::new();
    let mut unread = Vec::new();
    for expected in pods {
        let listeners =
            expected.pod.as_ref().map(crate::parse::manifest::StaticPod::listeners).unwrap_or_default();
        for listener in listeners {
            let what = || format!("{UNREAD}{} for {}", listener.address, expected.component);
            match court.hear(node, expected.component, listener.address, deadline) {
                Ok((Lookup::OwnerUnknown { unowned, .. }, judged)) => {
                    holders.extend(judged);
                    unread.extend(unowned.into_iter().map(|unowned| (what(), unowned.reason)));
                }
                Ok((_, judged)) => holders.extend(judged),
                Err(error) => unread.push((what(), error.to_string())),
            }
        }
    }
    (holders, unread)
}

/// Reports whether something that could not be read is the holder of a port.
pub(in crate::recover) fn is_unread_holder(unread: &Unobserved) -> bool {
    unread.what.starts_with(UNREAD)
}

/// Says it in diagnosis' terms.
pub(in crate::recover) fn diagnosis_fact(holder: &JudgedHolder) -> PortHolder {
    let (class, container, sandbox) = match &holder.verdict.class {
        Class::Live { container, sandbox } => {
            (HolderClass::Live, Some(container.clone()), Some(sandbox.clone()))
        }
        Class::Stale { container, sandbox, .. } => {
            (HolderClass::StaleSandbox, Some(container.clone()), Some(sandbox.clone()))
        }
        Class::Orphan { container, .. } => (HolderClass::Orphan, container.clone(), None),
        Class::Unit { .. } => (HolderClass::Service, None, None),
        Class::Foreign { .. } => (HolderClass::Foreign, None, None),
        Class::Gone | Class::Unproven { .. } => (HolderClass::Unknown, None, None),
    };
    PortHolder {
        port: holder.port,
        address: holder.address,
        wanted_by: Some(holder.wanted_by),
        pid: Some(holder.evidence.process.pid),
        name: holder.evidence.comm.clone(),
        class,
        container,
        sandbox,
        evidence: holder.verdict.evidence.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;
    use crate::cri::{ContainerDetail, RuntimeInfo, parse};
    use crate::sys::ManualClock;

    fn holder(action: Action) -> JudgedHolder {
        let class = Class::Orphan { component: Some(Component::Etcd), container: None };
        JudgedHolder::of_test(Component::Etcd, class, action)
    }

    /// Judges with a list in which the holder's container is missing unless the list is the newer one.
    fn judge_of_one_that_just_started(newer: Option<&Observed<RuntimeState>>) -> (Vec<Action>, usize) {
        let judgements = Cell::new(1);
        let (mut state, mut judged) = (Observed::Absent, vec![holder(Action::Terminate)]);
        by_the_newest(
            &mut judged,
            &mut state,
            || newer.cloned(),
            |state, judged| {
                judgements.set(judgements.get() + 1);
                assert_eq!(Some(state), newer);
                judged.fill(holder(Action::Leave));
            },
        );
        (judged.iter().map(|holder| holder.verdict.action.clone()).collect(), judgements.get())
    }

    #[test]
    fn who_started_after_the_list_was_made_is_judged_by_a_newer_one() {
        let newer = Observed::Present(RuntimeState::default());
        assert_eq!(judge_of_one_that_just_started(Some(&newer)), (vec![Action::Leave], 2));
        let unreadable = Observed::Unknown("refused".into());
        assert_eq!(judge_of_one_that_just_started(Some(&unreadable)), (vec![Action::Leave], 2));
        assert_eq!(judge_of_one_that_just_started(None), (vec![Action::Terminate], 1));
    }

    /// Answers the list, and hangs when it is asked for a container.
    struct Hung(ManualClock);

    impl RuntimeView for Hung {
        fn name(&self) -> &'static str {
            "hung"
        }
        fn info(&self, _: &Deadline) -> Result<RuntimeInfo> {
            panic!("asked")
        }
        fn list(&self, _: &Deadline) -> Result<RuntimeState> {
            panic!("asked")
        }
        fn container_detail(&self, id: &ContainerId, deadline: &Deadline) -> Result<ContainerDetail> {
            self.0.advance(deadline.remaining());
            deadline.check(&format!("ask for container {id}"))?;
            panic!("there was no end of time")
        }
    }

    #[test]
    fn a_runtime_that_hangs_on_a_container_leaves_the_look_its_time() {
        let clock = ManualClock::new(Duration::ZERO);
        let list = include_bytes!("../../../testdata/health/crictl-ps.json");
        let pods = include_bytes!("../../../testdata/health/crictl-pods.json");
        let state = RuntimeState {
            sandboxes: parse::pods(pods).expect("parses"),
            containers: parse::containers(list).expect("parses"),
            ..RuntimeState::default()
        };
        let running = Component::ALL.into_iter().flat_map(|component| state.component_containers(component));
        assert!(running.filter(|container| container.is_running()).count() > 1);
        let node = NodeOptions::at("/nonexistent").expect("absolute");
        let deadline = clock.deadline(Duration::from_mins(5));
        let (state, view) = (Observed::Present(state), Hung(clock.clone()));
        let court = Court::new(&node, &[], Some(&view), &state, &deadline);
        assert_eq!(clock.elapsed(), super::super::RUNTIME_TIMEOUT);
        assert!(court.runtime.is_ok_and(|facts| facts.pids.is_empty()));
    }

    #[test]
    fn where_nobody_is_to_be_ended_the_runtime_is_not_asked_again() {
        let mut state = Observed::Present(RuntimeState::default());
        let mut judged = vec![holder(Action::Leave)];
        by_the_newest(&mut judged, &mut state, || panic!("asked"), |_, _| panic!("judged again"));
        assert_eq!(judged.len(), 1);
    }
}
