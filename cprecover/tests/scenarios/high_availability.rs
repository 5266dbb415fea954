//! Three real etcds, one of them this node's: the quorum is worth more than the node.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use cprecover::backup::{CreateOptions, Group, Store};
use cprecover::model::Component;
use cprecover::sys::Deadline;
use rustix::process::Signal;
use std::time::Duration;

use super::helper::{Part, ask, own_program};
use super::node::{Node, kinds, letter, signal, state, wait};

/// Another member: its name and ports; the namespace is the test's own.
pub(super) struct Peer {
    name: &'static str,
    port: u16,
    /// Where it is asked for its health in the clear.
    plain: u16,
    /// Where it is asked with the node's certificates, as it tells the cluster.
    pub(super) client: u16,
}

pub(super) const PEERS: [Peer; 2] = [
    Peer { name: "m1", port: 12380, plain: 12381, client: 12379 },
    Peer { name: "m2", port: 22380, plain: 22381, client: 22379 },
];

pub(super) struct Cluster {
    pub(super) node: Node,
    peers: Vec<Child>,
}

pub(super) fn real_etcd() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join("etcd")).find(|program| program.is_file())
}

impl Cluster {
    /// A healthy node whose etcd is one of three; `None` where that cannot be.
    pub(super) fn build() -> Option<Self> {
        let Some(etcd) = real_etcd() else {
            eprintln!("SKIPPED: no etcd on PATH (Debian package etcd-server)");
            return None;
        };
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: three etcds need a network namespace, which needs root");
            return None;
        }
        let node = Node::built(&[]);
        let text = String::from_utf8(node.lose(Component::Etcd)).expect("UTF-8");
        let own = format!("drill=https://127.0.0.1:{}", node.port("etcdPeer"));
        let all = PEERS.iter().fold(own.clone(), |all, Peer { name, port, .. }| {
            format!("{all},{name}=https://127.0.0.1:{port}")
        });
        let flag = format!("--initial-cluster={own}");
        assert!(text.contains(&flag), "{text}");
        let data = node.root.join("var/lib/etcd/member");
        std::fs::remove_dir_all(data).expect("a new cluster begins without data");
        let peers = PEERS.iter().map(|peer| start(&node, &etcd, peer, &all)).collect();
        let cluster = Self { node, peers };
        cluster.node.write("etcd.yaml", text.replace(&flag, &format!("--initial-cluster={all}")).as_bytes());
        cluster.node.wait_until_healthy();
        wait("a quorum of peers", || cluster.healthy_peers() == 2);
        let mut options = CreateOptions::default();
        options.health_verified = true;
        options.groups = vec![Group::Manifests];
        let store = Store::open(&cluster.node.options()).expect("store");
        store.create(&options, &Deadline::after(Duration::from_secs(30))).expect("backup");
        Some(cluster)
    }

    /// How many of the other members say that they are well.
    fn healthy_peers(&self) -> usize {
        let healthy = |plain: u16| {
            let command = self.node.namespace.command(own_program());
            ask(command, &format!("127.0.0.1:{plain}")).contains("\"health\":\"true\"")
        };
        PEERS.iter().filter(|peer| healthy(peer.plain)).count()
    }

    pub(super) fn peer_pids(&self) -> Vec<i32> {
        self.peers.iter().map(|peer| i32::try_from(peer.id()).expect("fits")).collect()
    }

    pub(super) fn peers_live(&self) -> bool {
        self.peer_pids().into_iter().all(|pid| letter(pid).is_some_and(|letter| !"ZT".contains(letter)))
    }

    /// Every file of the data folder with its content.
    fn data(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.node.touched(&["var/lib/etcd"]).into_keys();
        files
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), std::fs::read(path).expect("read")))
            .collect()
    }
}

fn start(node: &Node, etcd: &std::path::Path, member: &Peer, all: &str) -> Child {
    let pki = node.root.join("etc/kubernetes/pki/etcd");
    let file = |flag: &str, name: &str| format!("--{flag}={}", pki.join(name).display());
    let name = member.name;
    let (peer, client) =
        (format!("https://127.0.0.1:{}", member.port), format!("https://127.0.0.1:{}", member.client));
    let mut command = node.namespace.command(etcd);
    command
        .arg(format!("--name={name}"))
        .arg(format!("--data-dir={}", node.root.join("opt").join(name).display()))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--listen-client-urls={client},http://127.0.0.1:{}", member.plain))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--initial-cluster={all}"))
        .args([file("peer-cert-file", "peer.crt"), file("peer-key-file", "peer.key")])
        .args([file("peer-trusted-ca-file", "ca.crt"), file("trusted-ca-file", "ca.crt")])
        .args([file("cert-file", "server.crt"), file("key-file", "server.key")])
        .arg("--client-cert-auth")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("etcd starts")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            let _ = peer.kill();
            let _ = peer.wait();
        }
    }
}

