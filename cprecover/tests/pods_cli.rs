//! `cprecover pods` on real folders and mounts, in a mount namespace of its own.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs, reason = "tests")]

mod executable;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const LEFT_OVER: &str = "333ccb66-3eee-2c0b-4b9a-e7a6b3cc6b72";
const MOUNTED: &str = "444ccb66-3eee-2c0b-4b9a-e7a6b3cc6b72";
/// Of the recorded etcd, which the runtime lists.
const KNOWN: &str = "b861a3bef24128f124b376302f365ff0";

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Self { dir };
        for folder in ["etc/cprecover", "etc/kubernetes/manifests", "var/lib/cprecover", "usr/bin"] {
            std::fs::create_dir_all(node.path(folder)).unwrap();
        }
        for uid in [LEFT_OVER, MOUNTED, KNOWN] {
            std::fs::create_dir_all(node.pod(uid).join("containers/old")).unwrap();
            std::fs::create_dir_all(node.pod(uid).join("volumes/kubernetes.io~empty-dir/tmp")).unwrap();
        }
        let root = node.dir.path().canonicalize().unwrap();
        let root = root.display();
        let testdata = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/health");
        let crictl = format!(
            "#!/bin/sh\nshift 4\ncase $1 in\nversion) echo 'RuntimeName: containerd' ;;\n\
             ps) cat '{testdata}/crictl-ps.json' ;;\npods) cat '{testdata}/crictl-pods.json' ;;\nesac\n"
        );
        executable::install(&node.path("usr/bin/crictl"), crictl.as_bytes());
        std::fs::write(node.path("kubelet.up"), "").unwrap();
        let shell = |script: &str| format!("[/bin/sh, -c, \"{script}\"]");
        let config = format!(
            "nodeName: cp1\ncrictl: /usr/bin/crictl\nruntimeEndpoint: unix:///run/none.sock\nkubelet:\n  commands:\n    \
             start: {}\n    stop: {}\n    state: {}\n",
            shell(&format!(": > {root}/kubelet.up; echo start >> {root}/kubelet.log")),
            shell(&format!("rm {root}/kubelet.up; echo stop >> {root}/kubelet.log")),
            shell(&format!("test -e {root}/kubelet.up || exit 3")),
        );
        std::fs::write(node.path("etc/cprecover/config.yaml"), config).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pod(&self, uid: &str) -> PathBuf {
        self.path("var/lib/kubelet/pods").join(uid)
    }

    /// Runs `cprecover pods` where a tmpfs is mounted in one pod's volume; the mount ends with the run.
    fn pods(&self, args: &[&str]) -> Output {
        let volume = self.pod(MOUNTED).join("volumes/kubernetes.io~empty-dir/tmp");
        self.pods_where("mount -t tmpfs -o size=64k tmpfs \"$1\"", &volume, args)
    }

    /// The same where a command has mounted something at `$1`.
    fn pods_where(&self, mount: &str, at: &Path, args: &[&str]) -> Output {
        let script = format!("{mount} && shift && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(at);
        command.arg(env!("CARGO_BIN_EXE_cprecover")).arg("--root").arg(self.dir.path());
        command.args(["-o", "json", "pods"]).args(args).output().unwrap()
    }

    fn kubelets_log(&self) -> String {
        std::fs::read_to_string(self.path("kubelet.log")).unwrap_or_default()
    }
}

fn can_mount() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "--propagation", "private", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]);
    if probe.output().is_ok_and(|output| output.status.success()) {
        return true;
    }
    eprintln!("SKIPPED: no mount namespace of one's own (not root, or no util-linux)");
    false
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn what_nobody_knows_is_moved_aside_and_back_and_a_mount_is_never_crossed() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let listed = json(&node.pods(&["list"]));
    let standing = |uid: &str| {
        let pods = listed["pods"].as_array().unwrap();
        pods.iter().find(|pod| pod["uid"] == uid).unwrap_or_else(|| panic!("{uid} in {listed:#}"))["standing"]
            .clone()
    };
    assert_eq!(standing(LEFT_OVER)["standing"], "leftover", "{listed:#}");
    assert_eq!(standing(KNOWN)["standing"], "knownToRuntime", "{listed:#}");
    assert_eq!(standing(MOUNTED)["obstacle"]["obstacle"], "mount", "{listed:#}");
    assert_eq!(node.kubelets_log(), "", "a list changes nothing");

    let refused = node.pods(&["quarantine", LEFT_OVER, MOUNTED]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("is mounted at") && said.contains(MOUNTED), "{said}");
    for uid in [LEFT_OVER, MOUNTED, KNOWN] {
        assert!(node.pod(uid).join("containers/old").exists(), "{uid} was moved");
    }
    assert!(node.path("kubelet.up").exists(), "kubelet runs again");

    let made = json(&node.pods(&["quarantine", "--all-leftover"]));
    assert_eq!(made["moved"][0]["uid"], LEFT_OVER, "{made:#}");
    assert_eq!(made["moved"].as_array().unwrap().len(), 1);
    assert!(!node.pod(LEFT_OVER).exists() && node.pod(MOUNTED).exists() && node.pod(KNOWN).exists());
    let folder = made["folder"].as_str().unwrap();
    assert!(PathBuf::from(folder).join(LEFT_OVER).join("containers/old").exists());
    assert!(node.kubelets_log().ends_with("stop\nstart\n"), "{}", node.kubelets_log());

    let undone = node.pods(&["undo", folder]);
    assert_eq!(undone.status.code(), Some(0), "{}", String::from_utf8_lossy(&undone.stderr));
    assert!(node.pod(LEFT_OVER).join("containers/old").exists());
    assert!(!PathBuf::from(folder).exists(), "an empty quarantine is no quarantine");
    assert_eq!(node.pods(&["undo"]).status.code(), Some(1), "there is none any more");
}

#[test]
fn kubelet_is_left_alone_where_no_quarantine_can_be_and_its_own_folder_is_the_second_place() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let bind = "mount --bind \"$1\" \"$1\"";
    let refused = node.pods_where(bind, &node.path("var/lib/kubelet/pods"), &["quarantine", LEFT_OVER]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("is on the mount of"), "{said}");
    assert_eq!(node.kubelets_log(), "", "kubelet was not touched");
    assert!(node.pod(LEFT_OVER).exists());

    let made = node.pods_where(bind, &node.path("var/lib/kubelet"), &["quarantine", LEFT_OVER]);
    let folder = json(&made)["folder"].as_str().unwrap().to_owned();
    assert!(folder.contains("/var/lib/kubelet/pods-quarantine/"), "{folder}");
    assert!(
        Path::new(&folder).join(LEFT_OVER).join("containers/old").exists() && !node.pod(LEFT_OVER).exists()
    );
    assert_eq!(node.kubelets_log(), "stop\nstart\n");
}
