//! Ending real processes, and leaving others alone.

#![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod ports_support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::ports::{Class, Holder, NodeFacts, Query, RuntimeFacts, Verdict, judge};
use cprecover::terminate::{EndOptions, EtcdVersion, Freed, Outcome, Protection, Step, Target, end};
use cprecover::{ErrorKind, NodeOptions};
use ports_support::{
    self as support, Cgroup, Helper, Spawn, deadline, evidence, free_port, is_root, only_holder, skip,
};

/// A container id, as CRI makes them.
const CONTAINER: &str = "4280f16b89155464690954f3902c3119d8b0cd736da19095c597d000c730a2b4";

#[test]
#[ignore = "not a test: what helper processes run"]
fn helper_role() {
    support::play_role(|role| match role {
        // Has its own child look the port up and try to end the holder, its parent.
        "parent" => {
            let address = std::env::var("CPT_ADDRESS").expect("an address");
            let _socket = support::listener(address.parse().expect("an address"), false, false);
            let text = support::output(
                Command::new(std::env::current_exe().expect("own path"))
                    .args(["--exact", "helper_role", "--ignored", "--nocapture"])
                    .env("CPT_ROLE", "child"),
            );
            println!("child said {}", text.replace('\n', " "));
        }
        "child" => {
            let address = std::env::var("CPT_ADDRESS").expect("an address");
            let (_, port) = address.rsplit_once(':').expect("a port");
            let query = Query::new(port.parse().expect("a port"));
            let (target, options) = prepared(&only_holder(&query), &query);
            println!("result {:?}", end(&target, &options, &deadline()).map_err(|error| error.to_string()));
        }
        other => panic!("unknown role {other:?}"),
    });
}

fn options(query: &Query) -> EndOptions {
    let mut options = EndOptions::on_node(&NodeOptions::default());
    options.grace = Duration::from_secs(20);
    options.port = Some(query.clone());
    options
}

fn verdict(holder: &Holder, query: &Query) -> (cprecover::ports::Evidence, Verdict) {
    let evidence = evidence(holder, query);
    let verdict = judge(&evidence, Ok(&RuntimeFacts::default()), &NodeFacts::default());
    (evidence, verdict)
}

/// A target with everything that identifies it.
fn prepared(holder: &Holder, query: &Query) -> (Target, EndOptions) {
    let (evidence, verdict) = verdict(holder, query);
    assert!(evidence.exe.present().is_some() && evidence.cgroup.present().is_some(), "{evidence:?}");
    (Target::judged(holder, &evidence, &verdict), options(query))
}

/// Starts a helper on a free port and takes it as a target.
fn start(spawn: Spawn) -> (Helper, Target, EndOptions) {
    let port = free_port();
    let helper = spawn.set("CPT_ADDRESS", format!("127.0.0.1:{port}")).start();
    let query = Query::new(port).likely_pids([helper.pid]);
    let (target, options) = prepared(&only_holder(&query), &query);
    (helper, target, options)
}

fn ended(outcome: Outcome) -> (Vec<Step>, Vec<String>) {
    match outcome {
        Outcome::Ended { steps, release, notes } => {
            assert_eq!(release.port, Some(Freed::Free));
            (steps, notes)
        }
        other => panic!("did not end: {other:?}"),
    }
}

fn signals(steps: &[Step]) -> Vec<&'static str> {
    steps
        .iter()
        .filter_map(|step| match step {
            Step::Terminate => Some("term"),
            Step::Kill => Some("kill"),
            Step::KillCgroup { .. } => Some("cgroup"),
            _ => None,
        })
        .collect()
}

#[test]
fn a_holder_ends_by_sigterm_and_the_port_is_free() {
    let (mut helper, target, mut options) = start(Spawn::role("listen"));
    options.dry_run = true;
    match end(&target, &options, &deadline()).expect("rehearses") {
        Outcome::WouldEnd { steps, .. } => assert_eq!(signals(&steps), ["term", "kill"]),
        other => panic!("{other:?}"),
    }
    assert!(helper.is_running(), "a dry run signals nobody");
    options.dry_run = false;
    let (steps, _) = ended(end(&target, &options, &deadline()).expect("ends"));
    assert_eq!(signals(&steps), ["term"]);
    assert!(!helper.reap().success());
    // Once more: nothing is left to end.
    let again = end(&target, &options, &deadline()).expect("is gone");
    assert!(matches!(again, Outcome::AlreadyGone { .. }), "{again:?}");
}

