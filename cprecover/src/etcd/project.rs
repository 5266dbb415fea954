//! What a step would leave of the quorum.

use std::fmt;

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
    /// `--initial-cluster` of a manifest: the members at the node's join, or the node alone where kubeadm made the
    /// cluster, an upgrade or the manifest anew.
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

impl Effect {
    /// Reports whether the member's process ends by it.
    fn ends_process(self) -> bool {
        matches!(self, Self::Restart | Self::Stop | Self::ReplaceData | Self::Remove)
    }
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
    /// A name that comes twice is one member with two URLs (etcd `client/pkg/types/urlsmap.go`).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when it is malformed or empty.
    pub fn from_initial_cluster(text: &str) -> Result<Self> {
        let mut members: Vec<MemberView> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, url)) =
                part.split_once('=').filter(|(name, url)| !name.is_empty() && !url.is_empty())
            else {
                let message = format!("initial cluster: {part:?} is not name=url");
                return Err(Error::new(ErrorKind::Invalid, message));
            };
            match members.iter_mut().find(|member| member.name == name) {
                Some(member) => member.peer_urls.push(url.to_owned()),
                None => members.push(MemberView::unknown(None, name, vec![url.to_owned()])),
            }
        }
        if members.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "initial cluster names no member"));
        }
        Ok(Self { source: ViewSource::InitialCluster, members })
    }

    /// Takes the members that a stopped member's database lists; the health of all is unknown.
    ///
    /// Each counts as a voter: etcd 3.5.1 to 3.5.19 write a member there once and never again, so that one that
    /// joined as a learner stays one in the database after its promotion, without name and client URLs (etcd
    /// issue 19557, mended in 3.5.20; `server/etcdserver/api/membership/store.go`, `unsafeSaveMemberToBackend`).
    #[must_use]
    pub fn from_database(db: &DbReport) -> Self {
        let members = db.members.iter().map(|record| MemberView {
            client_urls: record.client_urls.clone(),
            ..MemberView::unknown(Some(record.id), &record.name, record.peer_urls.clone())
        });
        Self { source: ViewSource::Database, members: members.collect() }
    }

    /// Sets what is known of one member's health; returns whether there is exactly one such member.
    pub fn set_health(&mut self, member: &str, health: MemberHealth) -> bool {
        let Some(place) = self.place(member) else { return false };
        if let Some(found) = self.members.get_mut(place) {
            found.health = health;
        }
        true
    }

    /// Returns the number of voters, of healthy voters, and the quorum.
    #[must_use]
    pub fn count(&self) -> (u32, u32, u32) {
        count(&self.members)
    }

    /// Returns the only member of that name or id; `None` when there is none or more than one.
    fn place(&self, wanted: &str) -> Option<usize> {
        let mut found = self.members.iter().enumerate().filter(|(_, member)| member.is_called(wanted));
        let (place, _) = found.next()?;
        found.next().is_none().then_some(place)
    }
}

impl MemberView {
    /// Describes a member of which only name and peer URLs are known.
    #[must_use]
    pub fn unknown(id: Option<MemberId>, name: &str, peer_urls: Vec<String>) -> Self {
        Self {
            id,
            name: name.to_owned(),
            peer_urls,
            client_urls: Vec::new(),
            learner: false,
            leader: false,
            health: MemberHealth::Unknown,
        }
    }

    /// Reports whether this is the member's name or id.
    pub(crate) fn is_called(&self, wanted: &str) -> bool {
        !wanted.is_empty() && (self.name == wanted || self.id.is_some_and(|id| id.to_string() == wanted))
    }

    fn is_healthy(&self) -> bool {
        self.health == MemberHealth::Healthy
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

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "after this step {} of {} voting members are healthy, quorum {}",
            self.healthy_after, self.voters_after, self.quorum_after
        )?;
        for (place, refusal) in self.refusals.iter().enumerate() {
            let lead = if place == 0 { "; refused: " } else { ", " };
            write!(f, "{lead}{refusal}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownMember => f.write_str("not exactly one member of that name or id"),
            Self::TwoMembers { other } => write!(f, "member {other} is being acted on"),
            Self::BelowQuorum => f.write_str("fewer healthy voters than the quorum would be left"),
            Self::NoQuorumToCommit => f.write_str("no quorum could commit a change of membership"),
            Self::TwoMemberCluster => f.write_str("one of two voters is not removed"),
            Self::LeaderLast => f.write_str("it leads, and other members are still to be done"),
            Self::DataOfVoter => f.write_str("a voter that loses its data has to be removed first"),
            Self::LearnerPresent => f.write_str("there is a learner already"),
            Self::NotPromotable => f.write_str("it is no learner that is known to be healthy"),
            Self::QuorumMayLive => f.write_str("a quorum is alive or may be"),
        }
    }
}

/// Returns the number of voters, of healthy voters, and the quorum.
fn count(members: &[MemberView]) -> (u32, u32, u32) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let voters = members.iter().filter(|member| !member.learner);
    let healthy = voters.clone().filter(|member| member.is_healthy());
    let voters = number(voters.count());
    (voters, number(healthy.count()), voters / 2 + 1)
}

