//! Faults that only a person may mend: nothing is done, and it is said why.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use cprecover::model::Component;
use rustix::process::Signal;

use super::helper::{Cgroup, Part, own_program};
use super::node::{Node, letter, signal, state, wait};

/// Puts a listener in the place of the scheduler.
fn take_the_schedulers_port(node: &Node, command: Command) -> Part {
    let manifest = node.lose(Component::KubeScheduler);
    let part = Part::start(command, &format!("listen 127.0.0.1:{}", node.port("scheduler")));
    node.write("kube-scheduler.yaml", &manifest);
    node.wait_for_log("address already in use");
    part
}

/// The containers but the one that finds its port taken and is started again and again.
fn working(node: &Node) -> BTreeMap<Component, String> {
    let mut containers = node.containers();
    containers.remove(&Component::KubeScheduler);
    assert_eq!(containers.len(), 3, "{containers:?}");
    containers
}

#[test]
fn a_foreign_program_on_a_port_is_named_and_left_alone() {
    let node = Node::healthy();
    let mut foreign = take_the_schedulers_port(&node, node.namespace.command(own_program()));
    let (files, containers) = (node.everything(), working(&node));
    let (reason, _) = node.calls_a_person("60");
    assert!(reason.contains(&node.port("scheduler").to_string()), "{reason}");
    assert!(foreign.is_alive(), "the foreign program was ended");
    assert_eq!(node.everything(), files);
    assert_eq!(working(&node), containers);
}

#[test]
fn a_service_on_a_port_is_named_by_its_unit_and_left_alone() {
    let unit = format!("cprecover-scenario-{}.service", std::process::id());
    let Some(cgroup) = Cgroup::make(&format!("system.slice/{unit}")) else {
        eprintln!("SKIPPED: no cgroup can be made (not root, or no version 2 hierarchy)");
        return;
    };
    let node = Node::healthy();
    let mut shell = node.namespace.command("sh");
    shell.arg("-c").arg(format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.0.display()));
    shell.arg("sh").arg(own_program());
    let mut service = take_the_schedulers_port(&node, shell);
    let (files, containers) = (node.everything(), working(&node));
    let (reason, _) = node.calls_a_person("60");
    assert!(reason.contains(&unit), "{reason}");
    assert!(service.is_alive(), "the service was ended");
    assert_eq!(node.everything(), files);
    assert_eq!(working(&node), containers);
    drop(service);
    drop(node);
}

/// The processes of the components that wait for nothing of etcd's.
fn others(node: &Node) -> [i32; 2] {
    [Component::KubeControllerManager, Component::KubeScheduler].map(|component| node.process(component).0)
}

#[test]
fn an_address_that_the_host_lost_is_not_papered_over() {
    let node = Node::healthy();
    let text = String::from_utf8(node.read(Component::Etcd)).expect("UTF-8");
    let peer = format!("--listen-peer-urls=https://127.0.0.1:{}", node.port("etcdPeer"));
    assert!(text.contains(&peer), "{text}");
    let changed = text.replace(&peer, &peer.replace("127.0.0.1", "192.0.2.10"));
    node.write("etcd.yaml", changed.as_bytes());
    node.wait_for_log("assign requested address");
    let files = node.touched(&["etc", "var/lib/kubelet"]);
    let others = others(&node);
    let (reason, report) = node.calls_a_person("60");
    assert!(reason.contains("192.0.2.10"), "{reason}");
    assert_eq!(self::others(&node), others);
    assert_eq!(report["diagnosis"]["rootCause"]["id"], "address-changed", "{report:#}");
    let call = &report["escalations"][0];
    let text = |field: &str| call[field].to_string();
    assert!(text("hints").contains("old address back"), "{call:#}");
    assert!(text("evidence").contains("listen-peer-urls"), "{call:#}");
    assert_eq!(node.touched(&["etc", "var/lib/kubelet"]), files);
    assert_eq!(node.read(Component::Etcd), changed.into_bytes());
}

