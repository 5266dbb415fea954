//! What a policy answers, and what was done before.

use serde::{Deserialize, Serialize};
#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::Component;

/// An action without its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// `action.wait`.
    #[cfg_attr(feature = "component", component(name = "wait"))]
    Wait,
    /// `action.restart-kubelet`.
    #[cfg_attr(feature = "component", component(name = "restart-kubelet"))]
    RestartKubelet,
    /// `action.restart-runtime`.
    #[cfg_attr(feature = "component", component(name = "restart-runtime"))]
    RestartRuntime,
    /// `action.terminate-holder`.
    #[cfg_attr(feature = "component", component(name = "terminate-holder"))]
    TerminateHolder,
    /// `action.remove-sandbox`.
    #[cfg_attr(feature = "component", component(name = "remove-sandbox"))]
    RemoveSandbox,
    /// `action.restore-manifest`.
    #[cfg_attr(feature = "component", component(name = "restore-manifest"))]
    RestoreManifest,
    /// `action.regenerate-component`.
    #[cfg_attr(feature = "component", component(name = "regenerate-component"))]
    RegenerateComponent,
    /// `action.bounce-static-pod`.
    #[cfg_attr(feature = "component", component(name = "bounce-static-pod"))]
    BounceStaticPod,
    /// `action.quarantine-pod-dir`.
    #[cfg_attr(feature = "component", component(name = "quarantine-pod-dir"))]
    QuarantinePodDir,
    /// `action.renew-certificate`.
    #[cfg_attr(feature = "component", component(name = "renew-certificate"))]
    RenewCertificate,
    /// `action.quarantine-manifest`.
    #[cfg_attr(feature = "component", component(name = "quarantine-manifest"))]
    QuarantineManifest,
    /// `action.escalate`.
    #[cfg_attr(feature = "component", component(name = "escalate"))]
    Escalate,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It has not ended, or the engine died in it.
    #[cfg_attr(feature = "component", component(name = "running"))]
    Running,
    /// It had its effect.
    #[cfg_attr(feature = "component", component(name = "done"))]
    Done,
    /// It had not.
    #[cfg_attr(feature = "component", component(name = "failed"))]
    Failed,
    /// A guard rail refused it.
    #[cfg_attr(feature = "component", component(name = "refused"))]
    Refused,
    /// It was taken back.
    #[cfg_attr(feature = "component", component(name = "undone"))]
    Undone,
}

/// An action of an earlier round on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PastAction {
    /// What was done.
    pub kind: ActionKind,
    /// As `action` names it: component, file, path, uid, sandbox id, or port and pid.
    pub target: String,
    /// The rule that wanted it.
    #[cfg_attr(feature = "component", component(name = "rule-id"))]
    pub rule_id: String,
    /// When it began.
    #[cfg_attr(feature = "component", component(name = "started-ms"))]
    pub started_ms: u64,
    /// When it ended.
    #[cfg_attr(feature = "component", component(name = "ended-ms"))]
    #[serde(default)]
    pub ended_ms: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Ends a process that holds a port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TerminateHolder {
    /// The port that it holds.
    pub port: u16,
    /// The process.
    pub pid: u32,
    /// When it started; see `port-holder`.
    #[cfg_attr(feature = "component", component(name = "start-ticks"))]
    pub start_ticks: u64,
}

/// Puts a backed-up manifest back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreManifest {
    /// Which manifest.
    pub component: Component,
    /// From which snapshot.
    #[cfg_attr(feature = "component", component(name = "backup-id"))]
    pub backup_id: String,
}

/// Calls a person.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Escalate {
    /// One sentence: what is wrong and why nobody but a person can go on.
    pub summary: String,
    /// What that person could do.
    pub hints: Vec<String>,
}

/// What can be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(variant))]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Look again after so many milliseconds.
    #[cfg_attr(feature = "component", component(name = "wait"))]
    Wait(u64),
    /// Restart the kubelet; this also clears its crash-loop back-off, which it keeps in memory only.
    #[cfg_attr(feature = "component", component(name = "restart-kubelet"))]
    RestartKubelet,
    /// Restart the container runtime.
    #[cfg_attr(feature = "component", component(name = "restart-runtime"))]
    RestartRuntime,
    /// End the process.
    #[cfg_attr(feature = "component", component(name = "terminate-holder"))]
    TerminateHolder(TerminateHolder),
    /// The sandbox's id.
    #[cfg_attr(feature = "component", component(name = "remove-sandbox"))]
    RemoveSandbox(String),
    /// Put a manifest back.
    #[cfg_attr(feature = "component", component(name = "restore-manifest"))]
    RestoreManifest(RestoreManifest),
    /// Let kubeadm make the manifest anew.
    #[cfg_attr(feature = "component", component(name = "regenerate-component"))]
    RegenerateComponent(Component),
    /// Take the manifest out until the pod is gone, then put it back.
    #[cfg_attr(feature = "component", component(name = "bounce-static-pod"))]
    BounceStaticPod(Component),
    /// The pod's uid.
    #[cfg_attr(feature = "component", component(name = "quarantine-pod-dir"))]
    QuarantinePodDir(String),
    /// The certificate's path.
    #[cfg_attr(feature = "component", component(name = "renew-certificate"))]
    RenewCertificate(String),
    /// The manifest's file name: a file that kubelet runs and should not.
    #[cfg_attr(feature = "component", component(name = "quarantine-manifest"))]
    QuarantineManifest(String),
    /// Call a person.
    #[cfg_attr(feature = "component", component(name = "escalate"))]
    Escalate(Escalate),
}

/// What a policy wants done. The host does them in order and only where its guard rails allow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decision {
    /// The rule of the policy that fired.
    #[cfg_attr(feature = "component", component(name = "rule-id"))]
    pub rule_id: String,
    /// What to do.
    pub action: Action,
    /// One sentence for a person.
    pub reason: String,
    /// Ids of evidence.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// From 0 to 1.
    pub confidence: f32,
    /// How often the action may be tried for one target in one hour.
    #[cfg_attr(feature = "component", component(name = "max-attempts"))]
    pub max_attempts: u32,
    /// The least time between two tries.
    #[cfg_attr(feature = "component", component(name = "cool-down-ms"))]
    pub cool_down_ms: u64,
}

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// As decisions name it.
    pub id: String,
    /// One sentence.
    pub summary: String,
}

/// What a policy says about itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metadata {
    /// Lower-case name.
    pub name: String,
    /// Semantic version of the policy.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// Its rules, in the order in which it tries them.
    pub rules: Vec<Rule>,
}
