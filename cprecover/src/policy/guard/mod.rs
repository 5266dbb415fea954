//! Guard rails that no policy can cross.
//!
//! Pure: what the observation does not prove is refused. A policy can only narrow what passes here.

mod precondition;
mod rate;

use serde::{Deserialize, Serialize};

use super::action::{Action, Decision};
use super::contract::{
    ActionKind, Component as Name, Consent, Manifest, ManifestState, Observation, PastAction, Verdict,
};
use crate::model::Component;
use precondition::precondition;
use rate::rate;

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
pub fn check(observation: &Observation, decisions: &[Decision]) -> Vec<Guarded> {
    let mut disruption = false;
    decisions
        .iter()
        .map(|decision| {
            let ruling = rule(observation, decision, disruption);
            disruption |= ruling == Ruling::Allowed && decision.action.is_disruptive();
            Guarded { decision: decision.clone(), ruling }
        })
        .collect()
}

/// Asks the rail of the quorum alone, for a step that a person wants.
#[cfg(feature = "probe")]
pub(crate) fn quorum_alone(observation: &Observation, action: &Action) -> Ruling {
    let decision = Decision::new("by-hand", action.clone(), "");
    quorum(observation, &decision).err().unwrap_or(Ruling::Allowed)
}

fn rule(seen: &Observation, decision: &Decision, disruption: bool) -> Ruling {
    if !decision.action.is_effect() {
        return Ruling::Allowed;
    }
    let rails = [evidence, healthy, precondition, quorum, consent, rate];
    for rail in rails {
        if let Err(ruling) = rail(seen, decision) {
            return ruling;
        }
    }
    if disruption && decision.action.is_disruptive() {
        return deferred(
            Rail::OneAtATime,
            "another disruptive step comes first; the node is observed again after it",
        );
    }
    Ruling::Allowed
}

fn refused(rail: Rail, reason: impl Into<String>) -> Ruling {
    Ruling::Refused { rail, reason: reason.into() }
}

fn deferred(rail: Rail, reason: impl Into<String>) -> Ruling {
    Ruling::Deferred { rail, reason: reason.into() }
}

type Passed = Result<(), Ruling>;

fn evidence(seen: &Observation, decision: &Decision) -> Passed {
    let known = |id: &String| seen.evidence.iter().any(|evidence| evidence.id == *id);
    match decision.evidence.iter().find(|id| !known(id)) {
        Some(id) => Err(refused(Rail::Evidence, format!("evidence {id:?} is not in the observation"))),
        None => Ok(()),
    }
}

fn healthy(seen: &Observation, decision: &Decision) -> Passed {
    // A renewal is meant for a node that still works, and needs the caller's consent anyway.
    if seen.healthy == Verdict::Yes && !matches!(decision.action, Action::RenewCertificate { .. }) {
        return Err(refused(Rail::Healthy, "the node is verified healthy"));
    }
    Ok(())
}

/// Acting on an etcd member must leave the other voters with a quorum, unless the member is dead already.
fn quorum(seen: &Observation, decision: &Decision) -> Passed {
    if seen.etcd.external || !touches_etcd(seen, &decision.action) {
        return Ok(());
    }
    let voters: Vec<_> = seen.etcd.members.iter().filter(|member| !member.learner).collect();
    if voters.is_empty() || seen.etcd.quorum == 0 {
        if seen.consents.contains(&Consent::UnknownQuorum) {
            return Ok(());
        }
        return Err(refused(Rail::Quorum, "the members of the etcd cluster are not known"));
    }
    let healthy = |local: bool| {
        voters.iter().filter(|member| (local || !member.local) && member.healthy == Verdict::Yes).count()
    };
    let needed = usize::try_from(seen.etcd.quorum).unwrap_or(usize::MAX);
    let among = voters.len();
    if seen.etcd.members.iter().filter(|member| member.local).count() != 1 {
        // Any of them may be this node's, one of the healthy ones too.
        let (healthy, needed) = (healthy(true), needed.saturating_add(1));
        if healthy >= needed || voters.iter().all(|member| member.healthy == Verdict::No) {
            return Ok(());
        }
        let why = format!(
            "which of {among} members is this node's cannot be told: {healthy} are known to be healthy, \
             {needed} would have to be"
        );
        return Err(refused(Rail::Quorum, why));
    }
    let local_votes = voters.iter().any(|member| member.local && member.healthy != Verdict::No);
    let others = healthy(false);
    if !local_votes || others >= needed {
        return Ok(());
    }
    let why =
        format!("after this step {others} of {among} members are known to be healthy, quorum is {needed}");
    Err(refused(Rail::Quorum, why))
}

fn touches_etcd(seen: &Observation, action: &Action) -> bool {
    match action {
        Action::TerminateHolder { port, .. } => {
            let holders = seen.holders.iter().filter(|holder| holder.port == port.get());
            holders.into_iter().any(|holder| holder.wanted_by == Some(Name::Etcd))
        }
        Action::RemoveSandbox { sandbox } => seen
            .sandboxes
            .iter()
            .any(|known| known.id == sandbox.as_str() && known.component == Some(Name::Etcd)),
        Action::BounceStaticPod { component } => *component == Component::Etcd,
        // kubelet may be running the duplicate and not its original.
        Action::QuarantineManifest { file } => seen
            .manifests
            .iter()
            .any(|manifest| manifest.file == *file && manifest.component == Some(Name::Etcd)),
        // A kubelet that starts, or that finds its runtime again, ends the static pods whose manifests are gone
        // or others meanwhile (kubernetes `pkg/kubelet/config/file.go`): also an etcd that still serves.
        // A pod folder is moved while kubelet is stopped, which is a restart.
        Action::RestartKubelet | Action::RestartRuntime | Action::QuarantinePodDir { .. } => {
            !runs_from_its_manifest(seen)
        }
        _ => false,
    }
}

/// Reports whether nothing is known by which kubelet would end etcd's pod: its manifest is there, and was not
/// put there after the pod's newest sandbox was made.
fn runs_from_its_manifest(seen: &Observation) -> bool {
    let file = Component::Etcd.manifest_file();
    let present = |manifest: &Manifest| manifest.file == file && manifest.state == ManifestState::Present;
    let etcds = seen.sandboxes.iter().filter(|sandbox| sandbox.component == Some(Name::Etcd));
    let newest = etcds.map(|sandbox| sandbox.created_ms).max();
    let puts = |past: &&PastAction| {
        let kinds = [ActionKind::RestoreManifest, ActionKind::RegenerateComponent];
        kinds.contains(&past.kind) && past.target == Component::Etcd.as_str()
    };
    let put = seen.history.iter().filter(puts).map(|past| past.started_ms).max();
    seen.manifests.iter().any(present) && put.is_none_or(|put| newest.is_some_and(|made| made >= put))
}

fn consent(seen: &Observation, decision: &Decision) -> Passed {
    if matches!(decision.action, Action::RenewCertificate { .. })
        && !seen.consents.contains(&Consent::RenewCertificates)
    {
        return Err(refused(Rail::Consent, "the caller has not agreed to renewing certificates"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
