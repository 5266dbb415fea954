//! Who listens on a port, with real sockets and processes.

#![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod executable;
mod ports_support;

use std::net::{IpAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cprecover::ErrorKind;
use cprecover::model::Port;
use cprecover::ports::{Lookup, NetNamespace, Query, find, listeners};
use ports_support::{
    self as support, Cgroup, Spawn, deadline, free_port, holders, is_root, only_holder, skip,
};

#[test]
#[ignore = "not a test: what helper processes run"]
fn helper_role() {
    support::play_role(|role| match role {
        // Looks a port up and prints the answer, for a run as another user or in other namespaces.
        "look" => {
            let port: Port = std::env::var("CPT_PORT").expect("a port").parse().expect("a port");
            let lookup = find(&Query::new(port), &deadline()).expect("looks up");
            println!("lookup {}", serde_json::to_string(&lookup).expect("serialises"));
        }
        other => panic!("unknown role {other:?}"),
    });
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Returns which of `wanted` a listener on `address` keeps from being bound, as `find` says and as the
/// kernel says.
fn blocked(address: &str, v6_only: bool, wanted: &[&str]) -> (Vec<bool>, Vec<bool>) {
    let port = free_port();
    let socket = support::listener(format!("{address}:{port}").parse().expect("an address"), v6_only, false);
    let found = wanted
        .iter()
        .map(|wanted| match find(&Query::new(port).address(ip(wanted)), &deadline()).expect("looks up") {
            Lookup::Found { holders } => {
                assert_eq!(holders[0].process.pid, support::own_pid());
                true
            }
            Lookup::Free => false,
            other => panic!("{wanted}: {other:?}"),
        })
        .collect();
    let kernel = wanted
        .iter()
        .map(|wanted| {
            // Go's net.Listen("tcp", "0.0.0.0:…") binds a dual-stack `::` (favoriteAddrFamily), as the
            // components of the control plane do.
            let bound = if *wanted == "0.0.0.0" { "::" } else { wanted };
            TcpListener::bind((ip(bound), port.get())).is_err()
        })
        .collect();
    drop(socket);
    assert!(matches!(find(&Query::new(port), &deadline()).expect("looks up"), Lookup::Free));
    (found, kernel)
}

#[test]
fn what_a_listener_blocks_is_what_the_kernel_refuses() {
    let wanted = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"];
    for (address, v6_only) in [
        ("127.0.0.1", false),
        ("0.0.0.0", false),
        ("[::1]", false),
        ("[::1]", true),
        ("[::]", false),
        ("[::]", true),
        ("[::ffff:127.0.0.1]", false),
    ] {
        // std binds `::` without IPV6_V6ONLY, as Go does.
        let (found, kernel) = blocked(address, v6_only, &wanted);
        assert_eq!(found, kernel, "{address} (v6 only: {v6_only}) against {wanted:?}");
    }
}

#[test]
fn a_clients_port_is_no_holder() {
    let server = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = free_port();
    let client = support_client(port, &server);
    let (_accepted, _) = server.accept().expect("accepts");
    assert_eq!(client.local_addr().expect("bound").port(), port.get());
    assert!(matches!(find(&Query::new(port), &deadline()).expect("looks up"), Lookup::Free));
}

fn support_client(port: Port, server: &TcpListener) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, ipproto, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP)).expect("socket");
    bind(&fd, &std::net::SocketAddr::from(([127, 0, 0, 1], port.get()))).expect("binds");
    connect(&fd, &server.local_addr().expect("bound")).expect("connects");
    fd.into()
}

#[test]
fn every_process_of_a_reuseport_group_is_found() {
    let port = free_port();
    let start = || {
        Spawn::role("listen").set("CPT_ADDRESS", format!("127.0.0.1:{port}")).set("CPT_REUSEPORT", 1).start()
    };
    let (first, second) = (start(), start());
    let mut pids: Vec<_> = holders(&Query::new(port)).iter().map(|holder| holder.process.pid).collect();
    pids.sort();
    let mut wanted = vec![first.pid, second.pid];
    wanted.sort();
    assert_eq!(pids, wanted);
}