#[test]
fn one_that_exits_between_lookup_and_signal_is_gone() {
    for keeps_handle in [true, false] {
        let (mut helper, mut target, options) = start(Spawn::role("listen"));
        if !keeps_handle {
            target.handle = None;
        }
        helper.kill();
        let outcome = end(&target, &options, &deadline()).expect("is gone");
        assert!(matches!(outcome, Outcome::AlreadyGone { release } if release.port == Some(Freed::Free)));
    }
}

#[test]
fn one_that_ignores_sigterm_is_killed_after_the_grace_time_only() {
    let (mut helper, target, mut options) = start(Spawn::role("listen").shell("trap '' TERM; exec \"$@\""));
    options.grace = Duration::from_millis(400);
    let start = Instant::now();
    let (steps, _) = ended(end(&target, &options, &deadline()).expect("ends"));
    assert_eq!(signals(&steps), ["term", "kill"]);
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&helper.reap()), Some(9));
}

#[test]
fn a_stopped_one_obeys_sigterm() {
    let (mut helper, target, options) = start(Spawn::role("listen"));
    let pid = rustix::process::Pid::from_raw(helper.pid.get()).expect("positive");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stops");
    for _ in 0..1000 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", helper.pid)).expect("reads");
        if stat.contains(") T ") {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let (steps, notes) = ended(end(&target, &options, &deadline()).expect("ends"));
    assert_eq!(signals(&steps), ["term"]);
    assert!(notes.iter().any(|note| note.contains("SIGCONT")), "{notes:?}");
    helper.reap();
}

#[test]
fn one_with_fifty_descriptor_tables_is_found_again_and_ended() {
    let (mut helper, target, options) = start(Spawn::role("threads"));
    ended(end(&target, &options, &deadline()).expect("ends"));
    helper.reap();
}

#[test]
fn another_program_under_the_same_pid_is_not_signalled() {
    for keeps_handle in [true, false] {
        let (mut helper, mut target, options) = start(Spawn::role("listen"));
        if !keeps_handle {
            target.handle = None;
        }
        helper.tell("exec");
        helper.line("done");
        std::thread::sleep(Duration::from_millis(100));
        let error = end(&target, &options, &deadline()).expect_err("it changed");
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
        assert!(error.to_string().contains(&format!("pid {}", helper.pid)), "{error}");
        assert!(helper.is_running());
    }
}

#[test]
fn one_that_let_go_of_the_port_is_not_signalled() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let query = Query::new(port);
    let socket = support::listener(address, false, false);
    let (target, options) = prepared(&only_holder(&query), &query);
    drop(socket);
    // The same port, the same process, another socket.
    let _socket = support::listener(address, false, false);
    let error = end(&target, &options, &deadline()).expect_err("it changed");
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
}

#[test]
fn a_shared_socket_is_reported_as_still_held() {
    let port = free_port();
    let (mut helper, words) =
        Spawn::role("share").set("CPT_ADDRESS", format!("127.0.0.1:{port}")).start_noting("child ");
    let child: i32 = words[0].parse().expect("a pid");
    let query = Query::new(port).likely_pids([helper.pid]);
    let holders = support::holders(&query);
    let parent = holders.iter().find(|holder| holder.process.pid == helper.pid).expect("found");
    let (target, mut options) = prepared(parent, &query);
    options.release_wait = Duration::from_millis(100);
    let outcome = end(&target, &options, &deadline()).expect("ends");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child).expect("positive"),
        rustix::process::Signal::KILL,
    )
    .expect("ends the child");
    match outcome {
        Outcome::Ended { release, notes, .. } => {
            assert_eq!(release.port, Some(Freed::StillHeld));
            assert!(notes.iter().any(|note| note.contains("shares")), "{notes:?}");
        }
        other => panic!("{other:?}"),
    }
    helper.reap();
}

