//! A member is saved before it is touched, or the step is not taken.

use std::net::TcpListener;

use super::*;
use crate::diagnose::{HealthFact, HealthState, ManifestFact, Subject};
use crate::etcd::check_with;
use crate::model::{Pid, Port, ProcessId};
use crate::node::NodeOptions;
use crate::probe::{Outcome, Phase};
use crate::recover::observation::{ExpectedPod, PodSource};
use crate::recover::observe::etcd::fake::{
    FakeMember, Listed, Manner, manifest, three_listeners, write_member,
};

struct Node {
    _dir: tempfile::TempDir,
    options: NodeOptions,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let options = NodeOptions::at(dir.path()).expect("absolute");
        write_member(&options.resolve("/var/lib/etcd"));
        std::fs::create_dir_all(options.store()).expect("mkdir");
        Self { _dir: dir, options }
    }

    fn saved(&self) -> Vec<String> {
        let Ok(entries) = self.options.store().join(SAVED).read_dir() else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

/// A node whose etcd's manifest names `client`, and nothing else about it.
fn seen(client: std::net::SocketAddr) -> Observation {
    seen_of(client, "cp1=http://127.0.0.1:2380")
}

fn seen_of(client: std::net::SocketAddr, initial_cluster: &str) -> Observation {
    let text = manifest("cp1", client, initial_cluster);
    let pod = StaticPod::parse(text.as_bytes()).expect("parses");
    let mut seen = Observation::blank();
    seen.pods =
        vec![ExpectedPod { component: Component::Etcd, source: Some(PodSource::Live), pod: Some(pod) }];
    seen
}

/// As it is, with the verdict on the node's data, which tell the member's id.
fn judged(node: &Node, mut seen: Observation) -> Observation {
    let manifest = seen.pods.first().and_then(|pod| pod.pod.as_ref());
    let (folder, options) = CheckOptions::of_node(&node.options, manifest);
    let verdict = check_with(&folder, &options, &Deadline::after(Duration::from_secs(20)));
    seen.etcd_facts.data = Observed::Present(verdict);
    seen
}

/// As [`seen`], with the manifest in its place.
fn managed(client: std::net::SocketAddr) -> Observation {
    let mut seen = seen(client);
    let pod = seen.pods.first().and_then(|pod| pod.pod.clone());
    seen.facts.manifests = vec![ManifestFact {
        component: Component::Etcd,
        path: "/etc/kubernetes/manifests/etcd.yaml".into(),
        pod: Observed::Present(pod.expect("known")),
        parse_error: None,
    }];
    seen
}

const BOUNCE: Action = Action::BounceStaticPod { component: Component::Etcd };

/// As the caller has agreed to, where nothing tells how many members there are.
fn run(node: &Node, action: &Action, seen: &Observation, unsaved_is_fine: bool) -> Result<Option<String>> {
    Ok(prepared(node, action, seen, unsaved_is_fine)?.map(|prepared| match prepared {
        Prepared::Saved(said) => said,
        Prepared::NotSaved(why) => format!("NOT: {why}"),
    }))
}

fn prepared(
    node: &Node,
    action: &Action,
    seen: &Observation,
    unsaved_is_fine: bool,
) -> Result<Option<Prepared>> {
    let deadline = Deadline::after(Duration::from_secs(20));
    let consents = [Consent::UnknownQuorum];
    prepare(&Host::new(&node.options), action, seen, unsaved_is_fine, &consents, &deadline)
}

fn closed() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address")
}

#[test]
fn what_does_not_touch_etcd_saves_nothing() {
    let node = Node::new();
    let process = ProcessId { pid: Pid::new(7).expect("positive"), start_ticks: 1 };
    for action in [
        Action::RestartKubelet,
        Action::BounceStaticPod { component: Component::KubeScheduler },
        Action::TerminateHolder { port: Port::new(6443).expect("not 0"), process },
    ] {
        assert_eq!(run(&node, &action, &managed(closed()), false).expect("nothing to do"), None);
    }
    assert_eq!(node.saved(), Vec::<String>::new());
}

