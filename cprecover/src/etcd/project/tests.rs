use proptest::prelude::*;

use super::*;

/// `H` healthy, `L` healthy leader, `d` down, `?` unknown; lower-case `l` a healthy learner.
fn view(members: &str) -> ClusterView {
    let members = members.chars().enumerate().map(|(place, kind)| MemberView {
        leader: kind == 'L',
        learner: kind == 'l',
        health: match kind {
            'd' => MemberHealth::Unhealthy,
            '?' => MemberHealth::Unknown,
            _ => MemberHealth::Healthy,
        },
        ..MemberView::unknown(Some(MemberId::new(100 + place as u64)), &format!("m{place}"), Vec::new())
    });
    ClusterView { source: ViewSource::Cluster, members: members.collect() }
}

fn refusals(members: &str, target: usize, effect: Effect) -> Vec<Refusal> {
    project(&view(members), &Step::new(format!("m{target}"), effect)).refusals
}

#[test]
fn the_table() {
    use Effect::*;
    use Refusal::*;
    let cases: &[(&str, usize, Effect, &[Refusal])] = &[
        // One of three healthy ones may be restarted, a second one not.
        ("LHH", 1, Restart, &[]),
        ("LHd", 1, Restart, &[BelowQuorum]),
        ("LH?", 1, Stop, &[BelowQuorum]),
        // The one that is down may always be worked on.
        ("LHd", 2, Restart, &[]),
        ("?dH", 1, Restart, &[]),
        ("d", 0, Restart, &[]),
        ("?", 0, Restart, &[]),
        // The only member's healthy process is nobody's to end.
        ("L", 0, Stop, &[BelowQuorum]),
        ("L", 0, Restart, &[BelowQuorum]),
        ("LH", 1, Restart, &[BelowQuorum]),
        // One that could not be asked may be what completes the quorum.
        ("Hd?", 2, Restart, &[BelowQuorum]),
        ("??d", 0, Stop, &[BelowQuorum]),
        ("???", 0, Restart, &[BelowQuorum]),
        ("LH?", 2, Restart, &[]),
        ("?dd", 0, Restart, &[]),
        // Membership.
        ("LHd", 2, Remove, &[]),
        ("LHd", 1, Remove, &[BelowQuorum]),
        ("LHHd", 3, Remove, &[]),
        ("Ldd", 2, Remove, &[NoQuorumToCommit]),
        ("LH", 1, Remove, &[TwoMemberCluster]),
        ("Ld", 1, Remove, &[NoQuorumToCommit, TwoMemberCluster]),
        // Learners do not vote.
        ("LHdl", 3, Stop, &[]),
        ("LHdl", 3, Remove, &[]),
        ("LHHl", 3, Promote, &[]),
        ("LHdl", 3, Promote, &[]),
        ("LHH", 1, Promote, &[NotPromotable]),
        // Data.
        ("LHd", 2, ReplaceData, &[DataOfVoter]),
        ("d", 0, ReplaceData, &[]),
        ("LHHl", 3, ReplaceData, &[]),
        // A new cluster only when no quorum can be alive.
        ("Hdd", 0, ForceNewCluster, &[]),
        ("H?d", 0, ForceNewCluster, &[QuorumMayLive]),
        ("LHd", 0, ForceNewCluster, &[QuorumMayLive]),
        ("d", 0, ForceNewCluster, &[]),
        ("LHH", 7, Stop, &[UnknownMember]),
    ];
    for (members, target, effect, expected) in cases {
        assert_eq!(refusals(members, *target, *effect), *expected, "{members} {target} {effect:?}");
    }
}

#[test]
fn never_two_members_and_the_leader_last() {
    let mut step = Step::new("m1", Effect::Restart);
    step.in_progress = Some("m2".into());
    let other = Refusal::TwoMembers { other: "m2".into() };
    assert_eq!(project(&view("LHH"), &step).refusals, [other]);
    step.in_progress = Some(MemberId::new(101).to_string());
    assert!(project(&view("LHH"), &step).is_allowed(), "its own id is no other member");
    let mut leader = Step::new("m0", Effect::Restart);
    leader.pending = vec!["m0".into(), "m1".into()];
    assert_eq!(project(&view("LHH"), &leader).refusals, [Refusal::LeaderLast]);
    leader.pending = vec!["m0".into()];
    assert!(project(&view("LHH"), &leader).is_allowed());
}

