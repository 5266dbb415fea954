//! A broken node of the drill's, ended and removed whatever a test does.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

/// What identifies a file that nobody touched: inode, size, mtime in nanoseconds.
pub(crate) type Touched = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

static QUIET: RwLock<()> = RwLock::new(());

/// Keeps the other tests of this program away while time is measured.
pub(crate) fn quiet() -> RwLockWriteGuard<'static, ()> {
    QUIET.write().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps those that measure time away.
pub(crate) fn busy() -> RwLockReadGuard<'static, ()> {
    QUIET.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Node {
    pub(crate) root: PathBuf,
    /// The orphan of the latest incident.
    pub(crate) orphan: i32,
}

pub(crate) fn cprecover(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cprecover")).args(args).output().expect("the program runs")
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

impl Node {
    /// Builds a node with the stand-in etcd and breaks it.
    pub(crate) fn broken() -> Self {
        let output = cprecover(&["drill", "--break-only", "--stand-in", "-o", "json"]);
        let broken = json(&output);
        Self {
            root: broken["root"].as_str().expect("root").into(),
            orphan: broken["incident"]["orphanPid"]
                .as_i64()
                .and_then(|pid| i32::try_from(pid).ok())
                .expect("pid"),
        }
    }

    /// Breaks the healthy node once more; the audit log of the incidents before is put away, so that
    /// their effects do not count against the rate limits.
    pub(crate) fn break_again(&mut self) {
        for file in ["audit.jsonl", "audit.end.json"] {
            let _ = std::fs::remove_file(self.root.join("var/lib/cprecover").join(file));
        }
        let output = cprecover(&["drill", "--again", self.root(), "-o", "json"]);
        let broken = json(&output);
        self.orphan =
            broken["incident"]["orphanPid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("pid");
    }

    pub(crate) fn root(&self) -> &str {
        self.root.to_str().expect("UTF-8")
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut all = vec!["--root", self.root()];
        all.extend(args);
        cprecover(&all)
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.root.join("etc/kubernetes/manifests")
    }

    /// Everything below the root that only a recovery would change.
    pub(crate) fn touched(&self) -> Touched {
        let mut seen = Touched::new();
        for folder in ["etc", "var/lib/cprecover", "var/lib/kubelet"] {
            walk(&self.root.join(folder), &mut seen);
        }
        seen
    }

    /// Waits until the kubelet double has seen the healthy API, as a node that has run for a while has.
    pub(crate) fn orphan_lives(&self) -> bool {
        Path::new("/proc")
            .join(self.orphan.to_string())
            .join("fd")
            .read_dir()
            .is_ok_and(|mut fds| fds.next().is_some())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let output = cprecover(&["drill", "--clean", self.root()]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || std::thread::panicking(), "clean-up failed: {stderr}");
    }
}

fn walk(path: &Path, seen: &mut Touched) {
    let meta = path.symlink_metadata().expect("metadata");
    seen.insert(path.to_owned(), (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()));
    if meta.is_dir() {
        for entry in path.read_dir().expect("list") {
            walk(&entry.expect("entry").path(), seen);
        }
    }
}
