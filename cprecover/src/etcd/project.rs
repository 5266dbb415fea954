//! What a step would leave of the quorum.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::ids::MemberId;
use super::verdict::DbReport;
use crate::error::{Error, ErrorKind, Result};

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

/// More entries of an `--initial-cluster` are refused; etcd advises at most seven members.
const MAX_INITIAL_ENTRIES: usize = 256;

impl ClusterView {
    /// Reads `--initial-cluster` (`name=url,name=url`); the health of all is unknown.
    ///
    /// A name may come more than once, once for each of its URLs (etcd `client/pkg/types/urlsmap.go`).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when it is malformed or empty.
    pub fn from_initial_cluster(text: &str) -> Result<Self> {
        let invalid = |what: &str| {
            let shown: String = text.chars().take(200).collect();
            Error::new(ErrorKind::Invalid, format!("--initial-cluster {shown:?} {what}"))
        };
        let mut members: Vec<MemberView> = Vec::new();
        for (place, entry) in text.split(',').enumerate() {
            if place >= MAX_INITIAL_ENTRIES {
                return Err(invalid("has too many entries"));
            }
            let (name, url) = entry.trim().split_once('=').ok_or_else(|| invalid("is not name=url,…"))?;
            if name.is_empty() || !url.contains("://") {
                return Err(invalid("has an entry without a name or a URL"));
            }
            if let Some(known) = members.iter_mut().find(|member| member.name == name) {
                known.peer_urls.push(url.to_owned());
            } else {
                members.push(MemberView {
                    id: None,
                    name: name.to_owned(),
                    peer_urls: vec![url.to_owned()],
                    client_urls: Vec::new(),
                    learner: false,
                    leader: false,
                    health: MemberHealth::Unknown,
                });
            }
        }
        Ok(Self { source: ViewSource::InitialCluster, members })
    }

    /// Takes the members that a stopped member's database lists; the health of all is unknown.
    #[must_use]
    pub fn from_database(db: &DbReport) -> Self {
        let members = db.members.iter().map(|record| MemberView {
            id: Some(record.id),
            name: record.name.clone(),
            peer_urls: record.peer_urls.clone(),
            client_urls: record.client_urls.clone(),
            learner: record.learner,
            leader: false,
            health: MemberHealth::Unknown,
        });
        Self { source: ViewSource::Database, members: members.collect() }
    }

    /// Sets what is known of one member's health; returns whether there is such a member.
    pub fn set_health(&mut self, member: &str, health: MemberHealth) -> bool {
        let Some(place) = self.place_of(member) else { return false };
        if let Some(found) = self.members.get_mut(place) {
            found.health = health;
        }
        true
    }

    /// Returns the number of voters, of healthy voters, and the quorum.
    #[must_use]
    pub fn count(&self) -> (u32, u32, u32) {
        let voters = number(self.voters().count());
        let healthy = number(self.voters().filter(|member| member.health == MemberHealth::Healthy).count());
        (voters, healthy, quorum_of(voters))
    }

    fn voters(&self) -> impl Iterator<Item = &MemberView> {
        self.members.iter().filter(|member| !member.learner)
    }

    /// Finds a member by its name or its id in hex; `None` unless exactly one fits.
    fn place_of(&self, member: &str) -> Option<usize> {
        let mut places = self.members.iter().enumerate().filter(|(_, known)| known.is_called(member));
        let (place, _) = places.next()?;
        places.next().is_none().then_some(place)
    }
}

impl MemberView {
    fn is_called(&self, member: &str) -> bool {
        // A member that never started has no name, and an empty name means nobody.
        !member.is_empty()
            && (self.name == member || self.id.is_some_and(|id| member.parse().ok() == Some(id)))
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

const fn quorum_of(voters: u32) -> u32 {
    voters / 2 + 1
}

impl Step {
    /// Describes a step on `member` while nothing else is going on.
    pub fn new(member: impl Into<String>, effect: Effect) -> Self {
        Self { member: member.into(), effect, in_progress: None, pending: Vec::new() }
    }
}

impl Effect {
    /// Whether the members have to agree on it, which takes a quorum (raft configuration change).
    const fn is_membership_change(self) -> bool {
        matches!(self, Self::Remove | Self::AddLearner | Self::Promote)
    }

    /// Whether the member is away while it is done, or after it.
    const fn takes_away(self) -> bool {
        matches!(self, Self::Restart | Self::Stop | Self::ReplaceData | Self::Remove)
    }
}

impl Projection {
    /// Reports whether the step may be taken.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.refusals.is_empty()
    }
}

impl std::fmt::Display for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} voters healthy after the step, quorum {}",
            self.healthy_after, self.voters_after, self.quorum_after
        )
    }
}

