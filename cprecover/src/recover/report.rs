//! What a recovery did: for people and for programs.

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::undo::Undone;
use super::verification::Verification;
use crate::diagnose::Diagnosis;
use crate::model::NodeName;
use crate::policy::guard::{Guarded, Ruling};
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
    /// Somebody else was at work: another process on the store, another node on the cluster.
    Busy {
        /// Who or where.
        reason: String,
    },
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
    /// What was saved before it, and where; none where there is nothing to save.
    #[serde(default)]
    pub saved: Option<String>,
    /// Why nothing was saved before it, where something is to save.
    #[serde(default)]
    pub not_saved: Option<String>,
    /// What changed, or why it failed.
    pub detail: String,
    /// How it is taken back by hand, where it can be.
    #[serde(default)]
    pub undo: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What a person has to know to go on where the policy does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Escalation {
    /// What is wrong and why nobody but a person can go on.
    pub summary: String,
    /// What that person could do.
    pub hints: Vec<String>,
    /// The evidence, with its source.
    pub evidence: Vec<String>,
}

/// Gathers what a round calls a person for, and what its guard rails stopped.
pub(super) fn escalations(seen: &contract::Observation, guarded: &[Guarded]) -> Vec<Escalation> {
    let text = |id: &String| {
        let found = seen.evidence.iter().find(|evidence| evidence.id == *id)?;
        Some(format!("{}: {}", found.source, found.text))
    };
    guarded
        .iter()
        .filter_map(|guarded| {
            let evidence = guarded.decision.evidence.iter().filter_map(text).collect();
            match (&guarded.decision.action, &guarded.ruling) {
                (Action::Escalate { summary, hints }, _) => {
                    Some(Escalation { summary: summary.clone(), hints: hints.clone(), evidence })
                }
                (action, Ruling::Refused { reason, .. }) => {
                    let summary = format!("{action} is refused: {reason}");
                    Some(Escalation { summary, hints: vec![guarded.decision.reason.clone()], evidence })
                }
                _ => None,
            }
        })
        .collect()
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
    /// What of the effects was taken back when the run failed, or an earlier one that a crash interrupted
    /// in that: in the order in which it was done.
    #[serde(default)]
    pub undone: Vec<Undone>,
    /// What a person is called for; empty when the node is healthy.
    #[serde(default)]
    pub escalations: Vec<Escalation>,
    /// The node at the end.
    pub verification: Verification,
    /// Each round: an observation, a decision, at most one effect.
    pub rounds: Vec<RoundTimes>,
    /// From the first look to the end, in milliseconds.
    pub total_ms: u64,
}
