//! What a recovery did: for people and for programs.

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::verification::Verification;
use crate::diagnose::Diagnosis;
use crate::model::NodeName;
use crate::policy::{Action, contract};

/// How a recovery ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Ending {
    /// The node is verified healthy.
    Healthy,
    /// A dry run: the plan says what would be done.
    DryRun,
    /// Nothing that may be done would help; a person has to act.
    Escalated {
        /// Why.
        reason: String,
    },
    /// A guard rail or the caller said no.
    Refused {
        /// Why.
        reason: String,
    },
    /// The time was up.
    TimedOut,
    /// The caller cancelled.
    Cancelled,
    /// An effect failed in a way that a retry does not mend.
    Failed {
        /// Why.
        reason: String,
    },
}

/// One effect that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DoneStep {
    /// What was done.
    pub action: Action,
    /// The policy's rule.
    pub rule: String,
    /// The policy's reason.
    pub reason: String,
    /// How it ended.
    pub outcome: contract::Outcome,
    /// What changed, or why it failed.
    pub detail: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Where the time of one round went, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RoundTimes {
    /// Looking at the node.
    pub observe_ms: u64,
    /// Diagnosis, policy and guard rails.
    pub decide_ms: u64,
}

/// What a recovery found and did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// The node.
    pub node: NodeName,
    /// How it ended.
    pub ending: Ending,
    /// What was wrong at the beginning.
    pub diagnosis: Diagnosis,
    /// The first plan.
    pub plan: Option<Plan>,
    /// What a crash before this run had left half done, and how that ended.
    pub resumed: Vec<String>,
    /// The effects, in order.
    pub steps: Vec<DoneStep>,
    /// The node at the end.
    pub verification: Verification,
    /// Each round: an observation, a decision, at most one effect.
    pub rounds: Vec<RoundTimes>,
    /// From the first look to the end, in milliseconds.
    pub total_ms: u64,
}
