//! The rules, one concept a file, in the order of work: runtime, disk, clock, address, certificates,
//! manifest lint, etcd data, port holders, manifests, kubelet, rest. The first rule that cannot go on stops all
//! later ones, because they rest on what it could not prove.

mod etcd;
mod holders;
mod kubelet;
mod machine;
mod manifests;
mod rest;

use cprecover_policy_sdk::contract::{
    Action, ActionKind, Component, Consent, Container, Decision, Escalate, Manifest, ManifestState,
    Observation, Outcome, Service, ServiceName,
};

pub use self::machine::{KUBELET_CLIENT, NEEDED_CERTIFICATES};
pub use self::manifests::HELD;
pub use self::rest::CLOCK_STEP_MS;
use crate::Profile;

/// A rule: its name and what it does.
pub(crate) struct Rule {
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    /// It runs only when no earlier rule decided anything.
    last_resort: bool,
    run: fn(&Case<'_>) -> Step,
}

/// All rules in the order in which they are tried.
pub(crate) const ALL: [Rule; 17] = [
    Rule {
        id: "runtime-down",
        summary: "the container runtime is down: restart it first, all else needs it",
        last_resort: false,
        run: machine::runtime_down,
    },
    Rule {
        id: "disk",
        summary: "no space, no inodes or read-only: nothing can be written safely, call a person",
        last_resort: false,
        run: machine::disk,
    },
    Rule {
        id: "clock",
        summary: "an implausible clock makes every certificate look wrong: call a person",
        last_resort: false,
        run: machine::clock,
    },
    Rule {
        id: "address-changed",
        summary: "an address of the manifests is not on this host: nothing can listen there, call a person",
        last_resort: false,
        run: machine::address_changed,
    },
    Rule {
        id: "certificates",
        summary: "expired certificates: renew with consent, else call a person",
        last_resort: false,
        run: machine::certificates,
    },
    Rule {
        id: "spare-certificates",
        summary: "an expired certificate that the control plane works without: tell a person, go on",
        last_resort: false,
        run: machine::spare_certificates,
    },
    Rule {
        id: "duplicate-manifest",
        summary: "a second file of the same pod that kubelet runs too: quarantine the file",
        last_resort: false,
        run: manifests::duplicates,
    },
    Rule {
        id: "etcd-data",
        summary: "damaged, foreign, empty or full etcd data is for a person to decide about",
        last_resort: false,
        run: etcd::data,
    },
    Rule {
        id: "unproven-holder",
        summary: "a foreign, systemd-run or unproven process holds a port: never touched, call a person",
        last_resort: false,
        run: holders::unproven,
    },
    Rule {
        id: "stale-sandbox",
        summary: "kubelet's deadlock: remove the old sandbox through the runtime, then restart kubelet",
        last_resort: false,
        run: holders::stale_sandbox,
    },
    Rule {
        id: "orphan-holder",
        summary: "a process of a pod that the runtime no longer knows holds the port: end it",
        last_resort: false,
        run: holders::orphan,
    },
    Rule {
        id: "manifest-lost",
        summary: "restore from a verified backup of this node, else regenerate, else call a person",
        last_resort: false,
        run: manifests::lost,
    },
    Rule {
        id: "kubelet-down",
        summary: "kubelet does not run and nothing is in its way: restart it",
        last_resort: false,
        run: kubelet::down,
    },
    Rule {
        id: "kubelet-stuck",
        summary: "kubelet forgets a removed sandbox only by a restart: restart it",
        last_resort: false,
        run: kubelet::stuck,
    },
    Rule {
        id: "crash-loop-back-off",
        summary: "what is left of the back-off is longer than a kubelet restart: restart kubelet",
        last_resort: false,
        run: kubelet::back_off,
    },
    Rule {
        id: "hung-static-pod",
        summary: "on a single node, a pod that runs and never answers: bounce it (aggressive only)",
        last_resort: true,
        run: rest::hung_static_pod,
    },
    Rule {
        id: "unresolved",
        summary: "nothing left to do but not healthy: wait while it settles, then call a person",
        last_resort: true,
        run: rest::unresolved,
    },
];

/// What a rule wants.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) decisions: Vec<Decision>,
    /// No later rule may decide.
    pub(crate) stop: bool,
    /// It is only told: other rules decide as if it were not there.
    is_aside: bool,
}

