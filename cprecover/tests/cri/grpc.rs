//! The gRPC client against recorded answers and against servers that misbehave.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use cprecover::cri::{Runtime, Transport, connect, wire};
use cprecover::model::{ContainerId, Observed, Pid, SandboxId};
use cprecover::sys::{CommandOutput, CommandSpec, Commands, Deadline};
use cprecover::{Error, ErrorKind, NodeOptions, Result};
use prost::Message as _;
use tonic::Status;

use crate::fixtures::{self, named};
use crate::node::soon;
use crate::replay::{Manner, Server};

/// A machine without programs.
struct Nothing;

impl Commands for Nothing {
    fn run(&self, spec: &CommandSpec, _: &Deadline) -> Result<CommandOutput> {
        Err(Error::new(ErrorKind::NotFound, format!("no {}", spec.program.display())))
    }
}

fn open(server: &Server) -> Box<dyn Runtime + 'static> {
    connect(&server.node(), &Nothing, &soon()).expect("answers")
}

fn refused(node: &NodeOptions, deadline: &Deadline) -> Error {
    connect(node, &Nothing, deadline).err().expect("no connection")
}

fn within(millis: u64) -> Deadline {
    Deadline::after(Duration::from_millis(millis))
}

#[test]
fn recorded_lists_arrive_as_crictl_printed_them() {
    for recorded in &fixtures::ALL {
        let server = Server::start(recorded.state(), Manner::Honest);
        let runtime = open(&server);
        assert_eq!(runtime.list(&soon()).expect("lists"), recorded.state(), "{}", recorded.name);
        let info = runtime.info(&soon()).expect("tells");
        assert_eq!((info.name.as_str(), info.transport), ("containerd", Transport::Grpc));
        assert!(info.is_ready());
        assert_eq!(info.conditions[1].message, "cni plugin not initialized");
    }
}

#[test]
fn a_container_tells_pid_cgroup_and_end() {
    let state = named("incident-deadlock").state();
    let running = state.containers.iter().find(|c| c.is_running()).expect("one").id.clone();
    let exited = state.containers.iter().find(|c| !c.is_running()).expect("one").id.clone();
    let server = Server::start(state, Manner::Honest);
    let runtime = open(&server);
    let detail = runtime.container_detail(&running, &soon()).expect("a status");
    assert_eq!(detail.pid, Pid::new(4242));
    assert_eq!(detail.cgroups_path, Some(format!("/kubepods/burstable/podx/{running}")));
    assert_eq!((detail.exit_code, detail.finished_at), (None, None));
    let detail = runtime.container_detail(&exited, &soon()).expect("a status");
    assert_eq!((detail.pid, detail.exit_code), (None, Some(1)), "the pid may be someone else's by now");
    let error = runtime.container_detail(&ContainerId::new("nope"), &soon()).expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn changes_carry_the_ids_and_the_grace() {
    let server = Server::start(named("health").state(), Manner::Honest);
    let runtime = open(&server);
    let (sandbox, container) = (SandboxId::new("s1"), ContainerId::new("c1"));
    runtime.stop_container(&container, Duration::from_millis(1500), &soon()).expect("stops");
    runtime.remove_container(&container, &soon()).expect("removes");
    runtime.stop_sandbox(&sandbox, &soon()).expect("stops");
    runtime.remove_sandbox(&sandbox, &soon()).expect("removes");
    let calls = server.calls();
    let methods: Vec<&str> = calls.iter().map(|(method, _)| method.as_str()).collect();
    assert_eq!(
        methods,
        ["Version", "StopContainer", "RemoveContainer", "StopPodSandbox", "RemovePodSandbox"]
    );
    let stop = wire::StopContainerRequest::decode(calls[1].1.as_slice()).expect("decodes");
    assert_eq!((stop.container_id.as_str(), stop.timeout), ("c1", 2));
    assert_eq!(calls[3].1, [b"\x0a\x02".as_slice(), b"s1"].concat(), "field 1, two bytes");
}

#[test]
fn what_is_gone_already_is_stopped_and_removed() {
    let server = Server::start(named("health").state(), Manner::Honest);
    let runtime = open(&server);
    drop(server);
    let gone = Server::start(named("health").state(), Manner::Refuses(Status::not_found("no such sandbox")));
    let error = runtime.stop_sandbox(&SandboxId::new("s1"), &soon()).expect_err("the first server has ended");
    assert_eq!(error.kind(), ErrorKind::Peer);
    let client = wire::Client::new(gone.node().resolve("/run/containerd/containerd.sock"));
    let request = wire::StopPodSandboxRequest { pod_sandbox_id: "s1".into() };
    let plain = client.call::<_, wire::StopPodSandboxResponse>("StopPodSandbox", "stop", request, &soon());
    assert_eq!(plain.expect_err("not found").kind(), ErrorKind::NotFound);
    // A version that is "not found" is a broken runtime, never an absent one.
    let error = refused(&gone.node(), &soon());
    assert_eq!(error.kind(), ErrorKind::Peer, "{error}");
}

#[test]
fn a_runtime_without_cri_says_so() {
    let status = Status::unimplemented("unknown service runtime.v1.RuntimeService");
    let server = Server::start(named("health").state(), Manner::Refuses(status));
    let error = refused(&server.node(), &soon());
    assert_eq!(error.kind(), ErrorKind::Peer);
    assert!(error.to_string().contains("unknown service runtime.v1.RuntimeService"), "{error}");
    assert!(error.to_string().contains("containerd.sock"), "{error}");
}

#[test]
fn a_hang_ends_at_the_deadline_and_names_the_sandbox() {
    let server = Server::start(named("health").state(), Manner::Hangs("StopPodSandbox"));
    let runtime = open(&server);
    let start = Instant::now();
    let error = runtime.stop_sandbox(&SandboxId::new("1bdbfb32"), &within(400)).expect_err("hangs");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("stop sandbox 1bdbfb32"), "{error}");
    runtime.list(&soon()).expect("the next call is not disturbed");
    let hung = Server::start(named("health").state(), Manner::Hangs("Version"));
    assert_eq!(refused(&hung.node(), &within(300)).kind(), ErrorKind::Timeout);
}