#[test]
fn a_child_that_shares_the_socket_is_found_with_its_parent() {
    let port = free_port();
    let mut parent = {
        let spawn = Spawn::role("share").set("CPT_ADDRESS", format!("127.0.0.1:{port}"));
        start_with_child(spawn)
    };
    let child: i32 = parent.1;
    for hint in [parent.0.pid.get(), child] {
        let hint = cprecover::model::Pid::new(hint);
        let found = holders(&Query::new(port).likely_pids(hint));
        let pids: Vec<i32> = found.iter().map(|holder| holder.process.pid.get()).collect();
        assert!(pids.contains(&parent.0.pid.get()) && pids.contains(&child), "{pids:?}");
        assert_eq!(found[0].listeners, found[1].listeners);
    }
    parent.0.kill();
    // The child goes on holding the port.
    assert_eq!(only_holder(&Query::new(port)).process.pid.get(), child);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child).expect("positive"),
        rustix::process::Signal::KILL,
    )
    .expect("ends the child");
}

/// Starts a helper that prints `child PID` before it is ready.
fn start_with_child(spawn: Spawn) -> (support::Helper, i32) {
    let (helper, lines) = spawn.start_noting("child ");
    (helper, lines.first().expect("a child").parse().expect("a pid"))
}

#[test]
fn a_thread_with_a_descriptor_table_of_its_own_is_found() {
    let port = free_port();
    let helper = Spawn::role("threads").set("CPT_ADDRESS", format!("127.0.0.1:{port}")).start();
    // The process' own table does not have it.
    let own = std::fs::read_dir(format!("/proc/{}/fd", helper.pid)).expect("lists");
    let sockets = own.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let inode = listeners(&Query::new(port)).expect("lists")[0].inode;
    assert!(!sockets.into_iter().any(|link| link == Path::new(&format!("socket:[{inode}]"))));
    for query in [Query::new(port), Query::new(port).likely_pids([helper.pid])] {
        assert_eq!(only_holder(&query).process.pid, helper.pid);
    }
}

#[test]
fn many_threads_find_what_one_finds() {
    let port = free_port();
    let helper = Spawn::role("listen").set("CPT_ADDRESS", format!("0.0.0.0:{port}")).start();
    for threads in [1, 2, 8] {
        let query = Query::new(port).threads(NonZeroUsize::new(threads).expect("not zero"));
        assert_eq!(only_holder(&query).process.pid, helper.pid);
    }
    assert_eq!(threads_named("cprecover-sweep"), 0, "a thread outlives its call");
}

/// Counts threads of this process; each name is used by one test only.
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("lists");
    let comms = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    comms.filter(|comm| comm.trim_end() == name).count()
}

