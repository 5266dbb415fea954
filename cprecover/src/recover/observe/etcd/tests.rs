//! Members that answer, members that do not, and data in every state.

use std::net::SocketAddr;
use std::time::Duration;

use super::fake::{FakeMember, Listed, Manner, manifest, three_listeners, write_member, write_member_of};
use super::*;
use crate::etcd::{DataState, FindingKind, Refusal, ViewSource};
use crate::healthz;
use crate::policy::contract::EtcdData;
use crate::probe::{Limits, Outcome, Phase, Prober};
use crate::recover::observation::PodSource;
use crate::recover::observe::health::of_unmanaged_etcd;

use crate::diagnose::{HealthState, Subject};

struct Node {
    _dir: tempfile::TempDir,
    options: NodeOptions,
}

fn node() -> Node {
    let dir = tempfile::tempdir().expect("temp dir");
    let options = NodeOptions::at(dir.path()).expect("absolute");
    write_member(&options.resolve("/var/lib/etcd"));
    Node { _dir: dir, options }
}

fn pods(text: &str) -> Vec<ExpectedPod> {
    let pod = StaticPod::parse(text.as_bytes()).expect("parses");
    vec![ExpectedPod { component: Component::Etcd, source: Some(PodSource::Live), pod: Some(pod) }]
}

fn healthy() -> Vec<HealthFact> {
    let report = healthz::parse(b"{\"health\":\"true\"}");
    let state = HealthState::Probed(Outcome::Answered { report });
    vec![HealthFact::new(Some(Subject::Component(Component::Etcd)), "http://x/health", state)]
}

fn refused() -> Vec<HealthFact> {
    probed(Outcome::Refused)
}