#[test]
fn a_port_that_is_taken_over_is_no_failure() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let spawn = || Spawn::role("listen").set("CPT_ADDRESS", &address).set("CPT_REUSEPORT", 1);
    let (mut first, _second) = (spawn().start(), spawn().start());
    let query = Query::new(port);
    let holders = support::holders(&query);
    let holder = holders.iter().find(|holder| holder.process.pid == first.pid).expect("found");
    let (target, options) = prepared(holder, &query);
    match end(&target, &options, &deadline()).expect("ends") {
        Outcome::Ended { release, .. } => assert_eq!(release.port, Some(Freed::TakenOver)),
        other => panic!("{other:?}"),
    }
    first.reap();
}

fn refused(target: &Target, options: &EndOptions, protection: Protection) {
    let error = end(target, options, &deadline()).expect_err("is protected");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(protection.as_str()), "{error}");
}

#[test]
fn we_and_our_ancestors_are_never_ended() {
    let port = free_port();
    let query = Query::new(port);
    let _socket = support::listener(format!("127.0.0.1:{port}").parse().expect("an address"), false, false);
    let (target, options) = prepared(&only_holder(&query), &query);
    let target = target.lift(Protection::Caller);
    refused(&target, &options, Protection::Caller);

    let text = support::output(
        Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "helper_role", "--ignored", "--nocapture"])
            .env("CPT_ROLE", "parent")
            .env("CPT_ADDRESS", format!("127.0.0.1:{}", free_port())),
    );
    assert!(text.contains("an ancestor of the calling process"), "{text}");
}

#[test]
fn kubelet_runtime_and_shims_are_protected_unless_named() {
    let dir = tempfile::tempdir().expect("temp dir");
    for (name, role, protection) in [
        ("kubelet", "listen", Protection::Kubelet),
        ("containerd", "listen", Protection::Runtime),
        ("crio", "listen", Protection::Runtime),
        ("containerd-shim-runc-v2", "family", Protection::ShimWithChildren),
    ] {
        let (mut helper, target, options) = start(Spawn::role(role).named(dir.path(), name));
        refused(&target, &options, protection);
        assert!(helper.is_running());
        ended(end(&target.lift(protection), &options, &deadline()).expect("ends when named"));
        helper.reap();
    }
    // A shim without children protects nobody.
    let (mut helper, target, options) = start(Spawn::role("listen").named(dir.path(), "conmon"));
    ended(end(&target, &options, &deadline()).expect("ends"));
    helper.reap();
}

#[test]
fn the_init_of_another_pid_namespace_is_protected_unless_named() {
    const NAME: &str = "the_init_of_another_pid_namespace_is_protected_unless_named";
    if !is_root() {
        return skip(NAME, "not root: no pid namespace");
    }
    let port = free_port();
    // The helper tells its pid in its own namespace, 1; the lookup tells ours.
    let mut helper = Spawn::role("listen")
        .set("CPT_ADDRESS", format!("127.0.0.1:{port}"))
        .under(&["unshare", "--pid", "--fork"])
        .start();
    let query = Query::new(port);
    let holder = only_holder(&query);
    assert_eq!(helper.pid.get(), 1);
    let (target, mut options) = prepared(&holder, &query);
    refused(&target, &options, Protection::NamespaceInit);
    // Without a handler of its own, such a process gets SIGKILL only (pid_namespaces(7)).
    options.grace = Duration::from_millis(100);
    let (steps, _) =
        ended(end(&target.lift(Protection::NamespaceInit), &options, &deadline()).expect("ends"));
    assert_eq!(signals(&steps), ["term", "kill"]);
    helper.reap();
}

fn pod_cgroup(uid: &str) -> Option<Cgroup> {
    // A prefix of its own for each, as kubelet's cgroupRoot makes one.
    is_root().then(|| Cgroup::make(&format!("/cprecover-test-{uid}/kubepods/pod{uid}/{CONTAINER}"))).flatten()
}

/// Takes a holder in a container's cgroup as an orphan, as the judgement does for PID 1's children.
fn as_orphan(holder: &Holder, query: &Query) -> Target {
    let (evidence, mut verdict) = verdict(holder, query);
    let pod = evidence.cgroup.present().and_then(cprecover::ports::CgroupPath::pod).expect("in a pod");
    verdict.class = Class::Orphan { component: None, container: pod.container };
    Target::judged(holder, &evidence, &verdict)
}

