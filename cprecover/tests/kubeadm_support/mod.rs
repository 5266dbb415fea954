//! A node on disk for the tests of `cprecover::kubeadm`: recorded manifests, made-up certificates, and
//! the double (or, with `KUBEADM=/path`, the real program) as its kubeadm.
#![allow(dead_code, reason = "each test file uses a part")]

#[path = "../executable/mod.rs"]
pub(crate) mod executable;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cprecover::NodeOptions;
use cprecover::kubeadm::{ManifestOrigin, ManifestSource, Options, Sources};
use cprecover::model::{Component, Digest};
use cprecover::sys::Deadline;

/// The recorded config.
pub(crate) const CONFIG: &[u8] = include_bytes!("../../testdata/kubeadm-1.36/kubeadm-config.yaml");

/// The address in the recorded config.
pub(crate) const ADDRESS: &str = "10.10.17.210";

/// Returns a recorded manifest.
pub(crate) fn recorded(component: Component) -> &'static [u8] {
    match component {
        Component::Etcd => include_bytes!("../../testdata/kubeadm-1.36/manifests/etcd.yaml"),
        Component::KubeApiserver => {
            include_bytes!("../../testdata/kubeadm-1.36/manifests/kube-apiserver.yaml")
        }
        Component::KubeControllerManager => {
            include_bytes!("../../testdata/kubeadm-1.36/manifests/kube-controller-manager.yaml")
        }
        _ => include_bytes!("../../testdata/kubeadm-1.36/manifests/kube-scheduler.yaml"),
    }
}

/// The four recorded manifests as last known good.
pub(crate) fn known_good() -> Vec<ManifestSource> {
    Component::ALL
        .into_iter()
        .map(|component| {
            let name = format!("snapshot {}", component.manifest_file());
            ManifestSource::new(component, ManifestOrigin::LastKnownGood, name, recorded(component))
        })
        .collect()
}

/// Sources with the four recorded manifests and nothing else.
pub(crate) fn manifests_only() -> Sources {
    let mut sources = Sources::default();
    sources.manifests = known_good();
    sources
}

/// A node's file system.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) options: NodeOptions,
}

impl Node {
    /// Makes a healthy node with the four recorded manifests live, and the double as its kubeadm.
    pub(crate) fn new(double_flags: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("cprecover-kubeadm-").tempdir().expect("temp dir");
        let options = NodeOptions::at(dir.path()).expect("absolute");
        let node = Self { dir, options };
        for folder in [
            "etc/kubernetes/manifests",
            "etc/kubernetes/pki/etcd",
            "etc/ssl/certs",
            "etc/ca-certificates",
            "usr/share/ca-certificates",
            "usr/local/share/ca-certificates",
            "usr/bin",
            "var/lib/kubelet",
            "var/lib/etcd/member/snap",
            "var/lib/etcd/member/wal",
        ] {
            std::fs::create_dir_all(node.path(folder)).expect("mkdir");
        }
        for component in Component::ALL {
            node.write(
                &format!("etc/kubernetes/manifests/{}", component.manifest_file()),
                recorded(component),
            );
        }
        node.write("var/lib/etcd/member/snap/db", &[1; 4096]);
        node.write("var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal", &[1; 4096]);
        for conf in ["controller-manager.conf", "scheduler.conf"] {
            node.write(&format!("etc/kubernetes/{conf}"), b"apiVersion: v1\nkind: Config\n");
        }
        node.write("etc/hostname", b"cp1\n");
        node.certificates(ADDRESS, 2000, 4000);
        node.install_kubeadm(double_flags);
        node
    }

    /// Returns a path below the root.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Writes a file below the root.
    pub(crate) fn write(&self, below: &str, bytes: &[u8]) {
        std::fs::write(self.path(below), bytes).expect("write");
    }

    /// Puts a two-line wrapper of the double at `usr/bin/kubeadm`.
    pub(crate) fn install_kubeadm(&self, double_flags: &[&str]) {
        let path = self.path("usr/bin/kubeadm");
        let script = match std::env::var("KUBEADM") {
            Ok(real) if double_flags.is_empty() => format!("#!/bin/sh\nexec '{real}' \"$@\"\n"),
            _ => format!(
                "#!/bin/sh\nexec '{}' double kubeadm --host-root '{}' {} -- \"$@\"\n",
                env!("CARGO_BIN_EXE_cprecover"),
                self.dir.path().display(),
                double_flags.join(" ")
            ),
        };
        executable::install(&path, script.as_bytes());
    }

