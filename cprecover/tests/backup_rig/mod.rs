//! A node below a temporary root, with the manifests that kubeadm wrote on a real one.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use cprecover::NodeOptions;
use cprecover::backup::{CreateOptions, Group, Snapshot, Store};
use cprecover::sys::Deadline;

pub const MANIFESTS: &str = "etc/kubernetes/manifests";

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub node: NodeOptions,
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let node = NodeOptions::at(dir.path()).expect("absolute");
        let rig = Self { dir, node };
        std::fs::create_dir_all(rig.path(MANIFESTS)).expect("mkdir");
        std::fs::create_dir_all(rig.path("etc/kubernetes/pki/etcd")).expect("mkdir");
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kubeadm-1.36/manifests");
        for entry in recorded.read_dir().expect("test data") {
            let entry = entry.expect("test data");
            rig.write(
                &format!("{MANIFESTS}/{}", entry.file_name().display()),
                std::fs::read(entry.path()).expect("read"),
            );
        }
        rig.write("etc/kubernetes/pki/ca.crt", "certificate");
        rig.write("etc/kubernetes/pki/ca.key", "the-private-key");
        rig.write("etc/kubernetes/pki/etcd/ca.key", "the-etcd-key");
        rig.write("etc/kubernetes/admin.conf", "client-key-data: c2VjcmV0");
        rig
    }

    pub fn path(&self, below_root: &str) -> PathBuf {
        self.dir.path().join(below_root)
    }

    pub fn manifest(&self, name: &str) -> PathBuf {
        self.path(MANIFESTS).join(name)
    }

    pub fn write(&self, below_root: &str, bytes: impl AsRef<[u8]>) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(below_root);
        std::fs::write(&path, bytes).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    pub fn store(&self) -> Store {
        Store::open(&self.node).expect("open store")
    }

    pub fn create(&self, groups: &[Group]) -> Snapshot {
        let mut options = CreateOptions::default();
        options.groups = groups.to_vec();
        self.store().create(&options, &minute()).expect("create")
    }

    /// The names and bytes in the manifests folder.
    pub fn manifests(&self) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = std::fs::read_dir(self.path(MANIFESTS))
            .expect("read dir")
            .map(|entry| entry.expect("entry"))
            .map(|entry| {
                (
                    entry.file_name().to_string_lossy().into_owned(),
                    std::fs::read(entry.path()).unwrap_or_default(),
                )
            })
            .collect();
        all.sort();
        all
    }

    pub fn snapshot_dir(&self, snapshot: &Snapshot) -> PathBuf {
        self.node.store().join("snapshots").join(snapshot.id.as_str())
    }
}

/// The program under test; a loud word where this build has none (a stale one may lie there).
pub fn program() -> Option<&'static str> {
    let built = option_env!("CARGO_BIN_EXE_cprecover").filter(|_| cfg!(feature = "cli"));
    if built.is_none() {
        eprintln!("SKIPPED: the program is not built (feature cli)");
    }
    built
}

pub fn minute() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}
