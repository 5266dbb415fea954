//! `cprecover regenerate capture|plan|apply` as an operator runs it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod kubeadm_support;

use cprecover::ErrorKind;
use cprecover::kubeadm::{ClusterReader, Config, Sources, capture};
use cprecover::model::{Component, NodeName};
use cprecover::sys::Deadline;
use kubeadm_support::{CONFIG, Node, deadline, manifests_only, recorded};
use serde_json::{Value, json};

fn regenerate(node: &Node, args: &[&str]) -> (i32, Value, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cprecover"))
        .arg("--root")
        .arg(node.dir.path())
        .args(["-o", "json", "regenerate"])
        .args(args)
        .output()
        .unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), value, String::from_utf8(output.stderr).unwrap())
}

/// A kubectl that answers as the API does.
fn install_kubectl(node: &Node) {
    let text = String::from_utf8(CONFIG.to_vec()).unwrap();
    let cluster = text.split("---\n").nth(1).unwrap();
    let object = json!({"kind": "ConfigMap", "data": {"ClusterConfiguration": cluster}});
    node.write("object.json", object.to_string().as_bytes());
    let script = format!("#!/bin/sh\nexec /bin/cat '{}'\n", node.path("object.json").display());
    kubeadm_support::executable::install(&node.path("usr/bin/kubectl"), script.as_bytes());
}

#[test]
fn captured_lost_planned_and_applied() {
    let node = Node::new(&[]);
    install_kubectl(&node);
    let (code, value, stderr) = regenerate(&node, &["capture"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(value["schema"], "cprecover.dev/kubeadm-config/v1");
    assert_eq!(value["clusterUnread"], Value::Null);
    let captured = std::fs::read(node.path("etc/kubernetes/kubeadm-config.yaml")).unwrap();
    let config = Config::parse(&captured).unwrap();
    assert_eq!(config.pod_subnet.as_deref(), Some("10.244.0.0/16"));
    assert_eq!(config.node_name.as_ref().map(NodeName::as_str), Some("cp1"));
    // Twice is no harm; a file of somebody else's is not replaced.
    assert_eq!(regenerate(&node, &["capture"]).0, 0);
    // The outage: all four manifests are lost.
    for component in Component::ALL {
        std::fs::remove_file(node.path(&format!("etc/kubernetes/manifests/{}", component.manifest_file())))
            .unwrap();
    }
    let (code, value, stderr) = regenerate(&node, &["plan"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(value["schema"], "cprecover.dev/regeneration-plan/v1");
    assert_eq!(value["files"].as_array().unwrap().len(), 4);
    assert!(node.live().is_empty());
    node.assert_no_staging();
    let (code, _, stderr) = regenerate(&node, &["apply"]);
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("no known good manifest") && node.live().is_empty(), "{stderr}");
    let (code, value, stderr) = regenerate(&node, &["apply", "--accept-without-comparison"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(value["components"].as_array().unwrap().len(), 4);
    for component in Component::ALL {
        let live =
            std::fs::read(node.path(&format!("etc/kubernetes/manifests/{}", component.manifest_file())));
        assert_eq!(live.unwrap(), recorded(component), "{component}");
    }
    let (code, value, stderr) = regenerate(&node, &["plan"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(value["nothingToDo"].as_str().unwrap().contains("every manifest is there"), "{value}");
    assert_eq!(regenerate(&node, &["apply"]).0, 0);
    node.write("etc/kubernetes/kubeadm-config.yaml", CONFIG);
    assert_eq!(regenerate(&node, &["capture"]).0, 4);
    assert_eq!(std::fs::read(node.path("etc/kubernetes/kubeadm-config.yaml")).unwrap(), CONFIG);
}

#[test]
fn a_table_shows_origins_differences_and_unknowns() {
    let node = Node::new(&[]);
    std::fs::remove_file(node.path("etc/kubernetes/manifests/kube-scheduler.yaml")).unwrap();
    let (code, _, stderr) = regenerate(&node, &["plan", "scheduler"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("scheduler.extraArgs"), "{stderr}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cprecover"))
        .arg("--root")
        .arg(node.dir.path())
        .args(["regenerate", "plan", "scheduler", "apiserver", "--assume-default", "scheduler.extraArgs"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "networking.serviceSubnet = \"10.96.0.0/12\"  (manifest ",
        "unknown: nodeRegistration.criSocket",
        "kube-apiserver compared with ",
        "no difference",
        "kube-scheduler compared with nothing",
        "pass   version-skew",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

struct Api(Result<Vec<u8>, ErrorKind>);

impl ClusterReader for Api {
    fn config_map(&self, _: &str, _: &str, _: &Deadline) -> cprecover::Result<Vec<u8>> {
        self.0.clone().map_err(|kind| cprecover::Error::new(kind, "connection refused"))
    }
}

#[test]
fn capture_without_the_api_needs_everything_on_disk() {
    let down = Api(Err(ErrorKind::Peer));
    let captured = capture(&manifests_only(), &down, &deadline()).unwrap();
    assert!(captured.cluster_unread.unwrap().contains("connection refused"));
    assert_eq!(Config::parse(&captured.config).unwrap(), captured.reconstruction.config);
    // A saved config is believed where it is silent, so a partial one must not be saved.
    assert_eq!(capture(&Sources::default(), &down, &deadline()).unwrap_err().kind(), ErrorKind::Missing);
    let nonsense = Api(Ok(b"{}".to_vec()));
    assert_eq!(capture(&manifests_only(), &nonsense, &deadline()).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn nothing_is_captured_that_lacks_what_a_manifest_says() {
    let text = String::from_utf8(CONFIG.to_vec()).unwrap();
    let cluster = text.split("---\n").nth(1).unwrap();
    let object = json!({"kind": "ConfigMap", "data": {"ClusterConfiguration": cluster}});
    let mut sources = manifests_only();
    let etcd = String::from_utf8(recorded(Component::Etcd).to_vec()).unwrap();
    let put = |sources: &mut Sources, text: &str| sources.manifests[0].bytes = text.as_bytes().to_vec();
    assert_eq!(sources.manifests[0].component, Component::Etcd);
    let twice = etcd.replacen("kind: Pod\n", "kind: Service\nkind: Pod\n", 1);
    let config = |sources: &Sources| {
        let api = Api(Ok(object.to_string().into_bytes()));
        capture(sources, &api, &deadline()).map(|captured| captured.config)
    };
    let plain = config(&sources).unwrap();
    put(&mut sources, &twice);
    assert_eq!(config(&sources).unwrap(), plain);
    put(&mut sources, "kind: [");
    let error = config(&sources).unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("etcd.yaml"), "{error}");
    let volume = etcd
        .replace("    volumeMounts:\n", "    volumeMounts:\n    - {mountPath: /wal, name: wal}\n")
        .replace("  volumes:\n", "  volumes:\n  - {hostPath: {path: /fast/wal}, name: wal}\n");
    put(&mut sources, &volume);
    assert_eq!(config(&sources).unwrap_err().kind(), ErrorKind::Missing);
}

#[test]
fn a_config_that_is_named_goes_before_all_that_is_found() {
    let node = Node::new(&[]);
    std::fs::remove_file(node.path("etc/kubernetes/manifests/kube-scheduler.yaml")).unwrap();
    let other = String::from_utf8(CONFIG.to_vec()).unwrap().replace("v1.36.2", "v1.36.1");
    node.write("own.yaml", other.as_bytes());
    let file = node.path("own.yaml");
    let (code, value, stderr) = regenerate(&node, &["plan", "--config", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(value["reconstruction"]["config"]["kubernetesVersion"], "v1.36.1");
}