    /// Makes all certificates and keys, for `address`, valid between the given years.
    pub(crate) fn certificates(&self, address: &str, from_year: i32, to_year: i32) {
        let address: IpAddr = address.parse().expect("address");
        for name in ["ca", "front-proxy-ca", "etcd/ca"] {
            self.certificate(name, "ca", &[], &[], from_year, to_year);
        }
        let loopback: IpAddr = "127.0.0.1".parse().expect("address");
        let service: IpAddr = "10.96.0.1".parse().expect("address");
        let names = ["cp1", "kubernetes.default.svc.cluster.local"];
        self.certificate("apiserver", "kube-apiserver", &names, &[service, address], from_year, to_year);
        for name in ["etcd/server", "etcd/peer"] {
            self.certificate(name, "cp1", &["cp1", "localhost"], &[address, loopback], from_year, to_year);
        }
        for name in ["apiserver-kubelet-client", "apiserver-etcd-client", "front-proxy-client"] {
            self.certificate(name, "client", &[], &[], from_year, to_year);
        }
        self.write("etc/kubernetes/pki/sa.key", b"key");
        self.write("etc/kubernetes/pki/sa.pub", b"key");
    }

    pub(crate) fn certificate(&self, name: &str, cn: &str, dns: &[&str], ips: &[IpAddr], from: i32, to: i32) {
        let (certificate, key) = pair(cn, None, dns, ips, from, to);
        self.write(&format!("etc/kubernetes/pki/{name}.crt"), certificate.as_bytes());
        self.write(&format!("etc/kubernetes/pki/{name}.key"), key.as_bytes());
    }

    /// Writes a kubeconfig with a client certificate of its own, which has ended.
    pub(crate) fn kubeconfig(&self, name: &str, cn: &str, organization: &str) {
        use base64::Engine as _;
        let (certificate, _) = pair(cn, Some(organization), &[], &[], 2000, 2001);
        let data = base64::engine::general_purpose::STANDARD.encode(certificate);
        let text = format!(
            "apiVersion: v1\nkind: Config\nusers:\n- name: {cn}\n  user:\n    client-certificate-data: {data}\n"
        );
        self.write(&format!("etc/kubernetes/{name}"), text.as_bytes());
    }

    /// Returns inode, times and digest of every file in the live folder.
    pub(crate) fn live(&self) -> BTreeMap<PathBuf, (u64, i64, i64, Digest)> {
        std::fs::read_dir(self.path("etc/kubernetes/manifests"))
            .expect("list")
            .map(|entry| {
                let path = entry.expect("entry").path();
                let meta = path.symlink_metadata().expect("stat");
                let digest = Digest::of(&std::fs::read(&path).expect("read"));
                (path, (meta.ino(), meta.mtime(), meta.mtime_nsec(), digest))
            })
            .collect()
    }

    /// Returns options that judge certificates by a fixed day.
    pub(crate) fn plan_options() -> Options {
        let mut options = Options::default();
        // 2026-11-24
        options.now = Some(Duration::from_hours(498_750));
        options
    }

    /// Fails unless the staging folder is gone.
    pub(crate) fn assert_no_staging(&self) {
        let staging = self.path("var/lib/cprecover/staging");
        let left: Vec<_> = std::fs::read_dir(&staging).map(|dir| dir.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A deadline that no healthy test reaches.
pub(crate) fn deadline() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}

/// Runs the kubeadm under test; returns exit code, stdout, stderr.
pub(crate) fn kubeadm(
    root: &Path,
    double_flags: &[&str],
    args: &[&str],
    dry_run_dir: &Path,
) -> (i32, String, String) {
    let mut command = match std::env::var_os("KUBEADM") {
        Some(real) if double_flags.is_empty() => std::process::Command::new(real),
        _ => {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cprecover"));
            command.args(["double", "kubeadm", "--host-root"]).arg(root).args(double_flags).arg("--");
            command
        }
    };
    let output = command
        .args(args)
        .env_clear()
        .env("KUBEADM_INIT_DRYRUN_DIR", dry_run_dir)
        .output()
        .expect("kubeadm runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("exit code"), text(output.stdout), text(output.stderr))
}

/// Makes a certificate, valid between the given years, and its key, both PEM.
pub(crate) fn pair(
    cn: &str,
    organization: Option<&str>,
    dns: &[&str],
    ips: &[IpAddr],
    from: i32,
    to: i32,
) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("key");
    let names = dns.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut params = rcgen::CertificateParams::new(names).expect("names");
    params.subject_alt_names.extend(ips.iter().map(|ip| rcgen::SanType::IpAddress(*ip)));
    params.distinguished_name.push(rcgen::DnType::CommonName, cn);
    if let Some(organization) = organization {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
    }
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let certificate = params.self_signed(&key).expect("signs");
    (certificate.pem(), key.serialize_pem())
}