#[test]
fn a_whole_cgroup_ends_and_nothing_beside_it() {
    const NAME: &str = "a_whole_cgroup_ends_and_nothing_beside_it";
    let Some(cgroup) = pod_cgroup("00000000000000000000000000000001") else {
        return skip(NAME, "no writable cgroup v2 hierarchy");
    };
    if !cgroup.folder.join("cgroup.kill").exists() {
        return skip(NAME, "no cgroup.kill (before Linux 5.14)");
    }
    for ignores_sigterm in [true, false] {
        let port = free_port();
        let trap = if ignores_sigterm { "trap '' TERM; " } else { "" };
        let mut helper = Spawn::role("family")
            .set("CPT_ADDRESS", format!("127.0.0.1:{port}"))
            .shell(&format!("{trap}{}", cgroup.enter()))
            .start();
        let mut bystander = sleeper();
        let query = Query::new(port).likely_pids([helper.pid]);
        let target = as_orphan(&only_holder(&query), &query);
        let mut options = options(&query);
        options.whole_cgroup = true;
        options.grace = Duration::from_millis(if ignores_sigterm { 200 } else { 20_000 });
        let (steps, _) = ended(end(&target, &options, &deadline()).expect("ends"));
        assert_eq!(signals(&steps), ["term", "cgroup"]);
        helper.reap();
        let end = Instant::now() + Duration::from_secs(10);
        while !cgroup.is_empty() {
            assert!(Instant::now() < end, "children are left in the cgroup");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(bystander.try_wait().expect("waits").is_none());
        bystander.kill().expect("kills");
        bystander.wait().expect("waits");
    }
}

fn sleeper() -> Child {
    Command::new("/bin/sleep").arg("60").stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("sleep")
}

#[test]
fn a_cgroup_with_a_stranger_in_it_is_not_killed() {
    const NAME: &str = "a_cgroup_with_a_stranger_in_it_is_not_killed";
    let uid = "00000000000000000000000000000002";
    let Some(cgroup) = pod_cgroup(uid) else {
        return skip(NAME, "no writable cgroup v2 hierarchy");
    };
    // A node in a container: another pod's container below this one.
    let inner =
        Cgroup::make(&format!("{}/kubepods/pod{uid}/{}", cgroup.path, "0".repeat(64))).expect("makes");
    let mut stranger = sleeper();
    std::fs::write(inner.folder.join("cgroup.procs"), stranger.id().to_string()).expect("moves");
    let port = free_port();
    let mut helper =
        Spawn::role("listen").set("CPT_ADDRESS", format!("127.0.0.1:{port}")).shell(&cgroup.enter()).start();
    let query = Query::new(port);
    let target = as_orphan(&only_holder(&query), &query);
    let mut options = options(&query);
    options.whole_cgroup = true;
    let error = end(&target, &options, &deadline()).expect_err("a stranger is in there");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(&format!("pid {}", stranger.id())), "{error}");
    assert!(helper.is_running() && stranger.try_wait().expect("waits").is_none());
    stranger.kill().expect("kills");
    stranger.wait().expect("waits");
    helper.kill();
}

