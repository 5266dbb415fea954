//! Policies that must agree.

use super::action::{Action, Decision};
use super::contract::Observation;
use super::{Outcome, Policy};

/// Policies that must agree: what changes the node is done only if every one of them decides it.
///
/// The first policy proposes. A step that changes the node stays when each further policy decides the
/// same action on the same target, in the tightest form: the lowest confidence and number of attempts,
/// the longest cool-down. Any policy that does not decide it, or that fails, vetoes it: the step becomes
/// a call to a person that names the policy, and the steps after it are dropped, because they were
/// decided on the premise that it is done. Waits and calls to a person of all policies are kept.
#[derive(Debug)]
pub struct Chain {
    first: Policy,
    others: Vec<Policy>,
}

impl Chain {
    /// Makes a chain; `first` proposes, all of `others` must agree.
    #[must_use]
    pub fn new(first: Policy, others: Vec<Policy>) -> Self {
        Self { first, others }
    }

    /// Returns the policies, the proposing one first.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Asks all policies and returns what they agree on.
    #[must_use]
    pub fn decide(&self, observation: &Observation) -> Outcome {
        let mut outcome = self.first.decide(observation);
        for policy in &self.others {
            narrow(&mut outcome, policy.decide(observation));
        }
        outcome
    }
}

/// Takes out of `outcome` what `other` does not agree to.
fn narrow(outcome: &mut Outcome, other: Outcome) {
    let proposed = std::mem::take(&mut outcome.decisions);
    let mut dropped = 0;
    let mut vetoed: Option<usize> = None;
    for mut decision in proposed {
        if !decision.action.is_effect() {
            outcome.decisions.push(decision);
        } else if vetoed.is_some() {
            dropped += 1;
        } else if let Some(theirs) = other.decisions.iter().find(|theirs| theirs.action == decision.action) {
            decision.confidence = decision.confidence.min(theirs.confidence);
            decision.max_attempts = decision.max_attempts.min(theirs.max_attempts);
            decision.cool_down_ms = decision.cool_down_ms.max(theirs.cool_down_ms);
            outcome.decisions.push(decision);
        } else {
            vetoed = Some(outcome.decisions.len());
            outcome.decisions.push(decision);
        }
    }
    if let Some(decision) = vetoed.and_then(|at| outcome.decisions.get_mut(at)) {
        *decision = denied(decision, &other.policy.name, dropped);
    }
    outcome.decisions.extend(other.decisions.into_iter().filter(|theirs| !theirs.action.is_effect()));
    outcome.policy.agreed_with.push(other.policy);
    outcome.failure = outcome.failure.take().or(other.failure);
    outcome.log.extend(other.log);
    outcome.log_dropped = outcome.log_dropped.saturating_add(other.log_dropped);
    outcome.fuel_used = outcome.fuel_used.saturating_add(other.fuel_used);
}

