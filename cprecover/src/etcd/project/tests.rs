#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::MemberHealth::{Healthy, Unhealthy, Unknown};
use super::*;

/// Members `a`, `b`, …; the first leads.
fn cluster(health: &[MemberHealth]) -> ClusterView {
    let members = (0_u8..).zip(health).map(|(place, health)| MemberView {
        id: Some(MemberId::new(u64::from(place) + 0x1_0000)),
        name: char::from(b'a' + place).to_string(),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
        learner: false,
        leader: place == 0,
        health: *health,
    });
    ClusterView { source: ViewSource::Cluster, members: members.collect() }
}

fn with_learner(mut view: ClusterView, health: MemberHealth) -> ClusterView {
    let mut learner = view.members[0].clone();
    (learner.name, learner.id, learner.leader) = ("l".into(), Some(MemberId::new(0x1_1111)), false);
    (learner.learner, learner.health) = (true, health);
    view.members.push(learner);
    view
}

fn refusals(view: &ClusterView, member: &str, effect: Effect) -> Vec<Refusal> {
    project(view, &Step::new(member, effect)).refusals
}

#[test]
fn k_of_n_after_a_step() {
    let three = cluster(&[Healthy, Healthy, Healthy]);
    let stopped = project(&three, &Step::new("b", Effect::Stop));
    assert_eq!((stopped.healthy_after, stopped.voters_after, stopped.quorum_after), (2, 3, 2));
    assert!(stopped.is_allowed());
    assert_eq!(stopped.to_string(), "2 of 3 voters healthy after the step, quorum 2");
    let weak = cluster(&[Healthy, Healthy, Unhealthy]);
    for effect in [Effect::Restart, Effect::Stop] {
        assert_eq!(refusals(&weak, "b", effect), [Refusal::BelowQuorum]);
        // It is down already, so its restart costs nothing.
        assert_eq!(refusals(&weak, "c", effect), []);
        assert_eq!(refusals(&cluster(&[Healthy, Unhealthy, Unhealthy]), "c", effect), []);
    }
    assert_eq!(refusals(&cluster(&[Healthy]), "a", Effect::Restart), [Refusal::BelowQuorum]);
    assert_eq!(refusals(&cluster(&[Unhealthy]), "a", Effect::Restart), []);
    let removed = project(&weak, &Step::new("c", Effect::Remove));
    assert_eq!((removed.healthy_after, removed.voters_after, removed.quorum_after), (2, 2, 2));
    assert!(removed.is_allowed());
    assert_eq!(refusals(&weak, "b", Effect::Remove), [Refusal::BelowQuorum]);
}

#[test]
fn unknown_counts_as_not_healthy() {
    let view = cluster(&[Healthy, Unknown, Healthy]);
    assert_eq!(view.count(), (3, 2, 2));
    assert_eq!(refusals(&view, "c", Effect::Restart), [Refusal::BelowQuorum]);
    assert_eq!(refusals(&view, "b", Effect::Restart), []);
    // The one that is acted on may be what keeps the quorum.
    let view = cluster(&[Healthy, Unknown, Unknown]);
    assert_eq!(refusals(&view, "b", Effect::Stop), [Refusal::BelowQuorum]);
    assert_eq!(refusals(&cluster(&[Unknown]), "a", Effect::Restart), [Refusal::BelowQuorum]);
}

#[test]
fn a_change_of_membership_needs_a_quorum_and_two_voters_are_not_halved() {
    let lost = cluster(&[Healthy, Unhealthy, Unhealthy]);
    assert!(refusals(&lost, "c", Effect::Remove).contains(&Refusal::NoQuorumToCommit));
    assert!(refusals(&lost, "new", Effect::AddLearner).contains(&Refusal::NoQuorumToCommit));
    assert_eq!(refusals(&cluster(&[Healthy, Healthy]), "b", Effect::Remove), [Refusal::TwoMemberCluster]);
    assert!(refusals(&cluster(&[Healthy]), "a", Effect::Remove).contains(&Refusal::BelowQuorum));
}