#[test]
fn one_that_no_signal_reaches_is_reported_with_its_state() {
    const NAME: &str = "one_that_no_signal_reaches_is_reported_with_its_state";
    // The v1 freezer keeps a process in D state, SIGKILL or not, until it is thawed.
    let freezer = std::path::Path::new("/sys/fs/cgroup/freezer/cprecover-test-frozen");
    if !is_root() || std::fs::create_dir(freezer).is_err() {
        return skip(NAME, "no cgroup v1 freezer to make a D state with");
    }
    let (mut helper, target, mut options) = start(Spawn::role("listen"));
    std::fs::write(freezer.join("cgroup.procs"), helper.pid.to_string()).expect("moves");
    // Which of its cgroups names the process has not changed: v2's is still the same.
    std::fs::write(freezer.join("freezer.state"), "FROZEN").expect("freezes");
    options.grace = Duration::from_millis(100);
    options.kill_wait = Duration::from_millis(200);
    let outcome = end(&target, &options, &deadline());
    std::fs::write(freezer.join("freezer.state"), "THAWED").expect("thaws");
    helper.reap();
    for _ in 0..200 {
        if std::fs::remove_dir(freezer).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    match outcome.expect("reports") {
        Outcome::Survived { steps, state } => {
            assert_eq!(signals(&steps), ["term", "kill"]);
            assert!(state.contains("(D)"), "{state}");
        }
        other => panic!("{other:?}"),
    }
}

/// Listens, starts a thread that waits, and ends its first thread: a zombie that lives on.
const ZOMBIE: &str = r#"
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void *stay(void *none) { sleep(300); return none; }
int main(int count, char **args) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    at.sin_port = htons((unsigned short)atoi(args[count - 1]));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    pthread_t thread;
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4)) return 1;
    if (pthread_create(&thread, NULL, stay, NULL)) return 2;
    puts("ready");
    fflush(stdout);
    pthread_exit(NULL);
}
"#;

#[test]
fn a_zombie_whose_threads_live_is_found_named_and_ended() {
    const NAME: &str = "a_zombie_whose_threads_live_is_found_named_and_ended";
    let dir = tempfile::tempdir().expect("temp dir");
    let (source, program) = (dir.path().join("zombie.c"), dir.path().join("etcd"));
    std::fs::write(&source, ZOMBIE).expect("writes");
    let built = Command::new("gcc").args(["-pthread", "-o"]).arg(&program).arg(&source).status();
    if !built.is_ok_and(|status| status.success()) {
        return skip(NAME, "no gcc to make a zombie with");
    }
    let port = free_port();
    let mut child = Command::new(&program)
        .arg(port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let stat = format!("/proc/{}/stat", child.id());
    let until = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&stat).expect("lives").contains(") Z ") {
        assert!(Instant::now() < until, "it becomes no zombie");
        std::thread::sleep(Duration::from_millis(5));
    }
    let query = Query::new(port);
    let holder = only_holder(&query);
    assert_eq!(holder.process.pid, support::pid_of(child.id()));
    let (evidence, verdict) = verdict(&holder, &query);
    assert_eq!(evidence.state, cprecover::ports::ProcessState::Zombie);
    assert!(verdict.evidence[0].contains("a zombie"), "{verdict:?}");
    assert!(
        matches!(&verdict.class, Class::Unproven { missing } if missing.contains("zombie")),
        "nobody judges what cannot be read: {verdict:?}"
    );
    // By somebody who knows what it is, it can be ended: the signal reaches its threads.
    let outcome = end(&Target::unjudged(&holder), &options(&query), &deadline()).expect("ends");
    let (steps, _) = ended(outcome);
    assert_eq!(signals(&steps), ["term"]);
    child.wait().expect("waits");
}

#[test]
fn an_etcd_that_a_kill_corrupts_gets_more_time_and_a_note() {
    let (_helper, target, mut options) = start(Spawn::role("listen"));
    options.dry_run = true;
    options.grace = Duration::from_secs(1);
    options.etcd_version = Some(EtcdVersion(3, 5, 1));
    match end(&target, &options, &deadline()).expect("rehearses") {
        Outcome::WouldEnd { steps, notes } => {
            assert!(steps.contains(&Step::Wait { waited_ms: 60_000 }), "{steps:?}");
            assert!(notes.iter().any(|note| note.contains("3.5.1") && note.contains("13766")), "{notes:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cancel_during_the_grace_time_kills_nobody() {
    let (mut helper, target, options) = start(Spawn::role("listen").shell("trap '' TERM; exec \"$@\""));
    let cancel = cprecover::sys::CancelToken::default();
    let deadline = deadline().with_cancel(cancel.clone());
    let error = std::thread::scope(|scope| {
        let work = scope.spawn(|| end(&target, &options, &deadline).expect_err("is cancelled"));
        std::thread::sleep(Duration::from_millis(200));
        cancel.cancel();
        work.join().expect("returns")
    });
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.to_string().contains("SIGTERM was sent"), "{error}");
    assert!(helper.is_running());
}
