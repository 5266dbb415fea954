#![allow(clippy::indexing_slicing, reason = "tests")]

use std::io::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use SignatureId as S;

/// A line of each kind as its program writes it, and what has to be read out of it.
type Sample = (S, &'static str, &'static [(&'static str, &'static str)]);

const SAMPLES: &[Sample] = &[
    (
        S::BindInUse,
        r#"{"level":"fatal","ts":"2025-06-10T14:05:22.957668Z","caller":"etcdmain/etcd.go:204","msg":"discovery failed","error":"listen tcp 10.10.17.210:2380: bind: address already in use"}"#,
        &[("address", "10.10.17.210"), ("port", "2380")],
    ),
    (
        S::BindInUse,
        "2021-05-19 19:39:19.537896 C | etcdmain: listen tcp 127.0.0.1:2380: bind: address already in use",
        &[("address", "127.0.0.1"), ("port", "2380")],
    ),
    (
        S::CannotAssignAddress,
        "listen tcp 10.0.0.9:2380: bind: cannot assign requested address",
        &[("address", "10.0.0.9"), ("port", "2380")],
    ),
    (
        S::DbFlocked,
        r#"{"level":"info","msg":"db file is flocked by another process, or taking too long","path":"/var/lib/etcd/member/snap/db"}"#,
        &[],
    ),
    (
        S::DbFlocked,
        r#"2021-05-19 19:39:19.5 W | etcdserver: another etcd process is using "/var/lib/etcd/member/snap/db" and holds the file lock, or loading backend file is taking >10 seconds"#,
        &[],
    ),
    (S::WalCrcMismatch, r#"{"level":"warn","msg":"failed to read WAL","error":"walpb: crc mismatch"}"#, &[]),
    (
        S::WalCannotBeRepaired,
        r#"{"level":"fatal","msg":"failed to read WAL, cannot be repaired","error":"wal: crc mismatch"}"#,
        &[],
    ),
    (S::WalMissing, r#"{"level":"fatal","msg":"failed to open WAL","error":"wal: file not found"}"#, &[]),
    (
        S::SnapMissing,
        r#"{"level":"panic","msg":"failed to recover v3 backend from snapshot","error":"failed to find database snapshot file (snap: snapshot file doesn't exist)"}"#,
        &[],
    ),
    (
        S::DbMissing,
        "panic: database file (/var/lib/etcd/member/snap/db) of the backend is missing",
        &[("path", "/var/lib/etcd/member/snap/db")],
    ),
    (
        S::DbSnapMismatch,
        "database file (/var/lib/etcd/member/snap/db index 100) does not match with snapshot (index 200).",
        &[("path", "/var/lib/etcd/member/snap/db")],
    ),
    (S::Freepages, "panic: freepages: failed to get all reachable pages (page 7: multiple references)", &[]),
    (S::InvalidDatabase, "panic: assertion failed: Page expected to be: 12, but self identifies as 0", &[]),
    (
        S::NoSpaceAlarm,
        r#"{"level":"warn","msg":"alarm raised","alarm":"NOSPACE","from":"8e9e05c52164694d"}"#,
        &[],
    ),
    (S::NoSpaceAlarm, "etcdserver: mvcc: database space exceeded", &[]),
    (
        S::CorruptAlarm,
        r#"{"level":"fatal","msg":"checkInitialHashKV failed","error":"8e9e found data inconsistency with peers"}"#,
        &[],
    ),
    (
        S::MemberRemoved,
        r#"{"level":"error","msg":"the member has been permanently removed from the cluster"}"#,
        &[],
    ),
    (
        S::ClusterIdMismatch,
        r#"{"level":"warn","msg":"request cluster ID mismatch (got 3a57933972cb5131 want cdf818194e3a8c32)"}"#,
        &[("got", "3a57933972cb5131"), ("want", "cdf818194e3a8c32")],
    ),
    (
        S::MemberCountUnequal,
        r#"{"level":"fatal","msg":"discovery failed","error":"error validating peerURLs {ClusterID:1 Members:[]}: member count is unequal"}"#,
        &[],
    ),
    (S::NoLeader, "etcdserver: no leader", &[]),
    (
        S::SlowFdatasync,
        r#"{"level":"warn","msg":"slow fdatasync","took":"2.1s","expected-duration":"1s"}"#,
        &[],
    ),
    (
        S::ApplyTookTooLong,
        r#"{"level":"warn","msg":"apply request took too long","took":"312.5ms","expected-duration":"100ms"}"#,
        &[],
    ),
    (
        S::HeartbeatLate,
        r#"{"level":"warn","msg":"leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk","to":"1"}"#,
        &[],
    ),
    (
        S::ClockDrift,
        r#"{"level":"warn","msg":"prober found high clock drift","round-tripper-name":"ROUND_TRIPPER_RAFT_MESSAGE","remote-peer-id":"91bc3c398fb3c146","clock-drift":"3.2s"}"#,
        &[("peer", "91bc3c398fb3c146")],
    ),
    (
        S::DiskFull,
        "mkdir /var/lib/kubelet/pods/x: no space left on device",
        &[("path", "/var/lib/kubelet/pods/x")],
    ),
    (
        S::ReadOnlyFilesystem,
        "open /var/lib/etcd/member/wal/0.tmp: read-only file system",
        &[("path", "/var/lib/etcd/member/wal/0.tmp")],
    ),
    (
        S::IoError,
        "Jun 10 14:06:40 cp1 kernel: blk_update_request: I/O error, dev sda, sector 1234",
        &[("device", "sda")],
    ),
    (S::IoError, "Jun 10 14:06:40 cp1 kernel: INFO: task etcd:1234 blocked for more than 120 seconds.", &[]),
    (S::LoggingBlocked, "[-]log failed: logging blocked", &[]),
    (
        S::CrashLoopBackOff,
        r#"E0610 14:06:40.564210    9199 pod_workers.go:1298] "Error syncing pod, skipping" err="failed to \"StartContainer\" for \"etcd\" with CrashLoopBackOff: \"back-off 5m0s restarting failed container=etcd pod=etcd-cp1_kube-system(b861)\"" pod="kube-system/etcd-cp1" podUID="b861""#,
        &[("container", "etcd"), ("backOff", "5m0s"), ("pod", "etcd-cp1")],
    ),
    (
        S::SyncError,
        r#"E0610 14:06:40.564210 1 pod_workers.go:1] "Error syncing pod, skipping" err="x" pod="kube-system/etcd-cp1""#,
        &[("pod", "kube-system/etcd-cp1")],
    ),
    (
        S::LeaseFailure,
        r#"E0610 14:06:40.5 1 controller.go:201] "Failed to ensure lease exists, will retry" err="refused" interval="7s""#,
        &[],
    ),
    (
        S::NodeNotFound,
        r#"E0610 14:06:40.5 1 kubelet.go:2448] "Error getting node" err="node \"cp1\" not found""#,
        &[("node", "cp1")],
    ),
    (
        S::UnmountedVolumes,
        r#"E0610 14:06:40.5 1 pod_workers.go:951] "Error syncing pod, skipping" err="unmounted volumes=[etcd-certs etcd-data], unattached volumes=[], failed to process volumes=[]: context deadline exceeded" pod="kube-system/etcd-cp1""#,
        &[("volumes", "etcd-certs etcd-data"), ("pod", "kube-system/etcd-cp1")],
    ),
    (
        S::OrphanedPodVolumes,
        r#"E0610 14:06:40.5 1 kubelet_volumes.go:173] orphaned pod "5a1b" found, but error not a directory occurred"#,
        &[("uid", "5a1b")],
    ),
    (
        S::ReservedName,
        r#"failed to reserve container name "etcd_etcd-cp1_kube-system_b861_0": name "etcd_etcd-cp1_kube-system_b861_0" is reserved for "4280f16b""#,
        &[("name", "etcd_etcd-cp1_kube-system_b861_0"), ("holder", "4280f16b")],
    ),
    (
        S::SameUidRestart,
        r#""Pod is terminating but has been requested to restart with same UID, will be reconciled later" pod="kube-system/etcd-cp1""#,
        &[("pod", "kube-system/etcd-cp1")],
    ),
    (S::SourcesNotReady, "skipping delete because sources aren't ready yet", &[]),
    (
        S::ManifestUnparsable,
        r#"E0610 14:06:40.5 1 file.go:108] "Unable to process watch event" err="can't process config file \"/etc/kubernetes/manifests/etcd.yaml\": /etc/kubernetes/manifests/etcd.yaml: couldn't parse as pod(Object 'Kind' is missing in 'null'), please check config file""#,
        &[("path", "/etc/kubernetes/manifests/etcd.yaml")],
    ),
    (
        S::ManifestDirMissing,
        r#""Unable to read config path" err="path does not exist, ignoring" path="/etc/kubernetes/manifests""#,
        &[("path", "/etc/kubernetes/manifests")],
    ),
    (
        S::KubeadmDefaults,
        "W1124 02:00:44.477599   11284 version.go:109] falling back to the local client version: v1.36.2",
        &[("version", "v1.36.2")],
    ),
    (
        S::InotifyExhausted,
        r#""Unable to read manifest" err="unable to create inotify: inotify_init: too many open files""#,
        &[],
    ),
    (
        S::PlegUnhealthy,
        r#""Skipping pod synchronization" err="PLEG is not healthy: pleg was last seen active 3m0s ago""#,
        &[],
    ),
    (
        S::CgroupDriverMismatch,
        r#"misconfiguration: kubelet cgroup driver: "cgroupfs" is different from docker cgroup driver: "systemd""#,
        &[],
    ),
    (
        S::SwapOn,
        r"running with swap on is not supported, please disable swap or set --fail-swap-on flag to false",
        &[],
    ),
    (
        S::KubeletConfigUnreadable,
        r#""command failed" err="failed to load kubelet config file, path: /var/lib/kubelet/config.yaml, error: open: no such file or directory""#,
        &[],
    ),
    (
        S::BootstrapKubeconfigMissing,
        "unable to load bootstrap kubeconfig: stat /etc/kubernetes/bootstrap-kubelet.conf: no such file or directory",
        &[],
    ),
    (
        S::CertificateExpired,
        "part of the existing bootstrap client certificate in /etc/kubernetes/kubelet.conf is expired: 2026-01-01 00:00:00 +0000 UTC",
        &[("path", "/etc/kubernetes/kubelet.conf")],
    ),
    (
        S::CertificateExpired,
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-06-01T00:00:00Z is after 2026-01-01T00:00:00Z",
        &[],
    ),
    (
        S::CertificateNotYetValid,
        "x509: certificate has expired or is not yet valid: current time 1970-01-01T00:00:00Z is before 2026-01-01T00:00:00Z",
        &[],
    ),
    (S::UnknownAuthority, "x509: certificate signed by unknown authority", &[]),
    (
        S::CriServiceUnknown,
        r#"validate CRI v1 runtime API for endpoint "unix:///run/containerd/containerd.sock": rpc error: code = Unimplemented desc = unknown service runtime.v1.RuntimeService"#,
        &[("endpoint", "unix:///run/containerd/containerd.sock")],
    ),
    (
        S::RuntimeSocketMissing,
        "dial unix /run/containerd/containerd.sock: connect: no such file or directory",
        &[("path", "/run/containerd/containerd.sock")],
    ),
    (
        S::ShimDisconnected,
        r#"time="2026-11-24T00:19:31Z" level=info msg="shim disconnected" id=4280f16b89 namespace=k8s.io"#,
        &[("container", "4280f16b89")],
    ),
    (
        S::ImageMissing,
        r#"failed to get sandbox image "registry.k8s.io/pause:3.10": failed to pull image"#,
        &[("image", "registry.k8s.io/pause:3.10")],
    ),
    (
        S::ApiserverPortInUse,
        r#"E0610 14:06:40.5 1 run.go:74] "command failed" err="failed to create listener: failed to listen on 0.0.0.0:6443: listen tcp 0.0.0.0:6443: bind: address already in use""#,
        &[("address", "0.0.0.0"), ("port", "6443")],
    ),
    (S::EtcdTimeout, "etcdserver: request timed out, possibly due to previous leader failure", &[]),
    (
        S::EtcdDialRefused,
        r#"W0610 14:06:40.5 1 clientconn.go:1326] [core] grpc: addrConn.createTransport failed to connect to {Addr: "127.0.0.1:2379"}. Err: connection error: desc = "transport: Error while dialing dial tcp 127.0.0.1:2379: connect: connection refused". Reconnecting..."#,
        &[("address", "127.0.0.1"), ("port", "2379")],
    ),
    (
        S::ApiserverDialRefused,
        r#"Get "https://10.10.17.210:6443/api": dial tcp 10.10.17.210:6443: connect: connection refused"#,
        &[("address", "10.10.17.210"), ("port", "6443")],
    ),
    (
        S::StaticPodRejected,
        r#"I0527 09:00:05.110852 1025 eviction_manager.go:167] "Failed to admit pod to node" pod="kube-system/etcd-cp1" nodeCondition=["DiskPressure"]"#,
        &[("pod", "kube-system/etcd-cp1")],
    ),
    (
        S::OomKill,
        "Jun 10 14:06:40 cp1 kernel: Out of memory: Killed process 20728 (etcd), UID 0, total-vm:1kB",
        &[("process", "20728 (etcd")],
    ),
    (
        S::CsiNodeFatal,
        "F0610 14:06:40.5 1 csi_plugin.go:287] Failed to initialize CSINode after retrying: timed out waiting for the condition",
        &[],
    ),
];

fn scan(text: &str) -> Scan {
    scan_bytes("test", text.as_bytes(), &ScanOptions::default())
}

fn find(scan: &Scan, id: S) -> Option<&LogMatch> {
    scan.matches.iter().find(|found| found.signature == id)
}

/// The formats in which one and the same line reaches a log.
fn wrapped(line: &str) -> Vec<String> {
    vec![
        line.to_owned(),
        format!("Jun 10 14:06:40 cp1 kubelet[3255090]: {line}"),
        format!("2026-11-24T00:21:12.366940123Z stderr F {line}"),
        serde_json::json!({"__REALTIME_TIMESTAMP": "1750205824062975", "_SYSTEMD_UNIT": "kubelet.service", "MESSAGE": line}).to_string(),
        serde_json::json!({"log": format!("{line}\n"), "stream": "stderr", "time": "2026-11-24T00:21:12Z"}).to_string(),
        format!("{line}\r"),
    ]
}

#[test]
fn every_signature_has_a_row_and_a_sample_in_every_format() {
    assert!(SIGNATURES.len() >= 40);
    for id in S::ALL {
        assert_eq!(SIGNATURES.iter().filter(|row| row.id == *id).count(), 1, "{id:?}");
        let row = Signature::of(*id);
        assert!(!row.meaning.is_empty() && !row.remedy.is_empty() && !row.source.is_empty(), "{id:?}");
        assert!(SAMPLES.iter().any(|(sample, ..)| sample == id), "{id:?} has no sample");
    }
    for (id, line, params) in SAMPLES {
        for form in wrapped(line) {
            let scan = scan(&form);
            let found = find(&scan, *id).unwrap_or_else(|| panic!("{id:?} not found in {form}"));
            for (name, value) in *params {
                assert_eq!(found.param(name), Some(*value), "{id:?} {name} in {form}");
            }
            assert_eq!((found.first_line, found.count), (1, 1));
        }
    }
}

#[test]
fn effects_are_marked() {
    for id in
        [S::LeaseFailure, S::NodeNotFound, S::EtcdDialRefused, S::ApiserverDialRefused, S::CrashLoopBackOff]
    {
        assert_eq!(Signature::of(id).nature, Nature::Effect, "{id:?}");
    }
}

#[test]
fn look_alikes_do_not_match() {
    for line in [
        r#"prober.go:122] "Probe failed" output="Get http://127.0.0.1:2381/health?exclude=NOSPACE&serializable=true""#,
        r#"remote_runtime.go:569] "ContainerStatus failed" err="container \"abc\" not found""#,
        "inotify_add_watch /sys/fs/cgroup/x: no such file or directory",
        "certificate rotation is enabled",
    ] {
        assert_eq!(scan(line).matches, [], "{line}");
    }
    let full = scan("inotify_add_watch /x: no space left on device");
    assert!(find(&full, S::DiskFull).is_none(), "that is no full disk");
    assert!(find(&full, S::InotifyExhausted).is_some());
    let early = scan("x509: certificate has expired or is not yet valid: current time A is before B");
    assert!(find(&early, S::CertificateExpired).is_none());
}

#[test]
fn equal_lines_are_one_match_with_first_last_and_count() {
    let line = |second: u32, node: &str| {
        format!("E0610 14:06:{second:02}.5   1 a.go:1] \"x\" err=\"node \\\"{node}\\\" not found\"\n")
    };
    let text = format!(
        "I0610 14:06:00.5 1 a.go:1] y\n{}{}\n{}{}",
        line(1, "a"),
        line(2, "b"),
        line(3, "a"),
        line(9, "a")
    );
    let scan = scan(&text);
    assert_eq!(scan.matches.len(), 2);
    let found = &scan.matches[0];
    assert_eq!((found.first_line, found.last_line, found.count), (2, 6, 3));
    assert_eq!(found.time.as_deref(), Some("0610 14:06:09.5"));
    assert_eq!(scan.lines, 6);
    assert_eq!(scan.bytes, text.len() as u64);
}

#[test]
fn partial_container_lines_are_joined_per_stream() {
    let text = "2026-11-24T00:00:00.000000000Z stderr P listen tcp 10.0.0.1:2380: bind: addr\n\
                2026-11-24T00:00:00.000000001Z stdout F between\n\
                2026-11-24T00:00:00.000000002Z stderr P ess already\n\
                2026-11-24T00:00:00.000000003Z stderr F  in use\n";
    let scan = scan(text);
    let found = find(&scan, S::BindInUse).expect("joined");
    assert_eq!(found.param("port"), Some("2380"));
    assert_eq!((found.first_line, scan.lines), (4, 4));
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).expect("pack");
    packed.finish().expect("pack")
}

/// As logrotate leaves them: the newest, the one before it, and older ones packed.
#[test]
fn a_rotated_kubelet_log_is_read_in_all_its_files() {
    let dir = tempfile::tempdir().expect("temp dir");
    let third = SAMPLES.len() / 3;
    let text = |part: &[Sample]| part.iter().flat_map(|(_, line, _)| [line, "\n"]).collect::<String>();
    let parts = [&SAMPLES[2 * third..], &SAMPLES[third..2 * third], &SAMPLES[..third]]
        .map(|part| (part.len(), text(part)));
    let names = ["kubelet.log", "kubelet.log.1", "kubelet.log.2.gz"];
    let deadline = Deadline::after(Duration::from_mins(1));
    let mut seen = std::collections::BTreeSet::new();
    for (name, (lines, text)) in names.into_iter().zip(parts) {
        let path = dir.path().join(name);
        let bytes = if path.extension() == Some("gz".as_ref()) { gzipped(&text) } else { text.into_bytes() };
        std::fs::write(&path, bytes).expect("write");
        let scan = scan_file(&path, &ScanOptions::default(), &deadline).expect("scans");
        assert_eq!(scan.lines, lines as u64, "{name}");
        assert!(scan.matches.iter().all(|found| found.source.ends_with(name)), "{name}");
        seen.extend(scan.matches.iter().map(|found| format!("{:?}", found.signature)));
    }
    let all = S::ALL.iter().map(|id| format!("{id:?}")).collect();
    assert_eq!(seen, all);
}

/// kubelet rotates a container's log between two writes of the runtime, which may be parts of one line.
#[test]
fn a_line_that_a_rotation_cut_is_joined_when_the_files_come_as_one_stream() {
    let old = "2026-11-24T00:00:00.000000000Z stderr F before\n\
               2026-11-24T00:00:00.000000001Z stderr P listen tcp 10.0.0.1:2380: bind: addr\n";
    let new = "2026-11-24T00:00:00.000000002Z stdout F between\n\
               2026-11-24T00:00:00.000000003Z stderr P ess already\n\
               2026-11-24T00:00:00.000000004Z stderr F  in use\n";
    let options = ScanOptions::default();
    let deadline = Deadline::after(Duration::from_mins(1));
    let plain = [old, new].concat().into_bytes();
    // As by `cat`, which gzip members survive too.
    let packed = [gzipped(old), gzipped(new)].concat();
    for bytes in [plain, packed] {
        let scan = scan_reader("etcd", &bytes[..], &options, &deadline).expect("scans");
        let found = find(&scan, S::BindInUse).expect("joined");
        assert_eq!((found.param("port"), found.count, scan.lines), (Some("2380"), 1, 5));
    }
    // Each file alone shows no whole line, and nothing is made of a part.
    for part in [old, new] {
        assert!(find(&super::scan_bytes("etcd", part.as_bytes(), &options), S::BindInUse).is_none());
    }
}

#[test]
fn gzip_files_limits_and_damage() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("kubelet.log.gz");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for (_, line, _) in SAMPLES {
        writeln!(packed, "{line}").expect("pack");
    }
    let packed = packed.finish().expect("pack");
    std::fs::write(&path, &packed).expect("write");
    let deadline = Deadline::after(Duration::from_mins(1));
    let whole = scan_file(&path, &ScanOptions::default(), &deadline).expect("scans");
    assert_eq!(whole.lines, SAMPLES.len() as u64);
    assert!(S::ALL.iter().all(|id| find(&whole, *id).is_some()));
    let few = ScanOptions { matches: 3, input_bytes: 5000, ..ScanOptions::default() };
    let cut = scan_file(&path, &few, &deadline).expect("scans");
    assert!(cut.truncated && cut.matches.len() == 3 && cut.bytes == 5000);
    std::fs::write(&path, &packed[..packed.len() / 2]).expect("write");
    let error = scan_file(&path, &ScanOptions::default(), &deadline).expect_err("cut gzip");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("kubelet.log.gz"), "{error}");
    let error = scan_file(&dir.path().join("none"), &few, &deadline).expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let over = scan_file(&path, &few, &Deadline::after(Duration::ZERO)).expect_err("late");
    assert_eq!(over.kind(), ErrorKind::Timeout);
}