#[test]
fn adding_a_learner() {
    let add =
        |members: &str, name: &str| project(&view(members), &Step::new(name, Effect::AddLearner)).refusals;
    assert_eq!(add("LH", "new"), []);
    assert_eq!(add("LHl", "new"), [Refusal::LearnerPresent]);
    assert_eq!(add("LHH", "m1"), [Refusal::UnknownMember]);
    assert_eq!(add("Ldd", "new"), [Refusal::NoQuorumToCommit]);
}

#[test]
fn an_initial_cluster_has_unknown_health() {
    let text = "cp1=https://10.0.0.1:2380,cp2=https://10.0.0.2:2380,cp3=https://10.0.0.3:2380,cp1=https://[::1]:2380";
    let mut view = ClusterView::from_initial_cluster(text).expect("parses");
    assert_eq!(view.count(), (3, 0, 2));
    assert_eq!(view.members.first().map(|member| member.peer_urls.len()), Some(2));
    assert!(!project(&view, &Step::new("cp1", Effect::Restart)).is_allowed(), "all may be up");
    assert!(!project(&view, &Step::new("cp1", Effect::Remove)).is_allowed());
    assert!(view.set_health("cp1", MemberHealth::Unhealthy));
    assert!(project(&view, &Step::new("cp1", Effect::Restart)).is_allowed());
    assert!(view.set_health("cp1", MemberHealth::Healthy) && !view.set_health("cp9", MemberHealth::Healthy));
    let projection = project(&view, &Step::new("cp1", Effect::Restart));
    assert_eq!(
        projection.to_string(),
        "after this step 0 of 3 voting members are healthy, quorum 2; refused: fewer healthy voters than the quorum would be left"
    );
    for bad in ["", ",", "cp1", "=https://x", "cp1="] {
        let error = ClusterView::from_initial_cluster(bad).expect_err("bad");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn whom_the_database_calls_a_learner_may_vote() {
    let record = |id, learner| {
        let json = format!(r#"{{"id":{id},"peerURLs":["https://10.0.0.1:2380"],"isLearner":{learner}}}"#);
        (format!("{id:x}"), json)
    };
    let members = [record(1, false), record(2, true), record(3, true)];
    let members: Vec<(&str, &str)> = members.iter().map(|(id, json)| (&id[..], &json[..])).collect();
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("db");
    std::fs::write(&path, crate::etcd::database_listing(&members)).expect("write");
    let deadline = crate::sys::Deadline::after(std::time::Duration::from_secs(20));
    let scan = crate::etcd::bolt::scan(&path, crate::etcd::bolt::Depth::Everything, 1 << 20, &deadline);
    let db = scan.expect("sound").report;
    assert!(db.members.iter().any(|member| member.learner), "as it stands there");
    assert_eq!(ClusterView::from_database(&db).count(), (3, 0, 2));
}

proptest! {
    /// Whatever the cluster: a step that is allowed never turns a quorum into none, and never acts on
    /// a voter while another one is acted on.
    #[test]
    fn no_allowed_step_loses_the_quorum(
        members in "[LHHHd?l]{1,7}", target in 0_usize..8, effect in 0_usize..7, busy in 0_usize..9,
    ) {
        let effects = [Effect::Restart, Effect::Stop, Effect::ReplaceData, Effect::Remove,
            Effect::AddLearner, Effect::Promote, Effect::ForceNewCluster];
        let effect = *effects.get(effect).expect("in range");
        let view = view(&members);
        let (_, healthy, quorum) = view.count();
        let mut step = Step::new(format!("m{target}"), effect);
        step.in_progress = (busy < 8).then(|| format!("m{busy}"));
        let projection = project(&view, &step);
        if projection.is_allowed() {
            prop_assert!(busy >= 8 || busy == target);
            if healthy >= quorum {
                prop_assert!(projection.healthy_after >= projection.quorum_after);
                prop_assert!(effect != Effect::ForceNewCluster);
            }
        }
    }
}
