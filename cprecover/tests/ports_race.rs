//! A pid that is given out again between lookup and signal: nobody else is ever killed.
//!
//! Each try makes a holder, looks it up, ends it and starts a bystander that gets the very same pid
//! (`/proc/sys/kernel/ns_last_pid` of a pid namespace made for it), runs the same program and listens on
//! the same port. 1,500 tries by default; `CPRECOVER_RACE_TRIES=1000000` is the long form.

mod ports_support;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cprecover::ErrorKind;
use cprecover::NodeOptions;
use cprecover::model::{Pid, Port};
use cprecover::ports::{Class, NodeFacts, Query, RuntimeFacts, judge};
use cprecover::terminate::{EndOptions, Outcome, Target, end};
use ports_support as support;

/// Starts a `sleep` that holds the only descriptor of a listening socket, as its stdin.
fn holder(port: Port) -> Child {
    let socket = TcpListener::bind(("127.0.0.1", port.get())).expect("the port is free");
    sleeper(OwnedFd::from(socket).into())
}

fn sleeper(stdin: Stdio) -> Child {
    Command::new("/bin/sleep").arg("300").stdin(stdin).stdout(Stdio::null()).spawn().expect("sleep")
}

/// Starts a bystander with the pid of a reaped process; `None` when another process was faster.
fn bystander(pid: Pid, port: Port) -> Option<Child> {
    let socket = TcpListener::bind(("127.0.0.1", port.get())).expect("the port is free again");
    std::fs::write("/proc/sys/kernel/ns_last_pid", (pid.get() - 1).to_string()).expect("ns_last_pid");
    let mut child = sleeper(OwnedFd::from(socket).into());
    if support::pid_of(child.id()) == pid {
        return Some(child);
    }
    child.kill().expect("kills");
    child.wait().expect("waits");
    None
}

fn options(query: &Query) -> EndOptions {
    let mut options = EndOptions::on_node(&NodeOptions::default());
    options.port = Some(query.clone());
    options.release_wait = Duration::ZERO;
    options
}

/// Counts what happened, to show that the tries were tries.
#[derive(Debug, Default)]
struct Counts {
    recycled: u64,
    ended: u64,
    gone: u64,
    changed: u64,
}

impl Counts {
    fn take(&mut self, result: cprecover::Result<Outcome>) {
        match result {
            Ok(Outcome::AlreadyGone { .. }) => self.gone += 1,
            Ok(Outcome::Ended { .. }) => self.ended += 1,
            Ok(other) => panic!("unexpected outcome {other:?}"),
            Err(error) if error.kind() == ErrorKind::Changed => self.changed += 1,
            Err(error) => panic!("unexpected error {error}"),
        }
    }
}

fn one_try(number: u64, port: Port, counts: &mut Counts) {
    let mut victim = holder(port);
    let query = Query::new(port).likely_pids([support::pid_of(victim.id())]);
    let found = support::only_holder(&query);
    let pid = found.process.pid;
    // A thorough look at some, the bare target at most: the race is the same.
    let mut target = if number.is_multiple_of(16) {
        let evidence = support::evidence(&found, &query);
        let verdict = judge(&evidence, Ok(&RuntimeFacts::default()), &NodeFacts::default());
        assert!(matches!(verdict.class, Class::Unit { .. } | Class::Foreign { .. }), "{verdict:?}");
        Target::judged(&found, &evidence, &verdict)
    } else {
        Target::unjudged(&found)
    };
    // Every second target has lost its pidfd, as one that was written down and read again.
    if number.is_multiple_of(2) {
        target.handle = None;
    }
    let mut replace = move |delay: Duration| {
        std::thread::sleep(delay);
        victim.kill().expect("kills");
        victim.wait().expect("waits");
        bystander(pid, port)
    };
    let other = if number % 4 < 2 {
        let other = replace(Duration::ZERO);
        counts.take(end(&target, &options(&query), &support::deadline()));
        other
    } else {
        // Anything from before the holder's end to after the bystander's start: one of the two waits.
        let delay = Duration::from_micros(number * 7 % 1500);
        let (its, ours) = if number % 8 < 4 { (delay, Duration::ZERO) } else { (Duration::ZERO, delay) };
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || replace(its));
            std::thread::sleep(ours);
            counts.take(end(&target, &options(&query), &support::deadline()));
            thread.join().expect("replaces")
        })
    };
    if let Some(mut other) = other {
        counts.recycled += 1;
        assert!(other.try_wait().expect("waits").is_none(), "try {number}: the bystander was killed");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("lives");
        // Its name may still be ours: exec sets it after spawn has returned.
        assert!(!stat.contains(") Z") && !stat.contains(") X"), "try {number}: {stat}");
        // No signal is pending either.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("lives");
        for line in status.lines().filter(|line| line.starts_with("SigPnd") || line.starts_with("ShdPnd")) {
            assert!(line.ends_with("0000000000000000"), "try {number}: {line}");
        }
        other.kill().expect("kills");
        other.wait().expect("waits");
    }
}

#[test]
fn a_recycled_pid_is_never_signalled() {
    const NAME: &str = "a_recycled_pid_is_never_signalled";
    if !support::is_root() {
        return support::skip(NAME, "not root: no pid namespace");
    }
    if !std::path::Path::new("/proc/sys/kernel/ns_last_pid").exists() {
        return support::skip(NAME, "no ns_last_pid (CONFIG_CHECKPOINT_RESTORE)");
    }
    if !support::in_pid_namespace(NAME) {
        return;
    }
    let tries =
        std::env::var("CPRECOVER_RACE_TRIES").ok().map_or(1500, |text| text.parse().expect("a number"));
    let port = support::free_port();
    let mut counts = Counts::default();
    for number in 0..tries {
        one_try(number, port, &mut counts);
        if number > 0 && number % 50_000 == 0 {
            eprintln!("{number} tries: {counts:?}");
        }
    }
    eprintln!("{tries} tries: {counts:?}, no wrong kill");
    assert!(counts.recycled * 10 >= tries * 9, "too few pids were recycled: {counts:?}");
    assert!(counts.changed > 0 && counts.gone > 0 && counts.ended > 0, "a case is missing: {counts:?}");
}
