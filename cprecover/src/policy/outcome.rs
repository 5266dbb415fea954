//! What came of asking a policy.

use std::fmt;

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
    /// Policies of a chain that had to agree to each step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed_with: Vec<Identity>,
}

impl fmt::Display for Identity {
    /// Writes name, version, digest and signer, as in `default 0.1.0 sha256:69a5…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.name, self.version)?;
        match self.digest {
            Some(digest) => write!(f, "sha256:{digest}")?,
            None => f.write_str("native")?,
        }
        if let Some(signer) = &self.signed_by {
            write!(f, " signed by {signer}")?;
        }
        self.agreed_with.iter().try_for_each(|other| write!(f, ", agreed with {other}"))
    }
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
    /// Makes the answer of a policy named `test`.
    #[cfg(all(test, feature = "probe"))]
    pub(crate) fn of_test(decisions: Vec<Decision>) -> Self {
        let policy = Identity {
            name: "test".into(),
            version: "1".into(),
            digest: None,
            signed_by: None,
            agreed_with: Vec::new(),
        };
        Self { policy, decisions, failure: None, log: Vec::new(), log_dropped: 0, fuel_used: 0 }
    }

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
