//! What a step would leave of the quorum.

use serde::{Deserialize, Serialize};

use super::ids::MemberId;
use super::verdict::DbReport;
use crate::error::Result;

/// How a member is doing, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MemberHealth {
    /// It answered and follows a leader.
    Healthy,
    /// It answered that it is not, or nobody listens at its address.
    Unhealthy,
    /// It could not be asked; counts as not healthy.
    Unknown,
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MemberView {
    /// Its id, where it is known (an initial cluster has names only).
    pub id: Option<MemberId>,
    /// Its name; empty for one that never started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it is a learner, which does not vote.
    pub learner: bool,
    /// Whether it leads.
    pub leader: bool,
    /// How it is doing.
    pub health: MemberHealth,
}

/// Where a view of the cluster comes from; a view that no member gave is only a guess of the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ViewSource {
    /// A running member listed the members.
    Cluster,
    /// The database of a stopped member listed them.
    Database,
    /// `--initial-cluster` of a manifest; kubeadm writes it once, at join.
    InitialCluster,
}

/// The members and how they are doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClusterView {
    /// Where it comes from.
    pub source: ViewSource,
    /// The members.
    pub members: Vec<MemberView>,
}

/// What a step does to a member, seen from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Effect {
    /// Its process ends and comes back with the same data.
    Restart,
    /// Its process ends and stays away.
    Stop,
    /// Its data is replaced or wiped while it stays a member.
    ReplaceData,
    /// It leaves the membership.
    Remove,
    /// It joins as a learner.
    AddLearner,
    /// It becomes a voter.
    Promote,
    /// It becomes the only member (`--force-new-cluster`); all others are dropped.
    ForceNewCluster,
}

/// A step on one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Step {
    /// The member's name or its id in hex; for [`Effect::AddLearner`] the new member's name.
    pub member: String,
    /// What is done to it.
    pub effect: Effect,
    /// Another member on which a step has begun and is not yet proven done.
    pub in_progress: Option<String>,
    /// Members that the same plan still has to act on after this step.
    pub pending: Vec<String>,
}

/// Why a step is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Refusal {
    /// There is no member of that name or id, or more than one.
    UnknownMember,
    /// Another member is being acted on.
    TwoMembers {
        /// Which one.
        other: String,
    },
    /// The healthy voters left would be fewer than the quorum.
    BelowQuorum,
    /// A change of membership has to be committed by a quorum, and there is none.
    NoQuorumToCommit,
    /// With two voters, removing one leaves no majority to fall back on.
    TwoMemberCluster,
    /// The leader is acted on last; others are still to be done.
    LeaderLast,
    /// A voter that lost its data may vote twice in a term; it has to be removed and added as a learner.
    DataOfVoter,
    /// There is a learner already (etcd `--max-learners`, 1 by default).
    LearnerPresent,
    /// The member is no learner, or a learner that is not known to be healthy.
    NotPromotable,
    /// A quorum is alive or may be: a new cluster would be a second one.
    QuorumMayLive,
}

/// What a step would leave of the quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Projection {
    /// Voting members before the step.
    pub voters_before: u32,
    /// Of these, known to be healthy.
    pub healthy_before: u32,
    /// Voting members after the step.
    pub voters_after: u32,
    /// Of these, known to be healthy.
    pub healthy_after: u32,
    /// How many of them make a majority.
    pub quorum_after: u32,
    /// Why the step must not be taken; empty when it may.
    pub refusals: Vec<Refusal>,
}

impl ClusterView {
    /// Reads `--initial-cluster` (`name=url,name=url`); the health of all is unknown.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when it is malformed or empty.
    pub fn from_initial_cluster(text: &str) -> Result<Self> {
        let _ = text;
        todo!()
    }

    /// Takes the members that a stopped member's database lists; the health of all is unknown.
    #[must_use]
    pub fn from_database(db: &DbReport) -> Self {
        let _ = db;
        todo!()
    }

    /// Sets what is known of one member's health; returns whether there is such a member.
    pub fn set_health(&mut self, member: &str, health: MemberHealth) -> bool {
        let _ = (member, health);
        todo!()
    }

    /// Returns the number of voters, of healthy voters, and the quorum.
    #[must_use]
    pub fn count(&self) -> (u32, u32, u32) {
        todo!()
    }
}

impl Step {
    /// Describes a step on `member` while nothing else is going on.
    pub fn new(member: impl Into<String>, effect: Effect) -> Self {
        Self { member: member.into(), effect, in_progress: None, pending: Vec::new() }
    }
}

impl Projection {
    /// Reports whether the step may be taken.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.refusals.is_empty()
    }
}

/// Projects the quorum after `step`.
///
/// A member whose health is not known counts as not healthy. Sources: raft majority `n/2+1` (etcd
/// `raft/quorum`), cluster-api `targetEtcdClusterHealthy` (project on the members that remain),
/// etcd `--strict-reconfig-check`, <https://etcd.io/docs/latest/op-guide/runtime-configuration/>.
#[must_use]
pub fn project(view: &ClusterView, step: &Step) -> Projection {
    let _ = (view, step);
    todo!()
}
