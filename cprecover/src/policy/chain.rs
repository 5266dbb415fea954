//! Policies that must agree.

use super::action::{Action, Decision};
use super::contract::Observation;
use super::{Outcome, Policy};

/// Policies that must agree: what changes the node is done only if every one of them decides it.
///
/// The first policy proposes. An action that changes the node stays when each further policy decides
/// the same action on the same target, and becomes a call to a person naming the policy that denied it
/// otherwise. Waits and escalations of all policies are kept. A policy that fails denies everything.
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
            let other = policy.decide(observation);
            for decision in &mut outcome.decisions {
                let agreed = other.decisions.iter().any(|theirs| theirs.action == decision.action);
                if decision.action.is_effect() && !agreed {
                    *decision = denied(decision, &other.policy.name);
                }
            }
            let own_view = other.decisions.into_iter().filter(|decision| !decision.action.is_effect());
            outcome.decisions.extend(own_view);
            outcome.failure = outcome.failure.or(other.failure);
            outcome.log.extend(other.log);
            outcome.log_dropped = outcome.log_dropped.saturating_add(other.log_dropped);
            outcome.fuel_used = outcome.fuel_used.saturating_add(other.fuel_used);
        }
        outcome
    }
}

fn denied(decision: &Decision, by: &str) -> Decision {
    Decision {
        action: Action::Escalate {
            summary: format!("policy {by} does not agree to: {} ({})", decision.action, decision.reason),
            hints: vec![format!("run without --policy {by} to do it")],
        },
        ..decision.clone()
    }
}

#[cfg(test)]
mod tests {
    use cprecover_policies::Profile;

    use super::*;
    use crate::policy::contract::{Service, ServiceName, ServiceState};

    fn kubelet_down() -> Observation {
        let service = Service {
            name: ServiceName::Kubelet,
            state: ServiceState::Inactive,
            restart_ms: 1000,
            detail: "kubelet.service".into(),
        };
        Observation { services: vec![service], ..Observation::default() }
    }

    #[test]
    fn one_policy_that_only_watches_turns_every_effect_into_a_call() {
        let alone = Policy::native(Profile::Default).decide(&kubelet_down());
        assert!(
            alone.decisions.iter().any(|decision| decision.action == Action::RestartKubelet),
            "{alone:?}"
        );
        let chain = Chain::new(Policy::native(Profile::Default), vec![Policy::native(Profile::ObserveOnly)]);
        let outcome = chain.decide(&kubelet_down());
        assert!(!outcome.decisions.is_empty());
        assert!(outcome.decisions.iter().all(|decision| !decision.action.is_effect()), "{outcome:?}");
    }
}
