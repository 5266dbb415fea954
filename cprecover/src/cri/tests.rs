#![allow(clippy::indexing_slicing)]

use std::os::unix::net::UnixListener;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{Component, ContainerId, Pid, PodUid, SandboxId};
use crate::sys::{CommandOutput, CommandSpec, Commands, Deadline};
use crate::{ErrorKind, NodeOptions};

macro_rules! recorded {
    ($name:literal) => {
        RuntimeState {
            sandboxes: parse::pods(include_bytes!(concat!("../../testdata/", $name, "/crictl-pods.json")))
                .expect($name),
            containers: parse::containers(include_bytes!(concat!(
                "../../testdata/",
                $name,
                "/crictl-ps.json"
            )))
            .expect($name),
            ..RuntimeState::default()
        }
    };
}

fn ids<'a>(sandboxes: &[&'a Sandbox]) -> Vec<&'a str> {
    sandboxes.iter().map(|sandbox| &sandbox.id.as_str()[..8]).collect()
}

#[test]
fn crictl_of_a_real_node_is_read_field_by_field() {
    let state = recorded!("health");
    assert_eq!((state.sandboxes.len(), state.containers.len()), (4, 4));
    let etcd = state.newest_sandbox("kube-system", "etcd-cp1").expect("etcd");
    assert_eq!(etcd.uid, PodUid::new("b861a3bef24128f124b376302f365ff0"));
    assert_eq!(etcd.config_hash(), Some("b861a3bef24128f124b376302f365ff0"));
    assert_eq!(etcd.config_seen(), Some("2026-11-24T00:14:59.939698474Z"));
    assert!(etcd.is_static());
    assert_eq!((etcd.state, etcd.attempt), (SandboxState::Ready, 0));
    assert_eq!(etcd.created_at, UnixNanos(1_795_479_478_086_300_254));
    let container = state.component_containers(Component::Etcd)[0];
    assert_eq!(container.image, "registry.k8s.io/etcd:3.6.8-0");
    assert_eq!(container.restart_count(), Some(0));
    assert!(container.is_running());
    assert_eq!(state.sandbox_of(container), Some(etcd));
    assert_eq!(state.container(&container.id), Some(container));
    assert!(state.knows_pod(&etcd.uid));
    assert!(!state.knows_pod(&PodUid::new("e8a1f3842d0848ca37646440e3b5690d")));
}

#[test]
fn the_unit_is_that_of_the_runtime_that_kubelet_uses() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut node = NodeOptions::at(dir.path()).expect("absolute");
    assert_eq!(unit(&node).expect("told"), "containerd.service", "nothing tells of another one");
    let flags = node.resolve("/var/lib/kubelet/kubeadm-flags.env");
    std::fs::create_dir_all(flags.parent().expect("a folder")).expect("mkdir");
    for (socket, expected) in [
        ("/var/run/crio/crio.sock", "crio.service"),
        ("/run/cri-dockerd.sock", "cri-docker.service"),
        ("/run/containerd/containerd.sock", "containerd.service"),
    ] {
        let text = format!("KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix://{socket}\"\n");
        std::fs::write(&flags, text).expect("write");
        assert_eq!(unit(&node).expect("told"), expected, "{socket}");
    }
    node.runtime_endpoint = Some("unix:///run/crio/crio.sock".into());
    assert_eq!(unit(&node).expect("told"), "crio.service");
    // What kubelet uses is not known where its file cannot be read.
    std::fs::remove_file(&flags).expect("remove");
    std::fs::create_dir(&flags).expect("mkdir");
    node.runtime_endpoint = None;
    assert!(unit(&node).is_err());
    std::fs::remove_dir(&flags).expect("remove");
    // Of two that nothing names, one that nobody listens on is left over.
    let at = |path: &str| {
        let path = node.resolve(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
        UnixListener::bind(path).expect("binds")
    };
    drop(at("/run/containerd/containerd.sock"));
    let crio = at("/run/crio/crio.sock");
    assert_eq!(unit(&node).expect("told"), "crio.service");
    drop(crio);
    assert_eq!(unit(&node).expect("told"), "containerd.service");
}