#[test]
fn a_member_that_answers_is_snapshotted_unless_that_would_cost_the_quorum() {
    let node = Node::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = listener.local_addr().expect("address");
    // Two other voters, of which one is down: this one must not be ended.
    let down = closed();
    let listed = vec![
        Listed(0xa1, "cp1", client, false),
        Listed(0xa2, "cp2", client, false),
        Listed(0xa3, "cp3", down, false),
    ];
    let member = FakeMember::start(listener, 0xa1, listed);
    let error = run(&node, &BOUNCE, &seen(client), true).expect_err("below quorum");
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert!(error.to_string().contains("of 3 voting members are healthy, quorum 2"), "{error}");
    assert_eq!(node.saved(), Vec::<String>::new());
    drop(member);

    // The others list a membership without this node: nothing is lost by ending its process.
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = listener.local_addr().expect("address");
    let _member = FakeMember::start(listener, 0xb1, vec![Listed(0xb1, "other", client, false)]);
    let error = run(&node, &BOUNCE, &seen(client), false).expect_err("it may be the one that is listed");
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert!(error.to_string().contains("cannot be told"), "{error}");
    let seen = judged(&node, seen(client));
    for _ in 0..KEPT + 2 {
        let said = run(&node, &BOUNCE, &seen, false).expect("saved").expect("said");
        assert!(said.contains("snapshot ") && said.contains("sha256 "), "{said}");
        std::thread::sleep(Duration::from_millis(3));
    }
    let saved = node.saved();
    assert_eq!(saved.len(), KEPT, "{saved:?}");
    assert!(saved.iter().all(|name| name.ends_with(SNAPSHOT_END)));
    let newest = node.options.store().join(SAVED).join(saved.last().expect("one"));
    assert!(std::fs::read(newest).expect("read").starts_with(crate::recover::observe::etcd::fake::DB));
}

#[test]
fn of_two_members_of_one_name_the_data_tell_which_is_this_nodes() {
    let node = Node::new();
    let [first, second, third] = three_listeners().try_into().expect("three");
    let at = |listener: &TcpListener| listener.local_addr().expect("address");
    let client = at(&first);
    // The node was reinstalled: the dead one, listed first, was never removed.
    let listed = vec![
        Listed(0xa0, "cp1", at(&third), false),
        Listed(0xa1, "cp1", client, false),
        Listed(0xa2, "cp2", at(&second), false),
    ];
    drop(third);
    let _second = FakeMember::start(second, 0xa2, listed.clone());
    let _first = FakeMember::start(first, 0xa1, listed);
    for seen in [seen(client), judged(&node, seen(client))] {
        let error = run(&node, &BOUNCE, &seen, true).expect_err("one of three would be left");
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    }
}

#[test]
fn a_member_that_goes_while_another_is_saved_stops_the_step() {
    let node = Node::new();
    let [first, second, third] = three_listeners().try_into().expect("three");
    let at = |listener: &TcpListener| listener.local_addr().expect("address");
    let client = at(&first);
    let listed = vec![
        Listed(0xa1, "cp1", client, false),
        Listed(0xa2, "cp2", at(&second), false),
        Listed(0xa3, "cp3", at(&third), false),
    ];
    let _third = FakeMember::start(third, 0xa3, listed.clone());
    let second = std::sync::Mutex::new(Some(FakeMember::start(second, 0xa2, listed.clone())));
    let at_snapshot = Box::new(move || drop(second.lock().expect("whole").take()));
    let _first = FakeMember::start_as(first, 0xa1, listed, Manner { at_snapshot, ..Manner::default() });
    let error = run(&node, &BOUNCE, &seen(client), false).expect_err("two of three would be down");
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert_eq!(node.saved().len(), 1, "saved all the same");
}