#[test]
fn an_address_that_is_not_on_the_host_has_no_holder() {
    let port = free_port();
    let _wildcard = support::listener(format!("0.0.0.0:{port}").parse().expect("an address"), false, false);
    // TEST-NET-3 (RFC 5737) and the documentation prefix (RFC 3849): on no host.
    for address in ["203.0.113.7", "2001:db8::7"] {
        match find(&Query::new(port).address(ip(address)), &deadline()).expect("looks up") {
            Lookup::AddressNotOnHost { address: told } => assert_eq!(told, ip(address)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_holder_in_another_network_namespace() {
    const NAME: &str = "a_holder_in_another_network_namespace";
    if !is_root() {
        return skip(NAME, "not root: no network namespace");
    }
    let port = free_port();
    let helper = Spawn::role("listen")
        .set("CPT_ADDRESS", format!("10.99.0.1:{port}"))
        .under(&["unshare", "--net"])
        .shell("ip link set lo up && ip addr add 10.99.0.1/32 dev lo && exec \"$@\"")
        .start();
    assert!(matches!(find(&Query::new(port), &deadline()).expect("looks up"), Lookup::Free));
    let path = PathBuf::from(format!("/proc/{}/ns/net", helper.pid));
    for namespace in [NetNamespace::OfPid(helper.pid), NetNamespace::Path(path)] {
        let query = Query::new(port).namespace(namespace);
        assert_eq!(only_holder(&query).process.pid, helper.pid);
        // The address is looked for in there, too.
        assert_eq!(only_holder(&query.clone().address(ip("10.99.0.1"))).process.pid, helper.pid);
        let elsewhere = find(&query.address(ip("203.0.113.7")), &deadline()).expect("looks up");
        assert!(matches!(elsewhere, Lookup::AddressNotOnHost { .. }), "{elsewhere:?}");
    }
    let here = find(&Query::new(port).address(ip("10.99.0.1")), &deadline()).expect("looks up");
    assert!(matches!(here, Lookup::AddressNotOnHost { .. }), "{here:?}");
    assert_eq!(threads_named("cprecover-netns"), 0, "a thread outlives its call");
    let missing = Query::new(port).namespace(NetNamespace::Path("/run/netns/none-such".into()));
    assert_eq!(find(&missing, &deadline()).expect_err("no namespace").kind(), ErrorKind::NotFound);
}

#[test]
fn an_owner_in_another_pid_namespace_is_not_free() {
    const NAME: &str = "an_owner_in_another_pid_namespace_is_not_free";
    if !is_root() {
        return skip(NAME, "not root: no pid namespace");
    }
    let port = free_port();
    let _helper = Spawn::role("listen").set("CPT_ADDRESS", format!("127.0.0.1:{port}")).start();
    let text = support::output(
        Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(std::env::current_exe().expect("own path"))
            .args(["--exact", "helper_role", "--ignored", "--nocapture"])
            .env("CPT_ROLE", "look")
            .env("CPT_PORT", port.to_string()),
    );
    assert!(text.contains(r#""state":"owner-unknown""#), "{text}");
    assert!(text.contains("another pid namespace"), "{text}");
}

#[test]
fn an_owner_that_may_not_be_read_is_not_free() {
    const NAME: &str = "an_owner_that_may_not_be_read_is_not_free";
    if !is_root() {
        return skip(NAME, "not root: no other user to be");
    }
    let port = free_port();
    let _helper = Spawn::role("listen").set("CPT_ADDRESS", format!("127.0.0.1:{port}")).start();
    // The test binary's folder may be closed to nobody.
    let dir = tempfile::tempdir().expect("temp dir");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).expect("opens the folder");
    let program = dir.path().join("look");
    let own = std::env::current_exe().expect("own path");
    executable::install(&program, &std::fs::read(own).expect("own bytes"));
    let text = support::output(
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(program)
            .args(["--exact", "helper_role", "--ignored", "--nocapture"])
            .env("CPT_ROLE", "look")
            .env("CPT_PORT", port.to_string()),
    );
    assert!(text.contains(r#""state":"owner-unknown""#), "{text}");
    assert!(text.contains("permission denied"), "{text}");
}

#[test]
fn the_cgroup_of_a_socket_is_told_and_narrows_the_search() {
    const NAME: &str = "the_cgroup_of_a_socket_is_told_and_narrows_the_search";
    let Some(cgroup) = is_root().then(|| Cgroup::make("/cprecover-test-find/inner")).flatten() else {
        return skip(NAME, "no writable cgroup v2 hierarchy");
    };
    let port = free_port();
    let helper =
        Spawn::role("listen").set("CPT_ADDRESS", format!("127.0.0.1:{port}")).shell(&cgroup.enter()).start();
    let holder = only_holder(&Query::new(port));
    assert_eq!(holder.process.pid, helper.pid);
    let id = std::fs::metadata(&cgroup.folder).expect("exists").ino();
    assert_eq!(holder.listeners[0].cgroup_id, Some(id));
    // A procfs without other processes than the cgroup's answers as well: no other was read.
    let proc = tempfile::tempdir().expect("temp dir");
    std::os::unix::fs::symlink(format!("/proc/{}", helper.pid), proc.path().join(helper.pid.to_string()))
        .expect("links");
    let mut query = Query::new(port);
    query.proc_dir = proc.path().to_owned();
    assert_eq!(only_holder(&query).process.pid, helper.pid);
    // Moved elsewhere afterwards, the holder is found by the wider search.
    let root = cgroup.folder.parent().and_then(std::path::Path::parent).expect("a root");
    std::fs::write(root.join("cgroup.procs"), helper.pid.to_string()).expect("moves");
    assert_eq!(only_holder(&Query::new(port)).process.pid, helper.pid);
}

#[test]
fn a_deadline_ends_the_search() {
    let port = free_port();
    let _socket = support::listener(format!("127.0.0.1:{port}").parse().expect("an address"), false, false);
    let over = cprecover::sys::Deadline::after(std::time::Duration::ZERO);
    assert_eq!(find(&Query::new(port), &over).expect_err("no time").kind(), ErrorKind::Timeout);
}