/// Projects the quorum after `step`.
///
/// A member whose health is not known counts as not healthy, except where that would make a step look
/// safer than it is: a new cluster is only made when every other voter is known to be down, and to end one
/// of several voters that may be up and needed is to take it away. Sources: raft
/// majority `n/2+1` (etcd `raft/quorum`), cluster-api `targetEtcdClusterHealthy` (project on the members that
/// remain), etcd `--strict-reconfig-check`,
/// <https://etcd.io/docs/latest/op-guide/runtime-configuration/>.
#[must_use]
pub fn project(view: &ClusterView, step: &Step) -> Projection {
    let (voters_before, healthy_before, quorum_before) = view.count();
    let target = view.place(&step.member).and_then(|place| Some((place, view.members.get(place)?)));
    let after = members_after(view, step, target.map(|(place, _)| place));
    let (voters_after, healthy_after, quorum_after) = count(&after);
    let mut refusals = Vec::new();
    if let Some(other) = other_in_progress(view, step) {
        refusals.push(Refusal::TwoMembers { other });
    }
    let has_quorum = healthy_before >= quorum_before;
    let changes_membership = matches!(step.effect, Effect::Remove | Effect::AddLearner | Effect::Promote);
    if changes_membership && !has_quorum {
        refusals.push(Refusal::NoQuorumToCommit);
    }
    match (step.effect, target) {
        (Effect::AddLearner, found) => refuse_add(view, found.is_some(), &mut refusals),
        (_, None) => refusals.push(Refusal::UnknownMember),
        (effect, Some((_, member))) => {
            refuse_effect(view, effect, member, &mut refusals);
            let others_pending = step.pending.iter().any(|other| !member.is_called(other));
            if effect.ends_process() && member.leader && others_pending {
                refusals.push(Refusal::LeaderLast);
            }
        }
    }
    // A step on a member that is down already takes nothing away; that is what recovery is made of.
    let takes_away = healthy_after < healthy_before
        || quorum_after > quorum_before
        || target.is_some_and(|(_, member)| may_complete_quorum(view, step.effect, member));
    if takes_away && healthy_after < quorum_after && step.effect != Effect::ForceNewCluster {
        refusals.push(Refusal::BelowQuorum);
    }
    Projection { voters_before, healthy_before, voters_after, healthy_after, quorum_after, refusals }
}

/// Returns the member that is being acted on, when it is not the step's own.
fn other_in_progress(view: &ClusterView, step: &Step) -> Option<String> {
    let other = step.in_progress.as_ref()?;
    let same = other == &step.member
        || view.place(other).is_some_and(|place| Some(place) == view.place(&step.member));
    (!same).then(|| other.clone())
}

/// Returns the members as they are while the step is under way, its target not counted as healthy.
fn members_after(view: &ClusterView, step: &Step, target: Option<usize>) -> Vec<MemberView> {
    let mut members = view.members.clone();
    if step.effect == Effect::AddLearner {
        members.push(MemberView { learner: true, ..MemberView::unknown(None, &step.member, Vec::new()) });
        return members;
    }
    let Some(place) = target else { return members };
    match step.effect {
        Effect::Remove => {
            members.remove(place);
        }
        Effect::ForceNewCluster => members = members.into_iter().skip(place).take(1).collect(),
        effect => {
            if let Some(member) = members.get_mut(place) {
                match effect {
                    Effect::Promote => member.learner = false,
                    _ => member.health = MemberHealth::Unhealthy,
                }
            }
        }
    }
    members
}

fn refuse_add(view: &ClusterView, exists: bool, refusals: &mut Vec<Refusal>) {
    if exists {
        refusals.push(Refusal::UnknownMember);
    }
    if view.members.iter().any(|member| member.learner) {
        refusals.push(Refusal::LearnerPresent);
    }
}

fn refuse_effect(view: &ClusterView, effect: Effect, member: &MemberView, refusals: &mut Vec<Refusal>) {
    let (voters, healthy, quorum) = view.count();
    match effect {
        Effect::Remove if !member.learner && voters <= 2 => refusals.push(Refusal::TwoMemberCluster),
        Effect::ReplaceData if !member.learner && voters > 1 => refusals.push(Refusal::DataOfVoter),
        Effect::Promote if !member.learner || !member.is_healthy() => refusals.push(Refusal::NotPromotable),
        Effect::ForceNewCluster => {
            let may_live = others_that_may_live(view, member).saturating_add(u32::from(!member.learner));
            if healthy >= quorum || (voters > 1 && may_live >= quorum) || member.learner {
                refusals.push(Refusal::QuorumMayLive);
            }
        }
        _ => {}
    }
}

/// Counts the other voters that are not known to be down: they may be serving on the other side of a
/// network fault.
fn others_that_may_live(view: &ClusterView, member: &MemberView) -> u32 {
    let others = view.members.iter().filter(|other| !other.learner && *other != member);
    let may_live = others.filter(|other| other.health != MemberHealth::Unhealthy).count();
    u32::try_from(may_live).unwrap_or(u32::MAX)
}

/// Reports whether ending a voter of unknown health may end a quorum that others are part of.
fn may_complete_quorum(view: &ClusterView, effect: Effect, member: &MemberView) -> bool {
    let (voters, _, quorum) = view.count();
    let may_be_up = !member.learner && member.health == MemberHealth::Unknown && effect.ends_process();
    may_be_up && voters > 1 && others_that_may_live(view, member).saturating_add(1) >= quorum
}

#[cfg(test)]
mod tests;
