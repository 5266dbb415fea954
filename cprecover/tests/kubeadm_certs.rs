//! Expired certificates, renewed by the double of kubeadm on a copy, installed with a backup.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs, reason = "tests")]

mod kubeadm_support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use cprecover::backup::{CreateOptions, Group, RestoreOptions, Selection, Store};
use cprecover::model::Digest;
use kubeadm_support::{ADDRESS, CONFIG, Node, deadline};
use serde_json::Value;

const SERVER: &str = "etc/kubernetes/pki/apiserver.crt";
const KEY: &str = "etc/kubernetes/pki/apiserver.key";

/// A node whose certificates have all ended, authorities apart, and whose config is captured.
fn expired(double_flags: &[&str]) -> Node {
    let node = Node::new(double_flags);
    node.certificates(ADDRESS, 2000, 2001);
    for name in ["ca", "front-proxy-ca", "etcd/ca"] {
        node.certificate(name, name.rsplit('/').next().unwrap(), &[], &[], 2000, 4000);
    }
    node.write("etc/kubernetes/kubeadm-config.yaml", CONFIG);
    let mut options = CreateOptions::default();
    options.groups = vec![Group::Manifests, Group::Kubeadm];
    options.health_verified = true;
    Store::open(&node.options).unwrap().create(&options, &deadline()).unwrap();
    node
}