#[test]
fn garbage_and_floods_are_errors_not_empty_lists() {
    // A field 1 that claims to be longer than the message.
    let server = Server::start(named("health").state(), Manner::Says(vec![0x0a, 0xff, 0x01, b'x']));
    assert_eq!(refused(&server.node(), &soon()).kind(), ErrorKind::Peer);
    let server = Server::start(named("health").state(), Manner::Says(vec![0; 17 << 20]));
    let error = refused(&server.node(), &soon());
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    // Empty messages, of which each takes hundreds of bytes once it is decoded.
    let server = Server::start(named("health").state(), Manner::Says([0x0a, 0].repeat(1 << 20)));
    let error = refused(&server.node(), &soon());
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn a_socket_that_speaks_something_else_is_a_broken_peer() {
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::create_dir_all(dir.path().join("run/crio")).expect("mkdir");
    let listener = UnixListener::bind(dir.path().join("run/crio/crio.sock")).expect("binds");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepts");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("writes");
        // Until the client hangs up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let node = NodeOptions::at(dir.path()).expect("absolute");
    let error = refused(&node, &soon());
    assert_eq!(error.kind(), ErrorKind::Peer, "{error}");
    server.join().expect("ends");
}

#[test]
fn a_closed_door_is_unknown_never_absent() {
    let server = Server::start(named("health").state(), Manner::Honest);
    let socket = server.node().resolve("/run/containerd/containerd.sock");
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).expect("chmod");
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give up root's way around file modes");
        return;
    }
    // The file-system user is per thread; without it root's capabilities over files are gone.
    let result = std::thread::spawn({
        let node = server.node();
        move || {
            // The temp folder itself is open to its owner only.
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
            connect(&node, &Nothing, &soon()).map(|_| ())
        }
    })
    .join()
    .expect("no panic");
    let error = result.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(matches!(Observed::from_result(Err::<(), _>(error)), Observed::Unknown(_)));
}

#[test]
fn no_socket_at_all_is_unknown_too() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut node = NodeOptions::at(dir.path()).expect("absolute");
    let error = refused(&node, &soon());
    assert_eq!(error.kind(), ErrorKind::Peer);
    assert!(error.to_string().contains("/run/crio/crio.sock"), "{error}");
    node.runtime_endpoint = Some("unix:///run/x.sock".into());
    let error = refused(&node, &soon());
    assert_eq!(error.kind(), ErrorKind::Peer);
    assert!(error.to_string().contains(&format!("{}/run/x.sock", dir.path().display())), "{error}");
    node.runtime_endpoint = Some("tcp://127.0.0.1:1".into());
    assert_eq!(refused(&node, &soon()).kind(), ErrorKind::Invalid);
}

#[test]
fn a_dead_socket_does_not_hide_a_living_one_nor_a_long_path() {
    let deep = format!("run/{}/k3s", "d".repeat(90));
    let server =
        Server::start_at(&format!("{deep}/containerd.sock"), named("health").state(), Manner::Honest);
    let mut node = server.node();
    node.runtime_endpoint = Some(format!("unix:///{deep}/containerd.sock"));
    connect(&node, &Nothing, &soon()).expect("longer than a socket address takes");
    let server =
        Server::start_at("run/k3s/containerd/containerd.sock", named("health").state(), Manner::Honest);
    let node = server.node();
    let stale = node.resolve("/run/containerd/containerd.sock");
    std::fs::create_dir_all(stale.parent().expect("a folder")).expect("mkdir");
    drop(UnixListener::bind(&stale).expect("binds"));
    let runtime = connect(&node, &Nothing, &soon()).expect("the second socket answers");
    let info = runtime.info(&soon()).expect("tells");
    assert!(info.endpoint.ends_with("/run/k3s/containerd/containerd.sock"), "{}", info.endpoint);
}

#[test]
fn calls_work_from_inside_an_async_runtime() {
    let server = Server::start(named("health").state(), Manner::Honest);
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    let count = executor.block_on(async {
        let runtime = open(&server);
        runtime.list(&soon()).expect("lists").sandboxes.len()
    });
    assert_eq!(count, 4);
}