#[test]
fn a_line_without_end_is_scanned_in_pieces_and_memory_stays_small() {
    let options = ScanOptions { line_bytes: 4096, ..ScanOptions::default() };
    let mut scanner = Scanner::new("x", &options);
    for _ in 0..10_000 {
        scanner.feed(&[b'x'; 1000]);
    }
    scanner.feed(b" node \"a\" not found ");
    let scan = scanner.finish();
    assert_eq!(scan.bytes, 10_000_020);
    assert_eq!(scan.matches.len(), 1);
    assert!(scan.matches[0].text.len() <= options.text_bytes);
}

#[test]
fn recorded_logs_of_the_incidents() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let deadline = Deadline::after(Duration::from_mins(1));
    let read = |name: &str| scan_file(&dir.join(name), &ScanOptions::default(), &deadline).expect(name);
    let etcd = read("incident-orphan/etcd-container.log");
    let bind = find(&etcd, S::BindInUse).expect("bind");
    assert_eq!(
        (bind.param("address"), bind.param("port"), bind.count),
        (Some("10.10.17.210"), Some("2380"), 2)
    );
    let kubelet = read("incident-orphan/kubelet.log");
    assert!(find(&kubelet, S::NodeNotFound).is_some_and(|found| found.count > 300));
    let crash = read("incident-deadlock/kubelet.log");
    assert!(
        crash
            .matches
            .iter()
            .any(|found| found.signature == S::CrashLoopBackOff && found.param("container") == Some("etcd"))
    );
    let lost = read("incident-lost/kubeadm-noconfig.txt");
    assert_eq!(find(&lost, S::KubeadmDefaults).map(|found| found.count), Some(4));
    let seed = read("seed-incident/README.md");
    for id in [S::BindInUse, S::UnmountedVolumes, S::CrashLoopBackOff, S::LeaseFailure, S::LoggingBlocked] {
        assert!(find(&seed, id).is_some(), "{id:?}");
    }
}