/// Projects the quorum after `step`.
///
/// A member whose health is not known counts as not healthy, and one that is acted on counts as possibly
/// healthy: only a member that is known to be down costs nothing to take away. Sources: raft majority
/// `n/2+1` (etcd `raft/quorum`), cluster-api `targetEtcdClusterHealthy` (project on the members that
/// remain), etcd `--strict-reconfig-check`,
/// <https://etcd.io/docs/latest/op-guide/runtime-configuration/>.
#[must_use]
pub fn project(view: &ClusterView, step: &Step) -> Projection {
    let (voters, healthy, quorum) = view.count();
    let mut projection = Projection {
        voters_before: voters,
        healthy_before: healthy,
        voters_after: voters,
        healthy_after: healthy,
        quorum_after: quorum,
        refusals: Vec::new(),
    };
    let target = view.place_of(&step.member).and_then(|place| view.members.get(place));
    let exists = view.members.iter().any(|member| member.is_called(&step.member));
    let is_new = step.effect == Effect::AddLearner;
    if step.member.is_empty() || (is_new && exists) || (!is_new && target.is_none()) {
        projection.refusals.push(Refusal::UnknownMember);
    }
    refuse_for_others(view, step, target, &mut projection.refusals);
    if step.effect.is_membership_change() && healthy < quorum {
        projection.refusals.push(Refusal::NoQuorumToCommit);
    }
    match (step.effect, target) {
        (Effect::AddLearner, _) => {
            if view.members.iter().any(|member| member.learner) {
                projection.refusals.push(Refusal::LearnerPresent);
            }
        }
        (Effect::Promote, Some(target)) => project_promotion(target, &mut projection),
        (Effect::ForceNewCluster, Some(target)) => project_new_cluster(view, target, &mut projection),
        (effect, Some(target)) if !target.learner => project_absence(effect, target, &mut projection),
        _ => {}
    }
    projection
}

/// Never two members at once, and the leader last.
fn refuse_for_others(
    view: &ClusterView,
    step: &Step,
    target: Option<&MemberView>,
    refusals: &mut Vec<Refusal>,
) {
    let is_target = |name: &str| name == step.member || target.is_some_and(|target| target.is_called(name));
    if let Some(other) = step.in_progress.as_ref().filter(|other| !is_target(other)) {
        refusals.push(Refusal::TwoMembers { other: other.clone() });
    }
    let is_leader = view.voters().any(|member| member.leader && is_target_of(member, target));
    if is_leader && step.effect.takes_away() && step.pending.iter().any(|name| !is_target(name)) {
        refusals.push(Refusal::LeaderLast);
    }
}

fn is_target_of(member: &MemberView, target: Option<&MemberView>) -> bool {
    target.is_some_and(|target| std::ptr::eq(target, member))
}

fn project_promotion(target: &MemberView, projection: &mut Projection) {
    if !target.learner || target.health != MemberHealth::Healthy {
        projection.refusals.push(Refusal::NotPromotable);
        return;
    }
    projection.voters_after += 1;
    projection.healthy_after += 1;
    projection.quorum_after = quorum_of(projection.voters_after);
    if projection.healthy_after < projection.quorum_after {
        projection.refusals.push(Refusal::BelowQuorum);
    }
}

fn project_new_cluster(view: &ClusterView, target: &MemberView, projection: &mut Projection) {
    let may_live = view.voters().filter(|member| member.health != MemberHealth::Unhealthy).count();
    // kubeadm writes --initial-cluster once: members that joined later are not in it.
    let is_guess = view.source == ViewSource::InitialCluster;
    if is_guess || number(may_live) >= quorum_of(projection.voters_before) {
        projection.refusals.push(Refusal::QuorumMayLive);
    }
    if target.learner {
        projection.refusals.push(Refusal::NotPromotable);
    }
    projection.voters_after = 1;
    projection.healthy_after = u32::from(target.health == MemberHealth::Healthy);
    projection.quorum_after = 1;
}

/// What is left when a voter is away, for a while or for good.
fn project_absence(effect: Effect, target: &MemberView, projection: &mut Projection) {
    if target.health == MemberHealth::Healthy {
        projection.healthy_after = projection.healthy_after.saturating_sub(1);
    }
    if effect == Effect::Remove {
        projection.voters_after = projection.voters_after.saturating_sub(1);
        projection.quorum_after = quorum_of(projection.voters_after);
        if projection.voters_before == 2 {
            projection.refusals.push(Refusal::TwoMemberCluster);
        }
    }
    if effect == Effect::ReplaceData && projection.voters_before > 1 {
        projection.refusals.push(Refusal::DataOfVoter);
    }
    // A member that is down already takes nothing away by a restart, even when the quorum is lost.
    let costs = effect == Effect::Remove || target.health != MemberHealth::Unhealthy;
    if costs && projection.healthy_after < projection.quorum_after {
        projection.refusals.push(Refusal::BelowQuorum);
    }
}
