//! What a policy decided, in this crate's nouns: checked, so that the engine can rely on every field.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::contract::ActionKind;
use crate::model::{Component, Pid, PodUid, Port, ProcessId, SandboxId};

/// What can be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Action {
    /// Look again later.
    Wait {
        /// How long to wait.
        milliseconds: u64,
    },
    /// Restart the kubelet; this also clears its crash-loop back-off, which it keeps in memory only.
    RestartKubelet,
    /// Restart the container runtime.
    RestartRuntime,
    /// End the process that holds a port.
    TerminateHolder {
        /// The port that it holds.
        port: Port,
        /// The process.
        process: ProcessId,
    },
    /// Stop and remove a left-over pod sandbox through the runtime.
    RemoveSandbox {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// Put a backed-up manifest back.
    RestoreManifest {
        /// Which manifest.
        component: Component,
        /// The snapshot that holds it.
        backup_id: String,
    },
    /// Let kubeadm make a manifest anew.
    RegenerateComponent {
        /// Which manifest.
        component: Component,
    },
    /// Take the manifest out until the pod is gone, then put it back.
    BounceStaticPod {
        /// Which pod.
        component: Component,
    },
    /// Move a left-over pod folder into the quarantine.
    QuarantinePodDir {
        /// Which pod.
        uid: PodUid,
    },
    /// Renew a certificate.
    RenewCertificate {
        /// Where it lies on the node.
        path: String,
    },
    /// Move a file that kubelet runs and should not out of the manifests folder.
    QuarantineManifest {
        /// Its file name, without a folder.
        file: String,
    },
    /// Call a person.
    Escalate {
        /// What is wrong and why nobody but a person can go on.
        summary: String,
        /// What that person could do.
        hints: Vec<String>,
    },
}

impl Action {
    /// Returns the action without its target.
    #[must_use]
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::Wait { .. } => ActionKind::Wait,
            Self::RestartKubelet => ActionKind::RestartKubelet,
            Self::RestartRuntime => ActionKind::RestartRuntime,
            Self::TerminateHolder { .. } => ActionKind::TerminateHolder,
            Self::RemoveSandbox { .. } => ActionKind::RemoveSandbox,
            Self::RestoreManifest { .. } => ActionKind::RestoreManifest,
            Self::RegenerateComponent { .. } => ActionKind::RegenerateComponent,
            Self::BounceStaticPod { .. } => ActionKind::BounceStaticPod,
            Self::QuarantinePodDir { .. } => ActionKind::QuarantinePodDir,
            Self::RenewCertificate { .. } => ActionKind::RenewCertificate,
            Self::QuarantineManifest { .. } => ActionKind::QuarantineManifest,
            Self::Escalate { .. } => ActionKind::Escalate,
        }
    }

    /// Returns what the action is done to; empty where there is only one such thing on a node.
    ///
    /// [`contract::PastAction::target`](super::contract::PastAction) is this text, so that a policy and
    /// the guard can count tries.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Wait { .. } | Self::RestartKubelet | Self::RestartRuntime | Self::Escalate { .. } => {
                String::new()
            }
            Self::TerminateHolder { port, process } => holder_target(*port, process.pid),
            Self::RemoveSandbox { sandbox } => sandbox.to_string(),
            Self::RestoreManifest { component, .. }
            | Self::RegenerateComponent { component }
            | Self::BounceStaticPod { component } => component.to_string(),
            Self::QuarantinePodDir { uid } => uid.to_string(),
            Self::RenewCertificate { path } => path.clone(),
            Self::QuarantineManifest { file } => file.clone(),
        }
    }

    /// Reports whether the action changes the node at all.
    #[must_use]
    pub const fn is_effect(&self) -> bool {
        !matches!(self, Self::Wait { .. } | Self::Escalate { .. })
    }

    /// Reports whether the action may interrupt a part of the control plane that still works.
    #[must_use]
    pub const fn is_disruptive(&self) -> bool {
        matches!(
            self,
            Self::RestartKubelet
                | Self::RestartRuntime
                | Self::TerminateHolder { .. }
                | Self::RemoveSandbox { .. }
                | Self::BounceStaticPod { .. }
                | Self::QuarantineManifest { .. }
                | Self::QuarantinePodDir { .. }
        )
    }
}

fn holder_target(port: Port, pid: Pid) -> String {
    format!("port {port} pid {pid}")
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait { milliseconds } => write!(f, "wait {milliseconds} ms"),
            Self::RestartKubelet => f.write_str("restart kubelet"),
            Self::RestartRuntime => f.write_str("restart the container runtime"),
            Self::TerminateHolder { port, process } => {
                write!(f, "end {process}, which holds port {port}")
            }
            Self::RemoveSandbox { sandbox } => write!(f, "remove stale sandbox {sandbox}"),
            Self::RestoreManifest { component, backup_id } => {
                write!(f, "restore {} from backup {backup_id}", component.manifest_file())
            }
            Self::RegenerateComponent { component } => {
                write!(f, "regenerate {} with kubeadm", component.manifest_file())
            }
            Self::BounceStaticPod { component } => write!(f, "bounce static pod {component}"),
            Self::QuarantinePodDir { uid } => write!(f, "quarantine pod folder {uid}"),
            Self::RenewCertificate { path } => write!(f, "renew certificate {path}"),
            Self::QuarantineManifest { file } => write!(f, "quarantine manifest {file}"),
            Self::Escalate { summary, .. } => write!(f, "call a person: {summary}"),
        }
    }
}

/// What a policy wants done, why, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Decision {
    /// The rule of the policy that fired.
    pub rule_id: String,
    /// What to do.
    pub action: Action,
    /// One sentence for a person.
    pub reason: String,
    /// Ids of evidence in the observation.
    pub evidence: Vec<String>,
    /// From 0 to 1; never NaN.
    pub confidence: f32,
    /// How often the action may be tried for one target in one hour.
    pub max_attempts: u32,
    /// The least time between two tries, in milliseconds.
    pub cool_down_ms: u64,
}

impl Decision {
    /// Makes a decision of full confidence, to be tried once.
    pub fn new(rule_id: impl Into<String>, action: Action, reason: impl Into<String>) -> Self {
        Self {
            rule_id: rule_id.into(),
            action,
            reason: reason.into(),
            evidence: Vec::new(),
            confidence: 1.0,
            max_attempts: 1,
            cool_down_ms: 0,
        }
    }

    /// Returns the least time between two tries.
    #[must_use]
    pub const fn cool_down(&self) -> Duration {
        Duration::from_millis(self.cool_down_ms)
    }
}
