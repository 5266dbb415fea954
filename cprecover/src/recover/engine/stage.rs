//! The order of work: what stands on nothing else comes first.

use crate::policy::{Action, Decision};

/// A stage of a recovery; later ones rest on what earlier ones have proven.
///
/// What a stage looks at without changing it (disk, clock, etcd's data) stops the run by an escalation
/// of the policy, which needs no place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The container runtime, which everything else asks.
    Runtime,
    /// Certificates, without which nobody talks to anybody.
    Certificates,
    /// Files that kubelet reads and should not.
    Lint,
    /// Who holds ports, sandboxes and folders that a new pod needs.
    Holders,
    /// The manifests.
    Manifests,
    /// kubelet, which acts on all of the above.
    Kubelet,
    /// Nothing that changes the node.
    None,
}

impl Stage {
    pub(super) const fn of(action: &Action) -> Self {
        match action {
            Action::RestartRuntime => Self::Runtime,
            Action::RenewCertificate { .. } => Self::Certificates,
            Action::QuarantineManifest { .. } => Self::Lint,
            Action::TerminateHolder { .. }
            | Action::RemoveSandbox { .. }
            | Action::QuarantinePodDir { .. } => Self::Holders,
            Action::RestoreManifest { .. } | Action::RegenerateComponent { .. } => Self::Manifests,
            Action::RestartKubelet | Action::BounceStaticPod { .. } => Self::Kubelet,
            Action::Wait { .. } | Action::Escalate { .. } => Self::None,
        }
    }
}

/// Puts decisions into the order of work, whatever order a policy gave them; equals keep theirs.
pub(super) fn in_order(mut decisions: Vec<Decision>) -> Vec<Decision> {
    decisions.sort_by_key(|decision| Stage::of(&decision.action));
    decisions
}
