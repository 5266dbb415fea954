//! The plan: what would be done, in order, and why; plain data with a digest.

use serde::{Deserialize, Serialize};

use super::observation::Observation;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Digest, NodeName};
use crate::policy::guard::{Guarded, Ruling};
use crate::policy::{Action, Identity, Outcome};

/// The schema of a plan in JSON.
pub const PLAN_SCHEMA: &str = "cprecover.dev/plan/v1";

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// The policy's rule.
    pub rule: String,
    /// The policy's reason, one sentence.
    pub reason: String,
    /// What is checked again right before the effect.
    pub precondition: String,
    /// What is proven right after it.
    pub expected: String,
    /// How it is taken back.
    pub undo: String,
    /// How long it may take, in milliseconds.
    pub deadline_ms: u64,
}

/// A decision that a guard rail stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Refusal {
    /// What the policy wanted.
    pub action: Action,
    /// Why it is not done.
    pub reason: String,
}

/// What would be done, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Plan {
    /// [`PLAN_SCHEMA`].
    pub schema: String,
    /// SHA-256 over node, policy and steps: what was shown is what is applied.
    pub digest: Digest,
    /// The node that it is for.
    pub node: NodeName,
    /// The policy that decided.
    pub policy: Identity,
    /// The steps; each is decided again from a new observation right before it.
    pub steps: Vec<Step>,
    /// What a guard rail stopped.
    pub refused: Vec<Refusal>,
    /// What only a person can do.
    pub escalations: Vec<String>,
}

impl Plan {
    /// Puts together what the policy decided and what the guard rails let pass.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the plan does not serialise.
    pub fn new(observation: &Observation, outcome: &Outcome, guarded: &[Guarded]) -> Result<Self> {
        let mut plan = Self {
            schema: PLAN_SCHEMA.into(),
            digest: Digest::from_bytes([0; 32]),
            node: observation.node.clone(),
            policy: outcome.policy.clone(),
            steps: Vec::new(),
            refused: Vec::new(),
            escalations: Vec::new(),
        };
        for Guarded { decision, ruling, .. } in guarded {
            match (&decision.action, ruling) {
                (Action::Wait { .. }, _) => {}
                (Action::Escalate { summary, .. }, _) => plan.escalations.push(summary.clone()),
                (action, Ruling::Allowed | Ruling::Deferred { .. }) => {
                    plan.steps.push(Step::of(action, &decision.rule_id, &decision.reason));
                }
                (action, Ruling::Refused { reason, .. }) => {
                    plan.refused.push(Refusal { action: action.clone(), reason: reason.clone() });
                }
            }
        }
        plan.digest = plan.compute_digest()?;
        Ok(plan)
    }

    /// Reads a plan that [`Plan`] serialised, and checks its digest.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for bytes that are no plan, [`ErrorKind::Corrupt`] when it was changed.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let plan: Self = serde_json::from_slice(bytes)
            .map_err(|source| Error::with_source(ErrorKind::Invalid, "not a plan", source))?;
        if plan.schema != PLAN_SCHEMA {
            return Err(Error::new(ErrorKind::Unsupported, format!("plan of schema {}", plan.schema)));
        }
        if plan.compute_digest()? != plan.digest {
            return Err(Error::new(ErrorKind::Corrupt, "the plan does not match its digest: it was changed"));
        }
        Ok(plan)
    }

    /// Reports whether a step with this action is part of the plan.
    #[must_use]
    pub fn allows(&self, action: &Action) -> bool {
        self.steps.iter().any(|step| step.action == *action)
    }

    fn compute_digest(&self) -> Result<Digest> {
        let parts = (&self.node, &self.policy, &self.steps);
        let bytes = serde_json::to_vec(&parts)
            .map_err(|source| Error::with_source(ErrorKind::Internal, "serialise plan", source))?;
        Ok(Digest::of(&bytes))
    }
}

impl Step {
    /// Says what an action checks before, proves after, and how it is taken back.
    #[must_use]
    pub fn of(action: &Action, rule: &str, reason: &str) -> Self {
        let (precondition, expected, undo, seconds): (&str, &str, &str, u64) = match action {
            Action::RestartKubelet => (
                "the service manager answers",
                "kubelet is active",
                "started again if it ran before and the restart left it stopped",
                60,
            ),
            Action::RestartRuntime => (
                "the service manager answers",
                "the runtime answers CRI",
                "started again if it ran before and the restart left it stopped",
                60,
            ),
            Action::TerminateHolder { .. } => (
                "same process (pid, start time, program, cgroup), still listening, still judged an orphan",
                "the process is gone, the port can be bound, the lock on the database is free",
                "none: its data stay, a new etcd replays them",
                120,
            ),
            Action::RemoveSandbox { .. } => (
                "the runtime still lists it as older than the pod's newest sandbox, which is that of the manifest in place",
                "the runtime lists it no more",
                "none: kubelet makes a new one",
                // An etcd that SIGKILL may damage has a minute to end.
                150,
            ),
            Action::RestoreManifest { .. } => (
                "the snapshot's digests are right and the manifest is still missing or invalid",
                "the file read back has the snapshot's digest",
                "a broken file comes back from the snapshot taken right before, if what replaced it is no pod",
                30,
            ),
            Action::RegenerateComponent { .. } => (
                "the manifest is still missing, kubeadm is trustworthy, nothing required is unknown",
                "the file read back is what kubeadm rendered",
                "a broken file comes back from the snapshot taken right before, if what replaced it is no pod",
                60,
            ),
            Action::BounceStaticPod { .. } => (
                "the manifest is in place and backed up",
                "the old container is gone and a new one runs",
                "the manifest is released whatever happens",
                180,
            ),
            Action::QuarantineManifest { .. } => (
                "the file is still there beside the component's own manifest",
                "kubelet does not see it any more",
                "released if the run fails and the component's own manifest is gone",
                30,
            ),
            Action::QuarantinePodDir { .. } => (
                "neither runtime nor manifest knows the pod, nothing is mounted below",
                "the folder is in the quarantine",
                "put back if the run fails and the pod has no new folder",
                30,
            ),
            Action::RenewCertificate { .. } => (
                "the caller agreed, the certificate is the one that was seen, pki is backed up",
                "the file read back is kubeadm's: same subject and names, a year to go",
                "restore the snapshot that is taken right before",
                90,
            ),
            Action::Wait { .. } | Action::Escalate { .. } => ("none", "none", "none", 0),
        };
        Self {
            action: action.clone(),
            rule: rule.into(),
            reason: reason.into(),
            precondition: precondition.into(),
            expected: expected.into(),
            undo: undo.into(),
            deadline_ms: seconds.saturating_mul(1000),
        }
    }
}
