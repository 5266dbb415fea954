use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::node::ServiceControl;
use crate::sys::{SystemClock, SystemCommands};

#[test]
fn facts_of_a_node_below_another_root() {
    let root = tempfile::tempdir().expect("temp dir");
    let pki = root.path().join("etc/kubernetes/pki/etcd");
    std::fs::create_dir_all(&pki).expect("mkdir");
    let wal = root.path().join("var/lib/etcd/member/wal");
    std::fs::create_dir_all(&wal).expect("mkdir");
    std::fs::write(wal.join("0000000000000000-0000000000000000.wal"), b"x").expect("write");
    std::fs::set_permissions(root.path().join("var/lib/etcd"), PermissionsExt::from_mode(0o755))
        .expect("chmod");
    std::fs::write(pki.join("ca.crt"), "no pem").expect("write");
    let mut node = NodeOptions::at(root.path()).expect("absolute");
    let say = |code: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("exit {code}")];
    node.kubelet = ServiceControl::Commands { start: say("0"), stop: say("0"), state: say("3") };
    let facts = collect(&node, &SystemClock, &SystemCommands, &Deadline::after(Duration::from_secs(30)));
    assert_eq!(facts.disks.len(), 5);
    assert!(facts.unread_certificates().next().is_none(), "it was read");
    assert!(facts.void_certificates().eq([Path::new("/etc/kubernetes/pki/etcd/ca.crt")]));
    // A runtime's folder counts where there is one, and a file that was cut off holds no certificate.
    std::fs::create_dir_all(root.path().join("var/lib/containerd")).expect("mkdir");
    std::fs::write(pki.join("peer.crt"), "-----BEGIN CERTIFICATE-----\nMIIB\n").expect("write");
    let strange = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    std::fs::write(pki.join("other.crt"), strange).expect("write");
    std::fs::create_dir(pki.join("server.crt")).expect("mkdir");
    let more = collect(&node, &SystemClock, &SystemCommands, &Deadline::after(Duration::from_secs(30)));
    assert_eq!(more.disks.last().map(|disk| disk.path.as_path()), Some(Path::new("/var/lib/containerd")));
    assert_eq!(more.void_certificates().count(), 2, "{:?}", more.unreadable_certificates);
    let unread: Vec<_> = more.unread_certificates().map(|(path, _)| path.clone()).collect();
    assert_eq!(
        unread,
        ["other.crt", "server.crt"].map(|name| Path::new("/etc/kubernetes/pki/etcd").join(name))
    );
    assert!(facts.memory.present().is_some_and(|memory| memory.total_bytes > 0), "{:?}", facts.memory);
    assert!(facts.load.present().is_some_and(|load| load.processors > 0));
    let data = facts.data_dir.present().expect("data folder");
    assert!(data.has_wal && data.db.is_absent() && data.mode == 0o755, "{data:?}");
    assert_eq!(facts.unreadable_certificates.len(), 1, "{:?}", facts.unreadable_certificates);
    let kubelet = facts.units.iter().find(|unit| unit.role == UnitRole::Kubelet).expect("kubelet");
    assert_eq!(kubelet.state, Observed::Present(ServiceState::Inactive));
    // The host's systemd is not this node's: nothing is known of its runtime.
    let runtime = facts.units.iter().find(|unit| unit.role == UnitRole::Runtime).expect("runtime");
    assert!(matches!(runtime.state, Observed::Unknown(_)), "{runtime:?}");
}

#[cfg(feature = "cli")]
#[test]
fn certificates_in_files_and_in_kubeconfigs() {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    let root = tempfile::tempdir().expect("temp dir");
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(vec!["cp1".to_owned(), "10.0.0.1".to_owned()]).expect("params");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).expect("sign");
    let pki = root.path().join("etc/kubernetes/pki");
    std::fs::create_dir_all(&pki).expect("mkdir");
    std::fs::write(pki.join("apiserver.crt"), certificate.pem()).expect("write");
    // base64 of PEM, as kubeadm writes it; the tool is part of every Debian.
    let data = std::process::Command::new("base64")
        .arg("-w0")
        .arg(pki.join("apiserver.crt"))
        .output()
        .expect("base64");
    let data = String::from_utf8(data.stdout).expect("text");
    std::fs::write(
        root.path().join("etc/kubernetes/admin.conf"),
        format!(
            "apiVersion: v1\nkind: Config\nusers:\n- name: a\n  user:\n    client-certificate-data: {data}\n"
        ),
    )
    .expect("write");
    let node = NodeOptions::at(root.path()).expect("absolute");
    let (found, failed) = super::certificates::read(&node);
    assert_eq!(failed, []);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.iter().all(|fact| fact.not_after_unix == 1_609_459_200 && fact.names == ["cp1", "10.0.0.1"])
    );
    assert!(found.iter().any(|fact| fact.path.ends_with("admin.conf")));
    let mut facts = crate::diagnose::Facts::default();
    facts.host.certificates = found;
    facts.host.now_unix = 1_700_000_000;
    let diagnosis = crate::diagnose::diagnose(&facts);
    assert_eq!(
        diagnosis.root_cause,
        crate::diagnose::RootCause::Found { id: crate::diagnose::FindingId::CertificateInvalid }
    );
}