fn denied(decision: &Decision, by: &str, dropped: usize) -> Decision {
    let later = match dropped {
        0 => String::new(),
        1 => "; the step after it is dropped".into(),
        more => format!("; the {more} steps after it are dropped"),
    };
    Decision {
        action: Action::Escalate {
            summary: format!(
                "policy {by} does not agree to: {} ({}){later}",
                decision.action, decision.reason
            ),
            hints: vec![format!("run without --policy {by} to do it")],
        },
        ..decision.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use cprecover_policies::Profile;

    use super::*;
    use crate::model::SandboxId;
    use crate::policy::contract::{self, ActionKind, Service, ServiceName, ServiceState};
    use crate::policy::{Failure, Identity};

    fn outcome(name: &str, actions: &[Action]) -> Outcome {
        let identity = Identity {
            name: name.into(),
            version: "1.0.0".into(),
            digest: None,
            signed_by: None,
            agreed_with: Vec::new(),
        };
        let decisions = actions.iter().map(|action| Decision::new("r", action.clone(), "why")).collect();
        Outcome { policy: identity, decisions, failure: None, log: Vec::new(), log_dropped: 0, fuel_used: 1 }
    }

    fn remove() -> Action {
        Action::RemoveSandbox { sandbox: SandboxId::new("s1") }
    }

    fn kinds(outcome: &Outcome) -> Vec<contract::ActionKind> {
        outcome.decisions.iter().map(|decision| decision.action.kind()).collect()
    }

    #[test]
    fn one_policy_that_only_watches_turns_every_effect_into_a_call() {
        let service = Service {
            name: ServiceName::Kubelet,
            state: ServiceState::Inactive,
            restart_ms: 1000,
            detail: "kubelet.service".into(),
        };
        let kubelet_down = Observation { services: vec![service], ..Observation::default() };
        let alone = Policy::native(Profile::Default).decide(&kubelet_down);
        assert_eq!(kinds(&alone), [ActionKind::RestartKubelet]);
        let chain = Chain::new(Policy::native(Profile::Default), vec![Policy::native(Profile::ObserveOnly)]);
        let outcome = chain.decide(&kubelet_down);
        assert!(!outcome.decisions.is_empty());
        assert!(outcome.decisions.iter().all(|decision| !decision.action.is_effect()), "{outcome:?}");
        assert_eq!(outcome.policy.agreed_with[0].name, "observe-only");
    }

    #[test]
    fn what_was_decided_on_the_premise_of_a_vetoed_step_is_dropped() {
        let mut proposed = outcome("first", &[remove(), Action::RestartKubelet, Action::RestartRuntime]);
        // The other agrees to the later steps, not to the one that they rest on.
        narrow(&mut proposed, outcome("second", &[Action::RestartKubelet, Action::RestartRuntime]));
        assert_eq!(kinds(&proposed), [ActionKind::Escalate]);
        let text = format!("{}", proposed.decisions[0].action);
        assert!(text.contains("policy second does not agree to: remove stale sandbox s1"), "{text}");
        assert!(text.contains("the 2 steps after it are dropped"), "{text}");
    }

    #[test]
    fn steps_before_a_vetoed_one_and_waits_of_all_are_kept() {
        let mut proposed = outcome("first", &[remove(), Action::RestartKubelet]);
        narrow(&mut proposed, outcome("second", &[Action::Wait { milliseconds: 5 }, remove()]));
        assert_eq!(kinds(&proposed), [ActionKind::RemoveSandbox, ActionKind::Escalate, ActionKind::Wait]);
    }

    #[test]
    fn the_same_kind_of_step_on_another_target_is_no_agreement() {
        let mut proposed = outcome("first", &[remove()]);
        let other = Action::RemoveSandbox { sandbox: SandboxId::new("s2") };
        narrow(&mut proposed, outcome("second", &[other]));
        assert_eq!(kinds(&proposed), [ActionKind::Escalate]);
    }

    #[test]
    fn a_policy_that_proposes_nothing_gains_nothing_from_the_others() {
        let mut proposed = outcome("first", &[]);
        narrow(&mut proposed, outcome("second", &[remove()]));
        assert!(proposed.decisions.is_empty());
    }

    #[test]
    fn an_agreement_is_as_tight_as_the_tightest() {
        let mut proposed = outcome("first", &[remove()]);
        proposed.decisions[0].max_attempts = 3;
        let mut other = outcome("second", &[remove()]);
        other.decisions[0].confidence = 0.5;
        other.decisions[0].max_attempts = 9;
        other.decisions[0].cool_down_ms = 700;
        narrow(&mut proposed, other);
        let agreed = &proposed.decisions[0];
        assert_eq!(agreed.confidence.to_bits(), 0.5_f32.to_bits());
        assert_eq!((agreed.max_attempts, agreed.cool_down_ms), (3, 700));
    }

    #[test]
    fn a_policy_that_fails_vetoes_everything() {
        let mut proposed = outcome("first", &[remove(), Action::RestartKubelet]);
        let mut broken = outcome("second", &[]);
        broken.failure = Some(Failure { limit: Some("fuel".into()), message: "all fuel consumed".into() });
        narrow(&mut proposed, broken);
        assert_eq!(kinds(&proposed), [ActionKind::Escalate]);
        assert!(proposed.failure.is_some());
    }
}
