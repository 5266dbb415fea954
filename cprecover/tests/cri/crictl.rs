//! The `crictl` fallback against a script of what crictl prints.

use std::cell::RefCell;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use cprecover::cri::{ContainerState, Runtime, Transport, connect};
use cprecover::model::{ContainerId, Pid, SandboxId};
use cprecover::sys::{CommandOutput, CommandSpec, Commands, Deadline};
use cprecover::{ErrorKind, NodeOptions, Result};

use crate::fixtures::named;
use crate::node::soon;

const VERSION: &str =
    "Version:  0.1.0\nRuntimeName:  containerd\nRuntimeVersion:  v1.5.9\nRuntimeApiVersion:  v1alpha2\n";

/// Answers by subcommand; keeps what was asked.
struct Crictl {
    answer: fn(&[String]) -> CommandOutput,
    asked: RefCell<Vec<Vec<String>>>,
}

impl Commands for Crictl {
    fn run(&self, spec: &CommandSpec, _: &Deadline) -> Result<CommandOutput> {
        assert!(spec.program.ends_with("usr/bin/crictl"));
        assert!(spec.env.is_empty());
        let args: Vec<String> = spec.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        assert_eq!((args[0].as_str(), args[2].as_str()), ("--runtime-endpoint", "--timeout"));
        assert!(args[1].starts_with("unix:///"), "{}", args[1]);
        assert!(args[3].ends_with('s'), "{}", args[3]);
        let own = args[4..].to_vec();
        self.asked.borrow_mut().push(own.clone());
        Ok((self.answer)(&own))
    }
}

/// A node with `crictl` whose socket closes every connection at once, so that gRPC fails.
struct Node {
    dir: tempfile::TempDir,
    _listener: UnixListener,
}

fn node() -> Node {
    let dir = tempfile::tempdir().expect("temp dir");
    for folder in ["run/containerd", "usr/bin"] {
        std::fs::create_dir_all(dir.path().join(folder)).expect("mkdir");
    }
    std::fs::write(dir.path().join("usr/bin/crictl"), "").expect("write");
    let path = dir.path().join("run/containerd/containerd.sock");
    let listener = UnixListener::bind(path).expect("binds");
    let closing = listener.try_clone().expect("clones");
    // Ends with the test program; it holds nothing but the listener.
    std::thread::spawn(move || closing.incoming().for_each(drop));
    Node { dir, _listener: listener }
}

impl Node {
    fn connect<'a>(&self, crictl: &'a Crictl) -> Result<Box<dyn Runtime + 'a>> {
        connect(&NodeOptions::at(self.dir.path()).expect("absolute"), crictl, &soon())
    }
}

fn said(text: impl Into<Vec<u8>>) -> CommandOutput {
    CommandOutput::exited(0, text, "")
}

fn failed(code: &str) -> CommandOutput {
    let text = format!(
        "E1124 remote_runtime.go:205] \"Failed\"\ntime=\"x\" level=fatal msg=\"rpc error: code = {code} desc = y\""
    );
    CommandOutput::exited(1, "", text)
}

fn recorded(args: &[String]) -> CommandOutput {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let incident = named("incident-deadlock");
    match args.as_slice() {
        ["version"] => said(VERSION),
        ["info", "-o", "json"] => said(
            r#"{"status":{"conditions":[{"type":"RuntimeReady","status":true,"reason":"","message":""}]},"config":{}}"#,
        ),
        ["pods", "-o", "json"] => said(incident.pods),
        ["ps", "-a", "-o", "json"] => said(incident.ps),
        ["inspect", "-o", "json", "abc"] => said(
            r#"{"status":{"id":"abc","state":"CONTAINER_RUNNING","createdAt":"2026-11-24T00:59:21.5Z","startedAt":"2026-11-24T00:59:22.000000001Z","finishedAt":"1970-01-01T00:00:00Z","exitCode":0,"logPath":"/var/log/pods/x/etcd/8.log"},
               "info":{"pid":717,"runtimeSpec":{"linux":{"cgroupsPath":"kubepods-burstable-podx.slice:cri-containerd:abc"}}}}"#,
        ),
        ["inspect", ..] | ["stopp", "gone"] => failed("NotFound"),
        ["stopp", "hung"] => failed("DeadlineExceeded"),
        ["stopp" | "rmp" | "stop" | "rm", ..] => said(""),
        other => panic!("crictl has no {other:?}"),
    }
}

#[test]
fn crictl_tells_the_same_as_the_runtime() {
    let crictl = Crictl { answer: recorded, asked: RefCell::default() };
    let node = node();
    let runtime = node.connect(&crictl).expect("falls back");
    let info = runtime.info(&soon()).expect("tells");
    assert_eq!((info.transport, info.api_version.as_str()), (Transport::Crictl, "v1alpha2"));
    assert!(info.is_ready());
    assert_eq!(runtime.list(&soon()).expect("lists"), named("incident-deadlock").state());
    let detail = runtime.container_detail(&ContainerId::new("abc"), &soon()).expect("a status");
    assert_eq!((detail.state, detail.pid), (ContainerState::Running, Pid::new(717)));
    assert_eq!(detail.finished_at, None);
    assert_eq!(
        detail.started_at.map(|time| time.to_string()).as_deref(),
        Some("2026-11-24T00:59:22.000000001Z")
    );
    assert_eq!(detail.cgroups_path.as_deref(), Some("kubepods-burstable-podx.slice:cri-containerd:abc"));
    assert_eq!(detail.argv, None, "it does not tell");
    let error = runtime.container_detail(&ContainerId::new("def"), &soon()).expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn crictl_changes_by_id_and_never_by_anything_else() {
    let crictl = Crictl { answer: recorded, asked: RefCell::default() };
    let node = node();
    let runtime = node.connect(&crictl).expect("falls back");
    runtime.stop_sandbox(&SandboxId::new("gone"), &soon()).expect("gone is stopped");
    runtime.stop_container(&ContainerId::new("c1"), Duration::from_millis(1), &soon()).expect("stops");
    runtime.remove_sandbox(&SandboxId::new("s1"), &soon()).expect("removes");
    let error = runtime.stop_sandbox(&SandboxId::new("hung"), &soon()).expect_err("hangs");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("stop sandbox hung"), "{error}");
    for evil in ["", "-a", "--all", "a b", "../x"] {
        let error = runtime.remove_sandbox(&SandboxId::new(evil), &soon()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let asked = crictl.asked.borrow();
    let asked: Vec<String> = asked.iter().skip(1).map(|args| args.join(" ")).collect();
    assert_eq!(asked, ["stopp gone", "stop --timeout 1 c1", "rmp --force s1", "stopp hung"]);
}

#[test]
fn a_crictl_that_fails_or_lies_is_no_empty_runtime() {
    let node = node();
    let crictl = Crictl { answer: |_| failed("Unavailable"), asked: RefCell::default() };
    let error = node.connect(&crictl).err().expect("no connection");
    assert_eq!(error.kind(), ErrorKind::Peer);
    assert!(error.to_string().contains("code = Unavailable"), "{error}");
    let empty = Crictl {
        answer: |args| said(if args[0] == "version" { VERSION } else { "{}" }),
        asked: RefCell::default(),
    };
    let runtime = node.connect(&empty).expect("connects");
    assert_eq!(runtime.list(&soon()).expect_err("{} is no list").kind(), ErrorKind::Invalid);
}