#[test]
fn members_that_answered_the_last_look_and_nobody_now_stop_the_step() {
    let node = Node::new();
    let all = "cp1=http://127.0.0.1:2380,cp2=http://127.0.0.2:2380,cp3=http://127.0.0.3:2380";
    let report = crate::healthz::parse(b"{\"health\":\"true\"}");
    let hung = Outcome::Hung { phase: Phase::FirstByte };
    for outcome in [Outcome::Answered { report }, hung] {
        let mut seen = seen_of(closed(), all);
        let health = HealthState::Probed(outcome.clone());
        let subject = Some(Subject::Component(Component::Etcd));
        seen.facts.health = vec![HealthFact::new(subject, "http://x/health", health)];
        let error = run(&node, &BOUNCE, &seen, true).expect_err("two others may need this one");
        assert_eq!(error.kind(), ErrorKind::Changed, "{outcome:?}: {error}");
        assert!(error.to_string().contains("of 3 voting members"), "{error}");
    }
    // Nobody tells how many there are, and the caller did not agree to that.
    let (host, deadline) = (Host::new(&node.options), Deadline::after(Duration::from_secs(20)));
    let error = prepare(&host, &BOUNCE, &seen(closed()), true, &[], &deadline).expect_err("not known");
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    assert_eq!(node.saved(), Vec::<String>::new());
}

#[test]
fn a_restart_of_kubelet_is_a_step_on_a_member_without_a_manifest() {
    let node = Node::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = listener.local_addr().expect("address");
    let listed = vec![Listed(0xa1, "cp1", client, false), Listed(0xa2, "cp2", closed(), false)];
    let member = FakeMember::start(listener, 0xa1, listed);
    let copy = Action::QuarantineManifest { file: "etcd.yaml.bak".into() };
    for action in [Action::RestartKubelet, Action::RestartRuntime, copy] {
        let error = run(&node, &action, &seen(client), false).expect_err("it serves, and is needed");
        assert_eq!(error.kind(), ErrorKind::Changed, "{action}");
    }
    drop(member);
    let said =
        run(&node, &Action::RestartKubelet, &seen(client), false).expect("nobody serves").expect("said");
    assert!(said.starts_with("NOT: ") && said.contains("no etcd member answers"), "{said}");
    assert_eq!(node.saved(), Vec::<String>::new(), "what no step touches is not copied");
}

#[test]
fn a_manifest_that_comes_back_waits_for_no_copy() {
    let node = Node::new();
    std::fs::write(node.options.store().join(SAVED), "in the way").expect("write");
    let restore = Action::RestoreManifest { component: Component::Etcd, backup_id: "x".into() };
    assert_eq!(run(&node, &restore, &seen(closed()), false).expect("nothing to save"), None);
    assert_eq!(touches(&restore, &seen(closed())), Some(Touch::Returns), "but the cluster's lease is taken");
}

#[test]
fn a_stopped_member_is_copied_once() {
    let node = Node::new();
    let seen = seen(closed());
    let regenerate = Action::RegenerateComponent { component: Component::Etcd };
    let said = run(&node, &regenerate, &seen, false).expect("saved").expect("said");
    assert!(said.contains("copy of the member in"), "{said}");
    std::thread::sleep(Duration::from_millis(3));
    let again = run(&node, &BOUNCE, &seen, false).expect("saved").expect("said");
    assert!(again.contains("as it was saved in"), "{again}");
    let saved = node.saved();
    let [copy] = saved.as_slice() else { panic!("{saved:?}") };
    let copy = node.options.store().join(SAVED).join(copy);
    assert!(copy.join("SHA256SUMS").is_file() && copy.join("member/snap/db").is_file());

    let db = node.options.resolve("/var/lib/etcd/member/snap/db");
    std::thread::sleep(Duration::from_millis(10));
    std::fs::write(&db, std::fs::read(&db).expect("read")).expect("write");
    // What is written in the millisecond of a copy may be written after it.
    std::thread::sleep(Duration::from_millis(3));
    let changed = run(&node, &BOUNCE, &seen, false).expect("saved").expect("said");
    assert!(changed.contains("copy of the member in"), "{changed}");

    // Other data that were put in place keep their times.
    std::thread::sleep(Duration::from_millis(3));
    let (data, aside) = (node.options.resolve("/var/lib/etcd"), node.options.resolve("/var/lib/other"));
    let copied = std::process::Command::new("cp").args(["-a"]).arg(&data).arg(&aside).status();
    assert!(copied.expect("cp").success());
    std::thread::sleep(Duration::from_millis(3));
    let saved = run(&node, &BOUNCE, &seen, false).expect("saved").expect("said");
    assert!(saved.contains("as it was saved in"), "{saved}");
    std::fs::remove_dir_all(&data).expect("rm");
    std::fs::rename(&aside, &data).expect("mv");
    let other = run(&node, &BOUNCE, &seen, false).expect("saved").expect("said");
    assert!(other.contains("copy of the member in"), "{other}");
}