fn probed(outcome: Outcome) -> Vec<HealthFact> {
    let state = HealthState::Probed(outcome);
    vec![HealthFact::new(Some(Subject::Component(Component::Etcd)), "http://x/health", state)]
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

const INITIAL: &str = "cp1=http://127.0.0.1:2380,cp2=http://127.0.0.2:2380,cp3=http://127.0.0.3:2380";

/// The cluster of three, of which those whose place is in `up` answer.
fn cluster(up: &[usize], learner: bool) -> (Vec<FakeMember>, SocketAddr) {
    let listeners = three_listeners();
    let at: Vec<SocketAddr> =
        listeners.iter().map(|listener| listener.local_addr().expect("address")).collect();
    // The third leads; the first, this node's, has the id of the files.
    let [first, second, third] = at.as_slice() else { panic!("three") };
    let listed = vec![
        Listed(0xa3, "cp3", *third, false),
        Listed(0xa1, "cp1", *first, false),
        Listed(0xa2, "cp2", *second, learner),
    ];
    let members = listeners.into_iter().enumerate().filter(|(place, _)| up.contains(place));
    let members = members.map(|(place, listener)| {
        FakeMember::start(listener, 0xa1 + u64::try_from(place).expect("small"), listed.clone())
    });
    (members.collect(), *first)
}

#[test]
fn the_quorum_is_that_of_the_real_members() {
    let node = node();
    let (_members, client) = cluster(&[0, 1, 2], false);
    // The manifest, written at the join, knows of one member only.
    let pods = pods(&manifest("cp1", client, "cp1=http://127.0.0.1:2380"));
    let seen = look(&node.options, &pods, &healthy(), &mut Cache::default(), &deadline());
    assert_eq!(seen.facts.cluster.present().map(|view| view.source), Some(ViewSource::Cluster));
    assert_eq!((seen.contract.members.len(), seen.contract.quorum), (3, 2));
    assert!(seen.contract.members.iter().all(|member| member.healthy == Verdict::Yes));
    let local: Vec<_> = seen.contract.members.iter().filter(|member| member.local).collect();
    assert!(matches!(local.as_slice(), [member] if member.name == "cp1" && member.id == "a1"));
    assert!(seen.contract.members.iter().any(|member| member.leader && member.name == "cp3"));
    let projection = seen.facts.projection.expect("known");
    assert!(projection.is_allowed(), "{projection}");
    assert_eq!(seen.facts.alarms, Observed::Present(Vec::new()));
}

#[test]
fn without_a_third_member_the_second_must_not_be_ended() {
    let node = node();
    let (_members, client) = cluster(&[0, 2], false);
    let pods = pods(&manifest("cp1", client, INITIAL));
    let seen = look(&node.options, &pods, &healthy(), &mut Cache::default(), &deadline());
    let down = seen.contract.members.iter().find(|member| member.name == "cp2").expect("listed");
    assert_eq!(down.healthy, Verdict::No, "nobody listens there");
    assert_eq!(seen.facts.projection.expect("known").refusals, [Refusal::BelowQuorum]);
}

#[test]
fn a_dead_member_is_seen_through_the_others() {
    let node = node();
    let (_members, client) = cluster(&[1, 2], true);
    let pods = pods(&manifest("cp1", client, INITIAL));
    let seen = look(&node.options, &pods, &refused(), &mut Cache::default(), &deadline());
    assert_eq!(seen.facts.cluster.present().map(|view| view.source), Some(ViewSource::Cluster));
    let health = |name: &str| {
        let member = seen.contract.members.iter().find(|member| member.name == name).expect("listed");
        (member.healthy, member.learner)
    };
    assert_eq!(health("cp1"), (Verdict::No, false));
    assert_eq!(health("cp2"), (Verdict::Yes, true));
    assert_eq!(seen.contract.quorum, 2, "of two voters; a learner has no vote");
    assert!(seen.facts.projection.expect("known").is_allowed(), "what is down loses nothing");
}

#[test]
fn when_nobody_answers_the_names_are_all_that_is_known() {
    let node = node();
    let (members, client) = cluster(&[], false);
    drop(members);
    let pods = pods(&manifest("cp1", client, INITIAL));
    let seen = look(&node.options, &pods, &refused(), &mut Cache::default(), &deadline());
    assert_eq!(seen.facts.cluster.present().map(|view| view.source), Some(ViewSource::InitialCluster));
    let healths: Vec<_> = seen.contract.members.iter().map(|member| member.healthy).collect();
    assert_eq!(healths, [Verdict::No, Verdict::Unknown, Verdict::Unknown]);
    assert!(matches!(seen.facts.alarms, Observed::Unknown(_)));
    let nameless = manifest("cp1", client, "");
    let pods = super::tests::pods(&nameless);
    let seen = look(&node.options, &pods, &refused(), &mut Cache::default(), &deadline());
    assert_eq!((seen.contract.quorum, seen.contract.members.len()), (0, 0), "unknown is not one");
}

#[test]
fn an_etcd_without_a_manifest_is_asked_all_the_same() {
    let node = node();
    let (_members, client) = cluster(&[0, 1], false);
    let pods = pods(&manifest("cp1", client, INITIAL));
    // By the members' own words, where nothing was asked.
    let seen = look(&node.options, &pods, &[], &mut Cache::default(), &deadline());
    let local = seen.contract.members.iter().find(|member| member.local).expect("listed");
    assert_eq!(local.healthy, Verdict::Yes);
    assert_eq!(seen.facts.projection.expect("known").refusals, [Refusal::BelowQuorum]);
    // By its own, where a backup says where.
    let prober = Prober::new(&node.options, |_| Limits::default());
    let of = |managed: &[Component]| {
        of_unmanaged_etcd(&node.options, &pods, managed, &prober, &deadline()).map(|fact| fact.state)
    };
    assert_eq!(of(&[Component::Etcd]), None);
    let Some(HealthState::Probed(Outcome::Answered { report })) = of(&[Component::KubeScheduler]) else {
        panic!("it answers")
    };
    assert_eq!(report.verdict, healthz::Verdict::Healthy);
}

#[test]
fn without_a_leader_nobody_needs_a_silent_vote() {
    let settled = |others: [MemberHealth; 2]| {
        let mut view = ClusterView::from_initial_cluster(INITIAL).expect("parses");
        view.set_health("cp2", others[0]);
        view.set_health("cp3", others[1]);
        members::settle(&mut view, "cp1");
        view.members.iter().find(|member| member.name == "cp1").expect("listed").health
    };
    assert_eq!(settled([MemberHealth::Unhealthy, MemberHealth::Unhealthy]), MemberHealth::Unhealthy);
    for other in [MemberHealth::Healthy, MemberHealth::Unknown] {
        assert_eq!(settled([other, MemberHealth::Unhealthy]), MemberHealth::Unknown);
    }
    let mut alone = ClusterView::from_initial_cluster("cp1=http://127.0.0.1:2380").expect("parses");
    members::settle(&mut alone, "cp1");
    assert_eq!(alone.members.first().expect("one").health, MemberHealth::Unknown);
}

#[test]
fn a_silent_member_is_not_waited_for_before_the_others() {
    let node = node();
    let (_members, client) = cluster(&[1, 2], false);
    // It accepts and says nothing, as a stopped process does.
    let silent = std::net::TcpListener::bind(client).expect("bind");
    let pods = pods(&manifest("cp1", client, INITIAL));
    let hung = probed(Outcome::Hung { phase: Phase::FirstByte });
    let seen = look(&node.options, &pods, &hung, &mut Cache::default(), &deadline());
    assert_eq!(seen.facts.cluster.present().map(|view| view.source), Some(ViewSource::Cluster));
    assert!(seen.facts.projection.expect("known").is_allowed(), "two others are well");
    drop(silent);
}

/// What the one at `client` is said to be when nobody answers, and what may not be done to it.
fn unheard(node: &Node, initial: &str, outcome: Outcome) -> (Verdict, Vec<Refusal>) {
    let (members, client) = cluster(&[], false);
    drop(members);
    let pods = pods(&manifest("cp1", client, initial));
    let seen = look(&node.options, &pods, &probed(outcome), &mut Cache::default(), &deadline());
    let local = seen.contract.members.iter().find(|member| member.local).expect("listed");
    (local.healthy, seen.facts.projection.expect("known").refusals)
}

#[test]
fn a_member_that_is_silent_may_still_vote() {
    let (three, alone) = (node(), node());
    write_member_of(&alone.options.resolve("/var/lib/etcd"), &[("a1", r#"{"id":161,"name":"cp1"}"#)]);
    let why = String::from("why");
    let silent = [Outcome::Timeout, Outcome::Hung { phase: Phase::FirstByte }];
    let strange = [
        Outcome::Tls { reason: why.clone() },
        Outcome::NotHttp { reason: why.clone() },
        Outcome::Unreachable { reason: why },
        Outcome::Reset { phase: Phase::FirstByte },
    ];
    let may_vote = (Verdict::Unknown, vec![Refusal::BelowQuorum]);
    for outcome in silent.iter().chain(&strange) {
        assert_eq!(unheard(&three, INITIAL, outcome.clone()), may_vote, "{outcome:?}");
    }
    for outcome in silent.into_iter().chain([Outcome::Refused]) {
        let serves_nobody = (Verdict::No, Vec::new());
        assert_eq!(
            unheard(&alone, "cp1=http://127.0.0.1:2380", outcome.clone()),
            serves_nobody,
            "{outcome:?}"
        );
    }
    assert_eq!(unheard(&three, INITIAL, Outcome::Refused), (Verdict::No, Vec::new()));
}

#[test]
fn one_name_in_the_manifest_is_no_cluster_of_one() {
    let node = node();
    let (members, client) = cluster(&[], false);
    drop(members);
    // As kubeadm writes it at each upgrade.
    let pods = pods(&manifest("cp1", client, "cp1=http://127.0.0.1:2380"));
    let hung = probed(Outcome::Hung { phase: Phase::FirstByte });
    let seen = look(&node.options, &pods, &hung, &mut Cache::default(), &deadline());
    assert_eq!((seen.contract.quorum, seen.contract.members.len()), (0, 0));
    assert!(seen.facts.projection.is_none());
    assert!(matches!(&seen.facts.cluster, Observed::Unknown(why) if why.contains("of any size")));
}

/// As etcd 3.5.1 to 3.5.19 leave it: members that joined by kubeadm, as learners, and were promoted.
#[test]
fn members_whose_promotion_the_database_does_not_know_vote_and_are_asked() {
    let node = node();
    let listed = [
        ("a1", r#"{"id":161,"peerURLs":["http://127.0.0.1:2380"],"name":"cp1"}"#),
        ("a2", r#"{"id":162,"peerURLs":["http://127.0.0.2:2380"],"isLearner":true}"#),
        ("a3", r#"{"id":163,"peerURLs":["http://127.0.0.3:2380"],"isLearner":true}"#),
    ];
    write_member_of(&node.options.resolve("/var/lib/etcd"), &listed);
    let alone = "cp1=http://127.0.0.1:2380";
    let hung = Outcome::Hung { phase: Phase::FirstByte };
    let may_vote = (Verdict::Unknown, vec![Refusal::BelowQuorum]);
    assert_eq!(unheard(&node, alone, hung.clone()), may_vote, "the founder");
    let (members, client) = cluster(&[1, 2], false);
    let text = pods(&manifest("cp1", client, alone));
    let seen = look(&node.options, &text, &probed(hung.clone()), &mut Cache::default(), &deadline());
    assert_eq!(seen.facts.cluster.present().map(|view| view.source), Some(ViewSource::Cluster));
    assert!(seen.facts.projection.expect("known").is_allowed(), "two others are well");
    drop(members);

    // One that joined: nameless in its own database, at the address of another name.
    let joined = ("a1", r#"{"id":161,"peerURLs":["http://127.0.0.9:2380"],"isLearner":true}"#);
    write_member_of(&node.options.resolve("/var/lib/etcd"), &[joined, listed[1]]);
    assert_eq!(unheard(&node, alone, hung), may_vote, "one that joined");
    let seen = look(&node.options, &text, &refused(), &mut Cache::default(), &deadline());
    assert_ne!(seen.contract.data, EtcdData::Foreign);
}

#[test]
fn a_member_with_an_alarm_is_asked_and_is_alive() {
    let node = node();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = listener.local_addr().expect("address");
    let manner = Manner { alarm: Some("NOSPACE"), ..Manner::default() };
    let _member = FakeMember::start_as(listener, 0xa1, vec![Listed(0xa1, "cp1", client, false)], manner);
    let report = healthz::parse(b"{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}");
    let pods = pods(&manifest("cp1", client, "cp1=http://127.0.0.1:2380"));
    let health = probed(Outcome::Answered { report });
    let seen = look(&node.options, &pods, &health, &mut Cache::default(), &deadline());
    assert!(seen.contract.alarms.iter().any(|alarm| alarm.contains("NOSPACE")), "{:?}", seen.facts.alarms);
    let local: Vec<Verdict> =
        seen.contract.members.iter().filter(|member| member.local).map(|member| member.healthy).collect();
    assert_eq!(local, [Verdict::Yes]);
    assert_eq!(seen.facts.projection.expect("known").refusals, [Refusal::BelowQuorum]);
}

#[test]
fn data_are_judged_once_and_not_longer_than_there_is_time() {
    let node = node();
    let pods = pods(&manifest("cp1", "127.0.0.1:1".parse().expect("address"), "cp1=http://127.0.0.1:2380"));
    let mut cache = Cache::default();
    let over = Deadline::after(Duration::ZERO);
    let early = look(&node.options, &pods, &refused(), &mut cache, &over);
    assert!(matches!(early.data, Observed::Unknown(_)), "half read is not intact: {:?}", early.data);
    assert_eq!(early.contract.data, EtcdData::Unknown);
    let first = look(&node.options, &pods, &refused(), &mut cache, &deadline());
    assert_eq!(first.data, Observed::Present(DataVerdict::Intact));
    let again = look(&node.options, &pods, &refused(), &mut cache, &over);
    assert_eq!(again.data, Observed::Present(DataVerdict::Intact), "nothing changed, nothing is read");

    let db = node.options.resolve("/var/lib/etcd/member/snap/db");
    let mut broken = std::fs::read(&db).expect("read");
    broken.iter_mut().take(2 * 4096).for_each(|byte| *byte = 0xff);
    std::fs::write(&db, broken).expect("write");
    let changed = look(&node.options, &pods, &refused(), &mut cache, &deadline());
    assert!(matches!(changed.data, Observed::Present(DataVerdict::DbCorrupt(_))), "{:?}", changed.data);
    assert_eq!(changed.contract.data, EtcdData::Damaged);
    assert_eq!(changed.facts.data.present().map(|data| data.state), Some(DataState::DbBroken));
}

#[test]
fn data_on_a_read_only_file_system_do_not_lack_space() {
    let node = node();
    let (folder, options) = crate::etcd::CheckOptions::of_node(&node.options, None);
    let mut verdict = crate::etcd::check_with(&folder, &options, &deadline());
    let mut say = |kind, message: &str| {
        verdict.state = DataState::NoSpace;
        verdict.findings = vec![crate::etcd::Finding {
            kind,
            state: DataState::NoSpace,
            file: folder.clone(),
            offset: None,
            record: None,
            message: message.into(),
        }];
        data::in_short(&Observed::Present(verdict.clone()))
    };
    let read_only = say(FindingKind::ReadOnly, "mounted read-only");
    assert_eq!(read_only, Observed::Present(DataVerdict::ReadOnly("mounted read-only".into())));
    assert_eq!(contract_data(&read_only), EtcdData::NoSpace, "etcd is not started on it");
    let full = say(FindingKind::NoSpace, "no inode left");
    assert_eq!(full, Observed::Present(DataVerdict::NoSpace("no inode left".into())));
}

#[test]
fn data_in_use_are_locked_whatever_was_known_before() {
    let node = node();
    let pods = pods(&manifest("cp1", "127.0.0.1:1".parse().expect("address"), "cp1=http://127.0.0.1:2380"));
    let mut cache = Cache::default();
    look(&node.options, &pods, &refused(), &mut cache, &deadline());
    let db = std::fs::File::open(node.options.resolve("/var/lib/etcd/member/snap/db")).expect("open");
    rustix::fs::flock(&db, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("lock");
    let seen = look(&node.options, &pods, &refused(), &mut cache, &deadline());
    assert!(matches!(seen.data, Observed::Present(DataVerdict::Locked(_))), "{:?}", seen.data);
    std::fs::remove_dir_all(node.options.resolve("/var/lib/etcd/member")).expect("remove");
    let gone = look(&node.options, &pods, &refused(), &mut cache, &deadline());
    assert_eq!(gone.contract.data, EtcdData::Empty);
    std::fs::remove_dir_all(node.options.resolve("/var/lib/etcd")).expect("remove");
    let gone = look(&node.options, &pods, &refused(), &mut cache, &deadline());
    assert_eq!(gone.contract.data, EtcdData::Missing);
}