#[test]
fn the_deadlock_shows_two_stale_sandboxes_and_the_orphan_none() {
    let deadlock = recorded!("incident-deadlock");
    assert_eq!(ids(&deadlock.pod_sandboxes("kube-system", "etcd-cp1")), ["7a76df45", "104e3ec5", "32275f73"]);
    let stale = deadlock.stale_sandboxes("kube-system", "etcd-cp1");
    assert_eq!(ids(&stale), ["104e3ec5", "32275f73"]);
    assert_eq!(stale[0].state, SandboxState::Ready);
    assert!(deadlock.containers_of(&stale[0].id)[0].is_running(), "the holder of the port");
    let newest = deadlock.component_containers(Component::Etcd)[0];
    assert_eq!((newest.state, newest.attempt), (ContainerState::Exited, 5));
    let orphan = recorded!("incident-orphan");
    assert!(orphan.stale_sandboxes("kube-system", "etcd-cp1").is_empty());
    let holder = ContainerId::new("4280f16b89155464690954f3902c3119d8b0cd736da19095c597d000c730a2b4");
    assert!(orphan.container(&holder).is_none(), "CRI lists the holder no more");
    for component in Component::ALL {
        assert_eq!(orphan.component_sandboxes(component).len(), 1, "{component}");
    }
}

#[test]
fn equal_manifests_are_never_stale_whatever_their_age() {
    let mut state = recorded!("incident-deadlock");
    for sandbox in &mut state.sandboxes {
        sandbox.annotations.insert("kubernetes.io/config.hash".into(), "same".into());
    }
    assert!(state.stale_sandboxes("kube-system", "etcd-cp1").is_empty());
    for sandbox in &mut state.sandboxes {
        sandbox.annotations.remove("kubernetes.io/config.hash");
    }
    assert_eq!(state.stale_sandboxes("kube-system", "etcd-cp1").len(), 2, "told apart by UID");
}

#[test]
fn an_unlabelled_pod_is_known_by_its_container() {
    let mut state = recorded!("health");
    for sandbox in &mut state.sandboxes {
        sandbox.labels.remove("component");
    }
    assert_eq!(state.component_sandboxes(Component::KubeScheduler).len(), 1);
    state.containers.clear();
    assert!(state.component_sandboxes(Component::KubeScheduler).is_empty());
}

#[test]
fn a_state_survives_json_without_losing_a_digit() {
    let state = recorded!("incident-deadlock");
    let text = serde_json::to_string(&state).expect("serialises");
    assert!(text.contains("\"createdAt\":\"1795480278383842057\""));
    assert_eq!(serde_json::from_str::<RuntimeState>(&text).expect("parses"), state);
}

#[test]
fn older_printers_and_unknown_states_are_read() {
    let state = parse::containers(
        br#"{"containers":[{"id":"a","podSandboxId":"s","metadata":{"name":"etcd"},"image":{"image":"x"},"state":9,"createdAt":17}]}"#,
    )
    .expect("reads");
    assert_eq!((state[0].state, state[0].created_at.0), (ContainerState::Unknown, 17));
    let pods = parse::pods(
        br#"{"items":[{"id":"s","metadata":{"name":"p","uid":"u","namespace":"n"},"state":"SANDBOX_LOST"}]}"#,
    )
    .expect("reads");
    assert_eq!(pods[0].state, SandboxState::Unknown);
    let many = br#"[{"status":{"id":"a","state":"CONTAINER_EXITED","exitCode":2,"finishedAt":"0001-01-01T00:00:00Z"},"info":{"pid":9}}]"#;
    let detail = parse::container_detail(many).expect("reads");
    assert_eq!((detail.exit_code, detail.pid, detail.finished_at), (Some(2), None, None));
    let running = br#"{"status":{"id":"a","state":"CONTAINER_RUNNING"},"info":{"pid":9}}"#;
    assert_eq!(parse::container_detail(running).expect("reads").pid, Pid::new(9));
}