#[test]
fn learners_do_not_vote_and_come_one_by_one() {
    let three = cluster(&[Healthy, Healthy, Healthy]);
    assert_eq!(refusals(&three, "l", Effect::AddLearner), []);
    assert_eq!(refusals(&three, "a", Effect::AddLearner), [Refusal::UnknownMember]);
    assert_eq!(refusals(&three, "a", Effect::Promote), [Refusal::NotPromotable]);
    let four = with_learner(three, Healthy);
    assert_eq!(four.count(), (3, 3, 2));
    assert_eq!(refusals(&four, "m", Effect::AddLearner), [Refusal::LearnerPresent]);
    for effect in [Effect::Stop, Effect::Restart, Effect::ReplaceData, Effect::Remove] {
        let projection = project(&four, &Step::new("l", effect));
        assert!(projection.is_allowed() && projection.healthy_after == 3, "{effect:?}");
    }
    let promoted = project(&four, &Step::new("l", Effect::Promote));
    assert_eq!((promoted.healthy_after, promoted.voters_after, promoted.quorum_after), (4, 4, 3));
    let unproven = with_learner(cluster(&[Healthy, Healthy, Healthy]), Unknown);
    assert_eq!(refusals(&unproven, "l", Effect::Promote), [Refusal::NotPromotable]);
    assert_eq!(refusals(&four, "b", Effect::ReplaceData), [Refusal::DataOfVoter]);
    assert_eq!(refusals(&cluster(&[Unhealthy]), "a", Effect::ReplaceData), []);
}

#[test]
fn never_two_members_and_the_leader_last() {
    let view = cluster(&[Healthy, Healthy, Healthy]);
    let mut step = Step::new("b", Effect::Restart);
    step.in_progress = Some("c".into());
    assert_eq!(project(&view, &step).refusals, [Refusal::TwoMembers { other: "c".into() }]);
    // The same member by its id is not a second one.
    step.in_progress = Some("10001".into());
    assert!(project(&view, &step).is_allowed());
    let mut step = Step::new("a", Effect::Restart);
    step.pending = vec!["a".into(), "c".into()];
    assert_eq!(project(&view, &step).refusals, [Refusal::LeaderLast]);
    step.pending = vec!["a".into()];
    assert!(project(&view, &step).is_allowed());
    assert_eq!(refusals(&view, "nobody", Effect::Stop), [Refusal::UnknownMember]);
    assert_eq!(refusals(&view, "", Effect::Stop), [Refusal::UnknownMember]);
}

#[test]
fn no_second_cluster_beside_a_quorum_that_may_live() {
    let force = |view: &ClusterView| refusals(view, "a", Effect::ForceNewCluster);
    assert_eq!(force(&cluster(&[Unhealthy, Unknown, Unknown])), [Refusal::QuorumMayLive]);
    assert_eq!(force(&cluster(&[Unhealthy, Unhealthy, Unknown])), []);
    let mut guess = ClusterView::from_initial_cluster("a=https://10.0.0.1:2380").expect("reads");
    assert!(guess.set_health("a", Unhealthy));
    assert_eq!(force(&guess), [Refusal::QuorumMayLive]);
}

#[test]
fn initial_cluster_is_read_and_its_health_unknown() {
    let text = "m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m1=https://[fd00::1]:2380";
    let mut view = ClusterView::from_initial_cluster(text).expect("reads");
    assert_eq!((view.source, view.count()), (ViewSource::InitialCluster, (2, 0, 2)));
    assert_eq!(view.members[0].peer_urls.len(), 2);
    assert!(view.set_health("m2", Healthy) && !view.set_health("m3", Healthy));
    assert_eq!(view.count(), (2, 1, 2));
    for bad in ["", "m1", "=https://x", "m1=", "m1=https://x,", "m1=x"] {
        let error = ClusterView::from_initial_cluster(bad).expect_err(bad);
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

fn health() -> impl Strategy<Value = MemberHealth> {
    prop_oneof![Just(Healthy), Just(Unhealthy), Just(Unknown)]
}

fn effect() -> impl Strategy<Value = Effect> {
    prop_oneof![
        Just(Effect::Restart),
        Just(Effect::Stop),
        Just(Effect::ReplaceData),
        Just(Effect::Remove),
        Just(Effect::Promote),
        Just(Effect::ForceNewCluster),
    ]
}

proptest! {
    #[test]
    fn a_living_quorum_outlives_every_allowed_step(
        members in proptest::collection::vec(health(), 1..8),
        effect in effect(),
        target in 0_usize..8,
    ) {
        let view = cluster(&members);
        let name = view.members[target % members.len()].name.clone();
        let projection = project(&view, &Step::new(name, effect));
        let lived = projection.healthy_before >= members.len() as u32 / 2 + 1;
        if lived && projection.is_allowed() {
            prop_assert!(projection.healthy_after >= projection.quorum_after);
            prop_assert!(effect != Effect::ForceNewCluster);
        }
    }
}