/// A small file system over a folder, with what was in it; gone at the end.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn over(folder: &Path, bytes: u64) -> Option<Self> {
        let kept = folder.with_extension("kept");
        let copy = |from: &Path, to: &Path| {
            let from = format!("{}/.", from.display());
            Command::new("cp").args(["-a", &from]).arg(to).status().is_ok_and(|status| status.success())
        };
        std::fs::create_dir(&kept).ok()?;
        assert!(copy(folder, &kept));
        let size = format!("size={bytes},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let disk = Self(folder.to_owned());
        assert!(copy(&kept, folder));
        Some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_nothing_is_written() {
    let node = Node::healthy();
    let folder = node.root.join("etc/kubernetes/manifests");
    let Some(disk) = SmallDisk::over(&folder, 1 << 20) else {
        eprintln!("SKIPPED: no tmpfs can be mounted (not root)");
        return;
    };
    let lost = node.lose(Component::KubeControllerManager);
    let (files, containers) = (node.everything(), node.containers());
    let (reason, _) = node.calls_a_person("60");
    assert!(reason.contains("bytes left"), "{reason}");
    assert_eq!(node.everything(), files);
    assert_eq!(node.containers(), containers);
    drop(disk);
    // What was below it is as it was, and the node comes back with it.
    assert_eq!(node.read(Component::KubeControllerManager), lost);
    node.recovers();
}

/// A certificate that ended in the past, and its key.
fn expired() -> (String, String) {
    let mut params =
        rcgen::CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).expect("names");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().expect("key");
    (params.self_signed(&key).expect("certificate").pem(), key.serialize_pem())
}

#[test]
fn an_expired_certificate_is_not_renewed_without_consent() {
    let node = Node::healthy();
    let (certificate, key) = expired();
    let pki = node.root.join("etc/kubernetes/pki");
    std::fs::write(pki.join("apiserver.crt"), certificate).expect("write");
    std::fs::write(pki.join("apiserver.key"), key).expect("write");
    std::fs::set_permissions(pki.join("apiserver.key"), std::fs::Permissions::from_mode(0o600))
        .expect("mode");
    // The server reads it when it starts.
    let manifest = node.lose(Component::KubeApiserver);
    node.write("kube-apiserver.yaml", &manifest);
    wait("the API server", || node.runs(Component::KubeApiserver));
    let (files, containers) = (node.everything(), node.containers());
    let (reason, _) = node.calls_a_person("60");
    assert!(reason.contains("apiserver.crt") && reason.contains("expired"), "{reason}");
    assert_eq!(node.everything(), files);
    assert_eq!(node.containers(), containers);
}

#[test]
fn a_lock_on_etcds_data_that_somebody_else_holds_is_left_alone() {
    let node = Node::healthy();
    let manifest = node.lose(Component::Etcd);
    let database = node.root.join("var/lib/etcd/member/snap/db");
    let mut locker =
        Part::start(node.namespace.command(own_program()), &format!("lock {}", database.display()));
    let before = std::fs::read(&database).expect("database");
    node.write("etcd.yaml", &manifest);
    wait("etcd", || node.runs(Component::Etcd));
    let files = node.everything();
    let (code, report) = node.recover(&["--timeout", "20"]);
    assert_eq!(code, 3, "{report:#}");
    // Ending what waits for the lock would help nobody; kubelet itself may be restarted.
    for kind in super::node::kinds(&report) {
        assert_eq!(kind, "restart-kubelet");
    }
    assert!(["escalated", "timed-out"].contains(&state(&report)), "{report:#}");
    // The stand-in binds before it waits for the lock and says nothing, so it is seen to hang.
    let root = &report["diagnosis"]["rootCause"]["id"];
    assert!(root == "db-locked" || root == "etcd-hung", "{root}");
    assert!(locker.is_alive(), "whoever holds the lock was ended");
    assert_eq!(std::fs::read(&database).expect("database"), before);
    assert_eq!(node.everything(), files);
}

#[test]
fn when_everything_hangs_a_recovery_ends_in_time_with_a_report() {
    let node = Node::healthy();
    let mut stopped: Vec<i32> = Component::ALL.map(|component| node.process(component).0).into();
    for name in ["kubelet", "containerd"] {
        let text = std::fs::read_to_string(node.root.join(format!("run/{name}.pid"))).expect("pid file");
        let started: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        stopped.push(i32::try_from(started["pid"].as_i64().expect("pid")).expect("fits"));
    }
    for pid in &stopped {
        signal(*pid, Signal::STOP);
    }
    let files = node.everything();
    let started = std::time::Instant::now();
    let (code, report) = node.recover(&["--timeout", "20"]);
    let took = started.elapsed();
    assert_eq!(code, 3, "{report:#}");
    assert!(took < std::time::Duration::from_secs(40), "took {took:?} of 20 s");
    assert!(["escalated", "timed-out"].contains(&state(&report)), "{report:#}");
    assert_eq!(report["verification"]["healthy"], false);
    for pid in &stopped {
        assert_eq!(letter(*pid), Some('T'), "pid {pid} was touched");
    }
    assert_eq!(node.everything(), files);
    for pid in &stopped {
        signal(*pid, Signal::CONT);
    }
}