#[test]
fn anything_else_is_an_error_and_never_an_empty_list() {
    for text in ["", "{}", "[]", "null", r#"{"items":null}"#, r#"{"items":[{}]}"#, "FATA[0000] connect"] {
        assert_eq!(parse::pods(text.as_bytes()).expect_err(text).kind(), ErrorKind::Invalid, "{text}");
        assert_eq!(parse::containers(text.as_bytes()).expect_err(text).kind(), ErrorKind::Invalid, "{text}");
    }
    assert!(parse::pods(br#"{"items":[]}"#).expect("an empty list is a list").is_empty());
    assert_eq!(
        parse::info(b"Version:  0.1.0\n", b"{}", "x").expect_err("no name").kind(),
        ErrorKind::Invalid
    );
    assert_eq!(parse::info(b"\xff", b"{}", "x").expect_err("no text").kind(), ErrorKind::Invalid);
}

#[test]
fn a_configured_endpoint_is_tried_alone_below_the_root() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut node = crate::NodeOptions::at(dir.path()).expect("absolute");
    std::fs::create_dir_all(dir.path().join("run/crio")).expect("mkdir");
    std::fs::write(dir.path().join("run/crio/crio.sock"), "").expect("write");
    let found = endpoints(&node).expect("one");
    assert_eq!(found.len(), 1);
    assert!(!found[0].configured && found[0].socket.ends_with("run/crio/crio.sock"));
    node.runtime_endpoint = Some("/run/../../x.sock".into());
    let found = endpoints(&node).expect("one");
    assert_eq!(found[0].url(), format!("unix://{}/run/x.sock", dir.path().display()));
}

#[test]
fn what_kubelet_is_told_is_tried_alone() {
    let dir = tempfile::tempdir().expect("temp dir");
    let node = crate::NodeOptions::at(dir.path()).expect("absolute");
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    };
    let socket = || {
        let found = endpoints(&node).expect("one");
        assert_eq!((found.len(), found[0].configured), (1, true));
        found[0].socket.strip_prefix(dir.path()).expect("below").display().to_string()
    };
    write("run/containerd/containerd.sock", "");
    write("run/crio/crio.sock", "");
    assert_eq!(endpoints(&node).expect("two").len(), 2);
    // From the weakest to the strongest; kubeadm writes an empty endpoint where a flag tells it.
    write("var/lib/kubelet/instance-config.yaml", "containerRuntimeEndpoint: unix:///run/a.sock\n");
    write("var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: \"\"\n");
    assert_eq!(socket(), "run/a.sock");
    write("var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: unix:///var/run/crio/crio.sock\n");
    assert_eq!(socket(), "run/crio/crio.sock", "/var/run is /run");
    write(
        "var/lib/kubelet/kubeadm-flags.env",
        "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/b.sock\"\n",
    );
    assert_eq!(socket(), "run/b.sock");
    write("etc/default/kubelet", "KUBELET_EXTRA_ARGS=--container-runtime-endpoint=/run/c.sock\n");
    assert_eq!(socket(), "run/c.sock");
    write("etc/default/kubelet", "KUBELET_EXTRA_ARGS=--container-runtime-endpoint=npipe:////./pipe/x\n");
    let error = endpoints(&node).expect_err("no socket");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("etc/default/kubelet"), "{error}");
    std::fs::remove_file(dir.path().join("etc/default/kubelet")).expect("remove");
    write("var/lib/kubelet/kubeadm-flags.env", "");
    write("var/lib/kubelet/config.yaml", "containerRuntimeEndpoint: [");
    let error = endpoints(&node).expect_err("torn: it may name one");
    assert!(error.to_string().contains("config.yaml"), "{error}");
    let configured = NodeOptions { runtime_endpoint: Some("/run/d.sock".into()), ..node.clone() };
    assert!(endpoints(&configured).expect("one")[0].socket.ends_with("run/d.sock"));
}

/// A node on whose known sockets somebody listens who speaks no gRPC, and a `crictl` that answers by socket.
struct Sockets {
    dir: tempfile::TempDir,
    answer: fn(&str) -> CommandOutput,
}

impl Sockets {
    fn new(paths: &[&str], answer: fn(&str) -> CommandOutput) -> Self {
        let sockets = Self { dir: tempfile::tempdir().expect("temp dir"), answer };
        sockets.make("usr/bin/crictl");
        for path in paths {
            let listener = UnixListener::bind(sockets.make_folder(path)).expect("binds");
            // Ends with the test program; it holds nothing but the listener.
            std::thread::spawn(move || listener.incoming().for_each(drop));
        }
        sockets
    }

    fn make_folder(&self, path: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
        path
    }

    fn make(&self, path: &str) {
        std::fs::write(self.make_folder(path), "").expect("write");
    }

    /// Returns the socket that is used.
    fn connect(&self) -> crate::Result<String> {
        let node = NodeOptions::at(self.dir.path()).expect("absolute");
        let runtime = connect(&node, self, &Deadline::after(Duration::from_secs(20)))?;
        Ok(runtime.name().to_owned())
    }
}

impl Commands for Sockets {
    fn run(&self, spec: &CommandSpec, _: &Deadline) -> crate::Result<CommandOutput> {
        Ok((self.answer)(&spec.args[1].to_string_lossy()))
    }
}