fn run(node: &Node, args: &[&str]) -> Output {
    let root = node.dir.path().to_str().unwrap();
    let mut all = vec!["--root", root, "-o", "json", "regenerate", "certs"];
    all.extend(args);
    Command::new(env!("CARGO_BIN_EXE_cprecover")).args(all).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn digest(node: &Node, file: &str) -> Digest {
    Digest::of(&std::fs::read(node.path(file)).unwrap())
}

#[test]
fn a_plan_renews_on_a_copy_and_apply_asks_for_consent() {
    let node = expired(&[]);
    let (certificate, key) = (digest(&node, SERVER), digest(&node, KEY));
    let output = run(&node, &["plan"]);
    let plan = json(&output);
    assert_eq!(output.status.code(), Some(0));
    let renewals = plan["renewals"].as_array().unwrap();
    assert_eq!(renewals.len(), 6, "{plan:#}");
    let server = renewals.iter().find(|r| r["path"] == "/etc/kubernetes/pki/apiserver.crt").unwrap();
    assert_eq!(server["subject"], "kube-apiserver");
    assert!(server["endsUnix"].as_i64().unwrap() > server["endedUnix"].as_i64().unwrap());
    let refused = run(&node, &["apply"]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!((digest(&node, SERVER), digest(&node, KEY)), (certificate, key));
    node.assert_no_staging();
}

#[test]
fn what_is_installed_can_be_taken_back() {
    let node = expired(&[]);
    let (certificate, key) = (digest(&node, SERVER), digest(&node, KEY));
    let output = run(&node, &["apply", "--consent", "/etc/kubernetes/pki/apiserver.crt"]);
    let renewed = json(&output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_ne!((digest(&node, SERVER), digest(&node, KEY)), (certificate, key));
    let mode = |file: &str| std::fs::metadata(node.path(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(SERVER), mode(KEY)), (0o644, 0o600));
    // Only what was named is renewed.
    let etcd = std::fs::read(node.path("etc/kubernetes/pki/etcd/server.crt")).unwrap();
    let store = Store::open(&node.options).unwrap();
    let before = renewed["before"].as_str().unwrap().parse().unwrap();
    let kept = store.read(&before, &PathBuf::from("/etc/kubernetes/pki/etcd/server.crt")).unwrap();
    assert_eq!(etcd, kept);
    store.restore(&before, &Selection::All, &RestoreOptions::default(), &deadline()).unwrap();
    assert_eq!((digest(&node, SERVER), digest(&node, KEY)), (certificate, key));
}

#[test]
fn nothing_is_installed_that_is_not_the_same_certificate_with_a_new_date() {
    for (flags, said) in [
        (&["--wrong-component"][..], "is of somebody-else"),
        (&["--fail-half-way"][..], "kubeadm could not renew apiserver"),
        (&["--garbage"][..], "kubeadm could not renew apiserver"),
    ] {
        let node = expired(flags);
        let (certificate, key) = (digest(&node, SERVER), digest(&node, KEY));
        let output = run(&node, &["apply", "--consent", "/etc/kubernetes/pki/apiserver.crt"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {stderr}");
        assert!(stderr.contains(said), "{flags:?}: {stderr}");
        assert_eq!((digest(&node, SERVER), digest(&node, KEY)), (certificate, key), "{flags:?}");
        node.assert_no_staging();
    }
}

#[test]
fn authorities_are_left_alone_and_kubeconfigs_keep_their_server() {
    let node = expired(&[]);
    let output = run(&node, &["plan", "/etc/kubernetes/pki/ca.crt"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("kubeadm does not renew an authority"), "{stderr}");

    let plan = json(&run(&node, &["plan", "/etc/kubernetes/scheduler.conf"]));
    assert_eq!(plan["renewals"][0]["subject"], "system:kube-scheduler", "{plan:#}");
    node.write(
        "etc/kubernetes/scheduler.conf",
        b"apiVersion: v1\nkind: Config\nclusters:\n- name: x\n  cluster:\n    server: https://192.0.2.1:6443\n",
    );
    let output = run(&node, &["plan", "/etc/kubernetes/scheduler.conf"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("where the old one led to Some(\"https://192.0.2.1:6443\")"), "{stderr}");
}

/// The engine's action, with the caller's consent and without.
#[test]
fn the_engine_renews_what_it_saw_to_have_ended_when_the_caller_agreed() {
    use cprecover::policy::{Action, contract::Consent};
    use cprecover::recover::{Host, NodeWorld, World as _, observe};
    let node = expired(&[]);
    let (certificate, key) = (digest(&node, SERVER), digest(&node, KEY));
    let seen = observe(&Host::new(&node.options), &deadline());
    let action = Action::RenewCertificate { path: "/etc/kubernetes/pki/apiserver.crt".into() };
    let mut world = NodeWorld::new(Host::new(&node.options), Vec::new());
    let error = world.perform(&action, &seen, &deadline()).unwrap_err();
    assert_eq!(error.kind(), cprecover::ErrorKind::Refused, "{error}");
    assert_eq!((digest(&node, SERVER), digest(&node, KEY)), (certificate, key));

    let mut world = NodeWorld::new(Host::new(&node.options), vec![Consent::RenewCertificates]);
    let done = world.perform(&action, &seen, &deadline()).unwrap();
    assert!(done.detail.contains("/etc/kubernetes/pki/apiserver.crt until "), "{}", done.detail);
    assert_ne!((digest(&node, SERVER), digest(&node, KEY)), (certificate, key));
    // It is taken back by hand from the snapshot that is named.
    let by_hand = node.options.by_hand("restore ");
    let before = done.undo.as_deref().and_then(|undo| undo.strip_prefix(by_hand.as_str()));
    let before = before.and_then(|undo| undo.strip_suffix(" --group all")).unwrap();
    let store = Store::open(&node.options).unwrap();
    let kept =
        store.read(&before.parse().unwrap(), &PathBuf::from("/etc/kubernetes/pki/apiserver.crt")).unwrap();
    assert_eq!(Digest::of(&kept), certificate);
    // What is valid now was not seen to have ended.
    let seen = observe(&Host::new(&node.options), &deadline());
    let error = world.perform(&action, &seen, &deadline()).unwrap_err();
    assert_eq!(error.kind(), cprecover::ErrorKind::Changed, "{error}");
}

#[test]
fn a_kubeconfig_stays_of_its_user_and_groups() {
    let node = expired(&[]);
    let plan = |name: &str| run(&node, &["plan", &format!("/etc/kubernetes/{name}")]);
    // As kubeadm before 1.29 made it: another group, other rights.
    node.kubeconfig("admin.conf", "kubernetes-admin", "system:masters");
    let output = plan("admin.conf");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("is of group kubeadm:cluster-admins, the old one of group system:masters"),
        "{stderr}"
    );
    node.kubeconfig("admin.conf", "kubernetes-admin", "kubeadm:cluster-admins");
    assert_eq!(plan("admin.conf").status.code(), Some(0));
}

#[test]
fn kubelets_kubeconfig_is_of_the_node_that_kubelet_is() {
    let node = expired(&[]);
    let stub =
        b"apiVersion: v1\nkind: Config\nusers:\n- name: default-auth\n  user:\n    client-certificate: \
        /var/lib/kubelet/pki/kubelet-client-current.pem\n";
    node.write("etc/kubernetes/kubelet.conf", stub);
    let plan = || {
        let output = run(&node, &["plan", "/etc/kubernetes/kubelet.conf"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stderr) = plan();
    assert!(code == Some(4) && stderr.contains("neither kubelet.conf nor"), "{code:?} {stderr}");
    std::fs::create_dir(node.path("var/lib/kubelet/pki")).unwrap();
    for (cn, renewed) in [("system:node:cp9", false), ("system:node:cp1", true)] {
        let (certificate, key) = kubeadm_support::pair(cn, Some("system:nodes"), &[], &[], 2000, 2001);
        node.write(
            "var/lib/kubelet/pki/kubelet-client-current.pem",
            format!("{key}{certificate}").as_bytes(),
        );
        let (code, stderr) = plan();
        assert_eq!(code == Some(0), renewed, "{cn}: {stderr}");
    }
    // Named twice, made once.
    let paths = ["/var/lib/kubelet/pki/kubelet-client-current.pem", "/etc/kubernetes/kubelet.conf"];
    let made = json(&run(&node, &["plan", paths[0], paths[1]]));
    assert_eq!(made["renewals"].as_array().unwrap().len(), 1, "{made:#}");
}

#[test]
fn one_that_cannot_be_renewed_keeps_none_of_the_others() {
    let node = expired(&[]);
    node.kubeconfig("admin.conf", "kubernetes-admin", "system:masters");
    let plan = json(&run(&node, &["plan"]));
    assert_eq!(plan["renewals"].as_array().unwrap().len(), 6, "{plan:#}");
    let left = plan["left"].as_array().unwrap();
    assert_eq!(left[0][0], "/etc/kubernetes/admin.conf", "{plan:#}");
    assert!(left[0][1].as_str().unwrap().contains("system:masters"), "{plan:#}");
}

#[test]
fn nothing_to_renew_is_no_error() {
    let node = Node::new(&[]);
    for args in [&["plan"][..], &["apply", "--consent"]] {
        let output = run(&node, args);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(json(&output)["renewals"], serde_json::json!([]));
    }
    assert!(Store::open(&node.options).unwrap().list().unwrap().is_empty());
}