impl Step {
    fn go_on() -> Self {
        Self::default()
    }

    fn then_go_on(decisions: Vec<Decision>) -> Self {
        Self { decisions, ..Self::default() }
    }

    /// Told after everything else, and in the way of nothing.
    fn aside(decisions: Vec<Decision>) -> Self {
        Self { decisions, stop: false, is_aside: true }
    }

    /// Later rules wait for these decisions to be done, if there are any.
    fn then_stop(decisions: Vec<Decision>) -> Self {
        let stop = !decisions.is_empty();
        Self { decisions, stop, is_aside: false }
    }
}

/// Runs the rules over a case.
pub(crate) fn apply(case: &Case<'_>) -> Vec<Decision> {
    if case.healthy() {
        return Vec::new();
    }
    let (mut decisions, mut asides) = (Vec::new(), Vec::new());
    for rule in &ALL {
        if rule.last_resort && !decisions.is_empty() {
            break;
        }
        let step = (rule.run)(case);
        let to = if step.is_aside { &mut asides } else { &mut decisions };
        to.extend(
            step.decisions.into_iter().map(|decision| Decision { rule_id: rule.id.into(), ..decision }),
        );
        if step.stop {
            break;
        }
    }
    decisions.append(&mut asides);
    decisions
}

/// An observation with the questions that rules ask of it.
pub(crate) struct Case<'a> {
    pub(crate) seen: &'a Observation,
    profile: Profile,
}

impl<'a> Case<'a> {
    pub(crate) const fn new(profile: Profile, seen: &'a Observation) -> Self {
        Self { seen, profile }
    }

    fn healthy(&self) -> bool {
        self.seen.healthy == cprecover_policy_sdk::contract::Verdict::Yes
    }

    /// The node is the whole control plane, and the policy may hurry.
    fn hurried(&self) -> bool {
        self.profile == Profile::AggressiveSingleNode && self.seen.etcd.members.len() < 2
    }

    fn consents(&self, to: Consent) -> bool {
        self.seen.consents.contains(&to)
    }

    fn service(&self, name: ServiceName) -> Option<&'a Service> {
        self.seen.services.iter().find(|service| service.name == name)
    }

    fn manifest_present(&self, component: Component) -> bool {
        self.seen
            .manifests
            .iter()
            .any(|manifest| manifest.component == Some(component) && manifest.state == ManifestState::Present)
    }

    /// Manifests that this node should have: etcd's only where etcd runs here.
    fn own_manifests(&self) -> impl Iterator<Item = (&'a Manifest, Component)> {
        let external = self.seen.etcd.external;
        self.seen
            .manifests
            .iter()
            .filter_map(|manifest| manifest.component.map(|component| (manifest, component)))
            .filter(move |(_, component)| !(external && *component == Component::Etcd))
    }

    fn containers_of(&self, component: Component) -> impl Iterator<Item = &'a Container> {
        self.seen.containers.iter().filter(move |container| container.component == Some(component))
    }

    /// When an action of this kind last ended well.
    fn last_done(&self, kind: ActionKind) -> Option<u64> {
        self.seen
            .history
            .iter()
            .filter(|past| past.kind == kind && past.outcome == Outcome::Done)
            .filter_map(|past| past.ended_ms)
            .max()
    }

    /// Makes a decision in the tempo of this policy.
    fn act(&self, action: Action, reason: String, evidence: Vec<String>, confidence: f32) -> Decision {
        let (max_attempts, cool_down_ms) = if self.hurried() { (5, 5_000) } else { (3, 15_000) };
        Decision { rule_id: String::new(), action, reason, evidence, confidence, max_attempts, cool_down_ms }
    }
}

/// Makes a decision to call a person.
fn escalate(summary: String, hints: Vec<String>, evidence: Vec<String>) -> Decision {
    Decision {
        rule_id: String::new(),
        reason: summary.clone(),
        action: Action::Escalate(Escalate { summary, hints }),
        evidence,
        confidence: 1.0,
        max_attempts: 1,
        cool_down_ms: 0,
    }
}

/// Returns kubeadm's name of a component.
pub(crate) const fn name(component: Component) -> &'static str {
    match component {
        Component::Etcd => "etcd",
        Component::KubeApiserver => "kube-apiserver",
        Component::KubeControllerManager => "kube-controller-manager",
        Component::KubeScheduler => "kube-scheduler",
    }
}