fn version(name: &str) -> CommandOutput {
    CommandOutput::exited(0, format!("Version:  0.1.0\nRuntimeName:  {name}\n"), "")
}

fn failed(status: &str) -> CommandOutput {
    CommandOutput::exited(1, "", format!("rpc error: code = {status}"))
}

const SILENT: &str = "DeadlineExceeded desc = context deadline exceeded";
const WITHOUT_CRI: &str = "Unimplemented desc = unknown service runtime.v1.RuntimeService";
const CONTAINERD: &str = "run/containerd/containerd.sock";
const CRIO: &str = "run/crio/crio.sock";
const K3S: &str = "run/k3s/containerd/containerd.sock";

#[test]
fn of_two_runtimes_that_answer_none_is_taken_for_the_nodes() {
    let both = Sockets::new(&[CONTAINERD, CRIO], |_| version("containerd"));
    let error = both.connect().expect_err("which one?");
    assert_eq!(error.kind(), ErrorKind::Refused);
    for word in [CONTAINERD, CRIO, "runtimeEndpoint"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    // The kubelet of the node says which.
    std::fs::write(
        both.make_folder("var/lib/kubelet/kubeadm-flags.env"),
        "X=--container-runtime-endpoint=unix:///run/crio/crio.sock",
    )
    .expect("write");
    assert_eq!(both.connect().expect("kubelet's"), "containerd");
}

#[test]
fn an_empty_runtime_never_stands_in_for_a_silent_one() {
    let silent: [fn(&str) -> CommandOutput; 2] = [
        |socket| if socket.contains("crio") { version("cri-o") } else { failed(SILENT) },
        |socket| if socket.contains("crio") { failed(SILENT) } else { version("containerd") },
    ];
    for answer in silent {
        let error =
            Sockets::new(&[CONTAINERD, CRIO], answer).connect().expect_err("the silent one may be it");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("may be the node's runtime"), "{error}");
    }
}

#[test]
fn a_dead_socket_a_link_and_a_socket_without_cri_hide_no_runtime() {
    let dead = Sockets::new(&[CRIO], |_| version("cri-o"));
    drop(UnixListener::bind(dead.make_folder(CONTAINERD)).expect("binds"));
    assert_eq!(dead.connect().expect("the other one"), "cri-o");
    let linked = Sockets::new(&[K3S], |_| version("containerd"));
    std::os::unix::fs::symlink(linked.dir.path().join(K3S), linked.make_folder(CONTAINERD)).expect("link");
    assert_eq!(linked.connect().expect("one socket"), "containerd");
    let docker = Sockets::new(&[CONTAINERD, K3S], |socket| {
        if socket.contains("k3s") { version("containerd") } else { failed(WITHOUT_CRI) }
    });
    assert_eq!(docker.connect().expect("k3s' own"), "containerd");
}

fn sandbox(id: usize, hash: u8, created: i64, attempt: u32) -> Sandbox {
    Sandbox {
        id: SandboxId::new(format!("{id:08}")),
        pod_name: "p".into(),
        namespace: "n".into(),
        uid: PodUid::new(format!("u{hash}")),
        attempt,
        state: SandboxState::Ready,
        created_at: UnixNanos(created),
        labels: std::collections::BTreeMap::new(),
        annotations: [("kubernetes.io/config.hash".to_owned(), format!("h{hash}"))].into(),
    }
}

proptest! {
    #[test]
    fn the_newest_and_its_equals_are_never_stale(
        pods in prop::collection::vec((0_u8..3, 0_i64..5, 0_u32..3), 0..8)
    ) {
        let sandboxes: Vec<Sandbox> =
            pods.iter().enumerate().map(|(id, &(hash, at, attempt))| sandbox(id, hash, at, attempt)).collect();
        let state = RuntimeState { sandboxes, ..RuntimeState::default() };
        let stale = state.stale_sandboxes("n", "p");
        let Some(newest) = state.newest_sandbox("n", "p") else {
            prop_assert!(stale.is_empty());
            return Ok(());
        };
        for sandbox in &state.sandboxes {
            let listed = stale.iter().any(|other| other.id == sandbox.id);
            prop_assert_eq!(listed, sandbox.config_hash() != newest.config_hash());
            prop_assert!(sandbox.created_at <= newest.created_at);
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse::pods(&bytes);
        let _ = parse::containers(&bytes);
        let _ = parse::container_detail(&bytes);
        let _ = parse::info(&bytes, &bytes, "x");
    }
}
