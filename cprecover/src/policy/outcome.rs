//! What came of asking a policy.

use serde::{Deserialize, Serialize};

use super::action::{Action, Decision};
use crate::error::{Error, ErrorKind};
use crate::model::Digest;

/// Says which policy decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Identity {
    /// The policy's name.
    pub name: String,
    /// The policy's version.
    pub version: String,
    /// SHA-256 of the component; `None` for rules that run natively.
    pub digest: Option<Digest>,
    /// Fingerprint of the key whose signature was checked, if any.
    pub signed_by: Option<String>,
}

/// How serious a policy finds what it logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogLevel {
    /// For the policy's author.
    Debug,
    /// For the report.
    Info,
    /// For the operator.
    Warn,
}

/// A line that a policy logged; control characters are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LogLine {
    /// How serious it is.
    pub level: LogLevel,
    /// The text.
    pub message: String,
}

/// Why a policy gave no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Failure {
    /// The limit that was hit, where it was one: `fuel`, `memory`, `decisions`, ….
    pub limit: Option<String>,
    /// What happened, in one line.
    pub message: String,
}

/// What came of asking a policy: always something that the engine can follow.
///
/// A policy that trapped, ran too long, answered too much or nonsense gives `failure` and exactly one
/// decision: to call a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Outcome {
    /// Who decided.
    pub policy: Identity,
    /// What to do, in order; empty when there is nothing to do.
    pub decisions: Vec<Decision>,
    /// Why there is no usable answer.
    pub failure: Option<Failure>,
    /// What the policy logged.
    pub log: Vec<LogLine>,
    /// How many lines were dropped because of a limit.
    pub log_dropped: u64,
    /// Fuel that the policy used, roughly one per instruction; 0 for native rules.
    pub fuel_used: u64,
}

impl Outcome {
    /// Makes the outcome of a policy that failed: no action, call a person.
    pub(crate) fn failed(policy: Identity, limit: Option<&str>, error: &Error) -> Self {
        let message = error.to_string();
        let decision = Decision::new(
            "policy-failed",
            Action::Escalate {
                summary: format!("policy {} gave no usable answer: {message}", policy.name),
                hints: vec![format!("choose another policy with --policy ({})", ErrorKind::Policy)],
            },
            "a policy that fails decides nothing",
        );
        Self {
            policy,
            decisions: vec![decision],
            failure: Some(Failure { limit: limit.map(Into::into), message }),
            log: Vec::new(),
            log_dropped: 0,
            fuel_used: 0,
        }
    }
}
