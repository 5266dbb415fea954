//! The readers of outside data that are no part of the API, for `fuzz/` and `tests/fuzz_seeds.rs`.
//!
//! None returns what it read: each must end without a panic, whatever the bytes.

use std::path::Path;

use crate::parse::yaml;

/// A reader, which is given any bytes.
pub type Parser = fn(&[u8]);

/// All of them, by the names of their fuzz targets.
pub const PARSERS: &[(&str, Parser)] = &[
    ("sock_diag", sock_diag),
    ("net_table", net_table),
    ("proc_locks", proc_locks),
    ("proc_files", proc_files),
    ("mountinfo", mountinfo),
    ("certificates", certificates),
    ("kubeadm_config", kubeadm_config),
    ("node_options", node_options),
    ("yaml", yaml),
    ("systemd", systemd),
    ("etcd_files", etcd_files),
    #[cfg(feature = "probe")]
    ("http", http),
    #[cfg(feature = "probe")]
    ("etcd_gateway", etcd_gateway),
    #[cfg(feature = "probe")]
    ("records", records),
];

/// Datagrams of `NETLINK_SOCK_DIAG`.
pub fn sock_diag(bytes: &[u8]) {
    // The kernel hands over a datagram at a time.
    let found = crate::ports::decode_sock_diag(bytes);
    assert!(found.len() <= bytes.len() / 72, "a listener without a message");
}

/// `/proc/net/tcp` and `tcp6`.
pub fn net_table(bytes: &[u8]) {
    let found = crate::ports::read_net_table(bytes, crate::model::Port::ETCD_PEER);
    assert!(found.unwrap_or_default().iter().all(|listener| listener.address.port() == 2380));
}

/// `/proc/locks`.
pub fn proc_locks(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        assert!(crate::ports::lock_of_line(line).is_none_or(|(pid, ..)| pid.get() > 0));
    }
}

/// `/proc/{meminfo,loadavg,stat}`, `/proc/pressure` and `/proc/net/{fib_trie,if_inet6}`.
pub fn proc_files(bytes: &[u8]) {
    crate::facts::read_proc_files(&String::from_utf8_lossy(bytes));
}

/// `/proc/PID/mountinfo`.
pub fn mountinfo(bytes: &[u8]) {
    crate::pods::read_mountinfo(bytes);
}

/// PEM files, X.509 certificates (PEM or DER) and kubeconfigs.
pub fn certificates(bytes: &[u8]) {
    crate::facts::read_certificates(Path::new("fuzz"), bytes);
}

/// kubeadm's configuration.
pub fn kubeadm_config(bytes: &[u8]) {
    let _ = crate::kubeadm::Config::parse(bytes);
    let image = "registry.k8s.io/etcd:3.5.0";
    let _ = crate::kubeadm::RuntimeContainer::from_verbose_info(crate::model::Component::Etcd, image, bytes);
}

/// The node's own configuration.
pub fn node_options(bytes: &[u8]) {
    let _ = yaml::from_slice::<crate::NodeOptions>(bytes);
    let _ = yaml::from_slice_as_kubelet::<serde_json::Value>(bytes);
}

/// A document of any shape, by the short way and by the whole parser.
pub fn yaml(bytes: &[u8]) {
    let whole = |read: crate::Result<serde_json::Value>| read.ok();
    assert_eq!(yaml::value(bytes).ok(), whole(yaml::from_slice(bytes)), "the short way reads otherwise");
    assert_eq!(yaml::value_as_kubelet(bytes).ok(), whole(yaml::from_slice_as_kubelet(bytes)), "as kubelet");
}

/// What `systemctl show` prints.
pub fn systemd(bytes: &[u8]) {
    crate::units::read_show(&String::from_utf8_lossy(bytes));
}

/// etcd's database, write-ahead log and snapshots, each with these bytes as its file.
pub fn etcd_files(bytes: &[u8]) {
    crate::etcd::read_files(bytes);
}

/// Answers over HTTP, whole and in pieces.
#[cfg(feature = "probe")]
pub fn http(bytes: &[u8]) {
    crate::probe::read_response(bytes);
}

/// JSON of etcd's gateway.
#[cfg(feature = "probe")]
pub fn etcd_gateway(bytes: &[u8]) {
    crate::etcd::read_gateway(bytes);
}

/// The audit log and plans in files.
#[cfg(feature = "probe")]
pub fn records(bytes: &[u8]) {
    crate::recover::read_audit_log(bytes);
    let _ = crate::recover::Plan::from_json(bytes);
}