#[test]
fn a_member_in_use_that_does_not_answer_cannot_be_saved_and_that_is_said() {
    let node = Node::new();
    let db = std::fs::File::open(node.options.resolve("/var/lib/etcd/member/snap/db")).expect("open");
    rustix::fs::flock(&db, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("lock");
    let said = run(&node, &BOUNCE, &seen(closed()), false).expect("may go on").expect("said");
    assert!(said.contains("no etcd member answers: ") && said.contains("no copy: lock on"), "{said}");
    assert!(said.starts_with("NOT: "), "{said}");
    assert_eq!(node.saved(), Vec::<String>::new());
}

#[test]
fn a_save_that_fails_stops_the_step_unless_agreed() {
    let node = Node::new();
    std::fs::write(node.options.store().join(SAVED), "in the way").expect("write");
    let error = run(&node, &BOUNCE, &seen(closed()), false).expect_err("not saved");
    assert_eq!(error.kind(), ErrorKind::Refused);
    let said = run(&node, &BOUNCE, &seen(closed()), true).expect("agreed").expect("said");
    assert!(said.starts_with("NOT: ") && said.contains("not saved, as agreed"), "{said}");
}

/// Three well members; this node's has the id of its data and gives `database` as its snapshot.
fn three(database: &[u8]) -> (Observation, Vec<FakeMember>) {
    let listeners = three_listeners();
    let at: Vec<_> = listeners.iter().map(|listener| listener.local_addr().expect("address")).collect();
    let [first, second, third] = at.as_slice() else { panic!("three") };
    let listed = vec![
        Listed(0xa1, "cp1", *first, false),
        Listed(0xa2, "cp2", *second, false),
        Listed(0xa3, "cp3", *third, false),
    ];
    let members = listeners.into_iter().zip(0xa1..).map(|(listener, id)| {
        let manner = Manner { database: database.to_vec(), ..Manner::default() };
        FakeMember::start_as(listener, id, listed.clone(), manner)
    });
    (seen(*first), members.collect())
}

#[test]
fn a_member_that_answers_and_cannot_be_saved_is_not_ended() {
    let node = Node::new();
    let db = std::fs::File::open(node.options.resolve("/var/lib/etcd/member/snap/db")).expect("open");
    rustix::fs::flock(&db, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("lock");
    let mut zeroed = crate::recover::observe::etcd::fake::DB.to_vec();
    zeroed.iter_mut().skip(3 * 4096).take(4096).for_each(|byte| *byte = 0);
    let (seen, members) = three(&zeroed);
    for agreed in [false, true] {
        let error = run(&node, &BOUNCE, &seen, agreed).expect_err("what it gave is broken");
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert_eq!(node.saved(), Vec::<String>::new());
    }
    drop(members);

    let (seen, _members) = three(&[]);
    let error = run(&node, &BOUNCE, &seen, false).expect_err("it gives none");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let said = run(&node, &BOUNCE, &seen, true).expect("agreed").expect("said");
    assert!(said.starts_with("NOT: ") && said.contains("no snapshot: "), "{said}");
    drop(db);
    let said = run(&node, &BOUNCE, &seen, false).expect("nobody uses the files").expect("said");
    assert!(!said.starts_with("NOT: ") && said.contains("copy of the member in"), "{said}");
}

#[test]
fn what_a_run_left_that_was_killed_while_it_saved_is_removed() {
    let node = Node::new();
    let folder = node.options.store().join(SAVED);
    std::fs::create_dir_all(folder.join(".etcd-copy-Ab12/member/snap")).expect("mkdir");
    std::fs::write(folder.join(".etcd-copy-Ab12/member/snap/db"), "half").expect("write");
    std::fs::write(folder.join(".snapshot-Ab12.tmp"), "half").expect("write");
    run(&node, &BOUNCE, &managed(closed()), false).expect("copies");
    let saved = node.saved();
    assert!(saved.len() == 1 && saved.iter().all(|name| name.ends_with(COPY_END)), "{saved:?}");
}