#[test]
fn a_hung_member_comes_back_while_the_others_keep_the_quorum() {
    let Some(cluster) = Cluster::build() else { return };
    let node = &cluster.node;
    let files = node.touched(&["etc"]);
    let orphan = node.orphan_etcd();
    let report = node.recovers();
    let kinds = kinds(&report);
    assert_eq!(kinds.iter().filter(|kind| **kind == "terminate-holder").count(), 1, "{kinds:?}");
    // A sandbox from before the node became one of three may be left over.
    let known = ["terminate-holder", "restart-kubelet", "remove-sandbox"];
    assert!(kinds.iter().all(|kind| known.contains(kind)), "{kinds:?}");
    assert!(letter(orphan).is_none_or(|state| state == 'Z'));
    assert!(cluster.peers_live(), "another member was touched");
    assert_eq!(cluster.healthy_peers(), 2);
    assert_eq!(node.touched(&["etc"]), files, "files were touched");
}

#[test]
fn without_a_quorum_this_nodes_member_is_not_touched() {
    let Some(cluster) = Cluster::build() else { return };
    let node = &cluster.node;
    cluster.peer_pids().into_iter().for_each(|pid| signal(pid, Signal::STOP));
    wait("a node that is not healthy", || node.run(&["recover", "--dry-run"]).status.code() == Some(3));
    let (files, etcd) = (node.everything(), node.containers()[&Component::Etcd].clone());
    let (code, report) = node.recover(&["--timeout", "20"]);
    assert_eq!(code, 3, "{report:#}");
    assert!(["escalated", "timed-out"].contains(&state(&report)), "{report:#}");
    assert!(kinds(&report).iter().all(|kind| *kind == "restart-kubelet"), "{:?}", kinds(&report));
    assert_eq!(node.containers()[&Component::Etcd], etcd, "the member was restarted");
    assert_eq!(node.everything(), files);
    let stopped = cluster.peer_pids().into_iter().all(|pid| letter(pid) == Some('T'));
    assert!(stopped, "another member was touched");
    cluster.peer_pids().into_iter().for_each(|pid| signal(pid, Signal::CONT));
    node.wait_until_healthy();
}

#[test]
fn a_member_that_lost_its_data_does_not_found_a_cluster_of_its_own() {
    let Some(cluster) = Cluster::build() else { return };
    let node = &cluster.node;
    node.lose(Component::Etcd);
    std::fs::remove_dir_all(node.root.join("var/lib/etcd/member")).expect("remove");
    let files = node.everything();
    let (reason, _) = node.calls_a_person("30");
    assert!(reason.contains("lost"), "{reason}");
    assert_eq!(node.everything(), files);
    assert!(!node.manifest(Component::Etcd).exists(), "etcd would begin a new cluster");
    assert_eq!(cluster.data(), Vec::new());
    assert!(cluster.peers_live());
    assert_eq!(cluster.healthy_peers(), 2, "the others have lost their quorum");
}

#[test]
fn a_broken_write_ahead_log_is_not_repaired_over_the_operators_head() {
    let Some(cluster) = Cluster::build() else { return };
    let node = &cluster.node;
    let manifest = node.lose(Component::Etcd);
    let log = cluster.data().into_iter().find(|(path, _)| path.extension() == Some("wal".as_ref()));
    let (path, mut bytes) = log.expect("a WAL");
    // In the middle of the first records, which etcd reads before anything else.
    bytes[64..128].fill(0xA5);
    std::fs::write(&path, bytes).expect("write");
    let broken = cluster.data();
    node.write("etcd.yaml", &manifest);
    wait("an etcd that failed", || {
        let state = node.runtime();
        state.component_containers(Component::Etcd).iter().any(|one| !one.is_running() && one.attempt > 0)
            || state.component_containers(Component::Etcd).len() > 1
    });
    let files = node.everything();
    let (code, report) = node.recover(&["--timeout", "20"]);
    assert!([3, 4].contains(&code), "{report:#}");
    assert_ne!(state(&report), "healthy");
    assert!(kinds(&report).iter().all(|kind| *kind == "restart-kubelet"), "{:?}", kinds(&report));
    let wal = |data: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
        data.into_iter().filter(|(path, _)| path.extension() == Some("wal".as_ref())).collect()
    };
    assert_eq!(wal(cluster.data()), wal(broken), "the WAL was touched");
    assert_eq!(node.everything(), files);
    assert!(cluster.peers_live());
    assert_eq!(cluster.healthy_peers(), 2);
}

#[test]
fn a_lock_that_somebody_holds_on_a_members_data_is_left_alone_and_the_others_keep_the_quorum() {
    let Some(cluster) = Cluster::build() else { return };
    let node = &cluster.node;
    let manifest = node.lose(Component::Etcd);
    let database = node.root.join("var/lib/etcd/member/snap/db");
    let mut locker =
        Part::start(node.namespace.command(own_program()), &format!("lock {}", database.display()));
    let data = cluster.data();
    node.write("etcd.yaml", &manifest);
    wait("etcd", || node.runs(Component::Etcd));
    let files = node.everything();
    let (code, report) = node.recover(&["--timeout", "20"]);
    assert_eq!(code, 3, "{report:#}");
    assert!(kinds(&report).iter().all(|kind| *kind == "restart-kubelet"), "{:?}", kinds(&report));
    assert!(locker.is_alive(), "whoever holds the lock was ended");
    assert_eq!(cluster.data(), data, "the data were touched");
    assert_eq!(node.everything(), files);
    assert!(cluster.peers_live());
    assert_eq!(cluster.healthy_peers(), 2);
    drop(locker);
    node.wait_until_healthy();
}
