//! The shipped policies: one set of rules, narrowed or hurried.

use cprecover_policy_sdk::contract::{Action, Decision, Escalate};

/// Which of the shipped policies the rules act as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// The outage's remedy in full.
    Default,
    /// Says what is wrong and calls a person; never acts.
    ObserveOnly,
    /// As `Default`, but calls a person before anything destructive.
    Conservative,
    /// As `Default`, with less waiting, for a node that is the whole control plane.
    AggressiveSingleNode,
}

impl Profile {
    /// All shipped policies.
    pub const ALL: [Self; 4] =
        [Self::Default, Self::ObserveOnly, Self::Conservative, Self::AggressiveSingleNode];

    /// Returns the policy's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::ObserveOnly => "observe-only",
            Self::Conservative => "conservative",
            Self::AggressiveSingleNode => "aggressive-single-node",
        }
    }

    /// Returns the policy of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Default => "brings a control-plane node back, step by step, on proof only",
            Self::ObserveOnly => "says what the default policy would do and never acts",
            Self::Conservative => "restores and restarts, but calls a person before anything destructive",
            Self::AggressiveSingleNode => {
                "the default policy with less waiting, for a node that is the whole control plane"
            }
        }
    }

    /// Turns what this policy does not do by itself into calls to a person.
    pub(crate) fn narrow(self, decisions: Vec<Decision>) -> Vec<Decision> {
        let forbidden = |action: &Action| match self {
            Self::Default | Self::AggressiveSingleNode => false,
            Self::ObserveOnly => is_effect(action),
            Self::Conservative => is_destructive(action),
        };
        let mut blocked = false;
        let mut narrowed = Vec::with_capacity(decisions.len());
        for decision in decisions {
            // What comes after a step that is not done was decided on the premise that it is done.
            if blocked && is_effect(&decision.action) && !forbidden(&decision.action) {
                continue;
            }
            if forbidden(&decision.action) {
                blocked = true;
                narrowed.push(ask(self, decision));
            } else {
                narrowed.push(decision);
            }
        }
        narrowed
    }
}

fn ask(profile: Profile, decision: Decision) -> Decision {
    let what = name_of(&decision.action);
    let action = Action::Escalate(Escalate {
        summary: format!("{} does not {what} by itself: {}", profile.name(), decision.reason),
        hints: vec![format!("agree by running again with the default policy, which would {what}")],
    });
    Decision { action, ..decision }
}

fn is_effect(action: &Action) -> bool {
    !matches!(action, Action::Wait(_) | Action::Escalate(_))
}

/// Says whether an action ends, removes or replaces something that exists.
fn is_destructive(action: &Action) -> bool {
    match action {
        Action::Wait(_) | Action::Escalate(_) | Action::RestartKubelet | Action::RestoreManifest(_) => false,
        Action::RestartRuntime
        | Action::TerminateHolder(_)
        | Action::RemoveSandbox(_)
        | Action::RegenerateComponent(_)
        | Action::BounceStaticPod(_)
        | Action::QuarantinePodDir(_)
        | Action::RenewCertificate(_)
        | Action::QuarantineManifest(_) => true,
    }
}

fn name_of(action: &Action) -> String {
    match action {
        Action::Wait(ms) => format!("wait {ms} ms"),
        Action::RestartKubelet => "restart the kubelet".into(),
        Action::RestartRuntime => "restart the container runtime".into(),
        Action::TerminateHolder(target) => format!("end pid {} on port {}", target.pid, target.port),
        Action::RemoveSandbox(id) => format!("remove sandbox {id}"),
        Action::RestoreManifest(target) => format!("restore a manifest from backup {}", target.backup_id),
        Action::RegenerateComponent(component) => {
            format!("regenerate {}", crate::rules::name(*component))
        }
        Action::BounceStaticPod(component) => {
            format!("bounce static pod {}", crate::rules::name(*component))
        }
        Action::QuarantinePodDir(uid) => format!("quarantine pod folder {uid}"),
        Action::RenewCertificate(path) => format!("renew certificate {path}"),
        Action::QuarantineManifest(file) => format!("quarantine manifest {file}"),
        Action::Escalate(_) => "call a person".into(),
    }
}
