//! Guard rails that no policy can cross.
//!
//! Pure: what the observation does not prove is refused. A policy can only narrow what passes here.

use serde::{Deserialize, Serialize};

use super::action::Decision;
use super::contract::Observation;

/// Names a guard rail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rail {
    /// The target is not in the observation, or not in the state that the action is for.
    Precondition,
    /// The holder is not proven to be an orphan, or the sandbox not proven to be stale.
    UnprovenTarget,
    /// There is no verified backup, taken on this node, of what the step would destroy or replace.
    NoVerifiedBackup,
    /// The step could leave etcd without quorum, or the quorum is not known.
    Quorum,
    /// One disruptive action at a time per node.
    OneAtATime,
    /// The cool-down has not passed.
    CoolDown,
    /// The action was tried too often.
    RateLimit,
    /// The caller has not agreed to this kind of step.
    Consent,
    /// The node as a whole was verified healthy.
    Healthy,
    /// The evidence that the decision names is not in the observation.
    Evidence,
}

/// What the guard says about one decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Ruling {
    /// Do it; the executor checks its precondition again right before the effect.
    Allowed,
    /// Not now; observe again after what is allowed has been done.
    Deferred {
        /// Which guard rail.
        rail: Rail,
        /// Why, in one line.
        reason: String,
    },
    /// Not at all.
    Refused {
        /// Which guard rail.
        rail: Rail,
        /// Why, in one line.
        reason: String,
    },
}

/// A decision together with the guard's ruling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Guarded {
    /// What the policy wants.
    pub decision: Decision,
    /// Whether it may.
    pub ruling: Ruling,
}

/// Rules on every decision, in order; the result has as many items as `decisions`.
#[must_use]
pub fn check(_observation: &Observation, _decisions: &[Decision]) -> Vec<Guarded> {
    todo!("follows")
}