/// What must not depend on how a log is cut into pieces.
fn essence(scan: &Scan) -> Vec<impl Ord + std::fmt::Debug> {
    let mut found: Vec<_> = scan
        .matches
        .iter()
        .map(|found| (found.signature, found.first_line, found.last_line, found.count, found.params.clone()))
        .collect();
    found.sort();
    found
}

proptest! {
    #[test]
    fn cuts_do_not_matter(
        picks in prop::collection::vec(0..SAMPLES.len(), 1..30),
        form in 0..6_usize,
        cuts in prop::collection::vec(1..200_usize, 1..40),
    ) {
        let text = picks
            .iter()
            .fold(String::new(), |text, pick| text + &wrapped(SAMPLES[*pick].1)[form] + "\nplain line\n");
        let whole = scan(&text);
        let mut scanner = Scanner::new("test", &ScanOptions::default());
        let mut rest = text.as_bytes();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            scanner.feed(piece);
            rest = tail;
        }
        let cut = scanner.finish();
        prop_assert_eq!(essence(&whole), essence(&cut));
        prop_assert_eq!(whole.lines, cut.lines);
    }

    #[test]
    fn bytes_of_any_kind_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        picks in prop::collection::vec((0..SAMPLES.len(), 0..2000_usize), 0..8),
    ) {
        let mut soup = bytes;
        for (pick, at) in picks {
            let at = at.min(soup.len());
            soup.splice(at..at, SAMPLES[pick].1.bytes());
        }
        let scan = scan_bytes("soup", &soup, &ScanOptions { line_bytes: 300, ..ScanOptions::default() });
        prop_assert_eq!(scan.bytes, soup.len() as u64);
        let _ = super::line::parse(&String::from_utf8_lossy(&soup));
    }
}
