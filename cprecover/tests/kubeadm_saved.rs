//! Which saved config and which backups a regeneration believes.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod kubeadm_support;

use cprecover::backup::{CreateOptions, Group, Store};
use cprecover::kubeadm::{Acceptance, Options, RegenerationPlan};
use cprecover::model::Component;
use cprecover::recover::{Host, observe, plan_regeneration};
use cprecover::{ErrorKind, Result};
use kubeadm_support::{CONFIG, Node, deadline, recorded};

const SCHEDULER: &str = "etc/kubernetes/manifests/kube-scheduler.yaml";

fn planned(node: &Node, components: &[Component]) -> Result<RegenerationPlan> {
    plan_regeneration(&Host::new(&node.options), components, &Options::default(), &deadline())
}

fn snapshot(node: &Node) -> String {
    let mut options = CreateOptions::default();
    options.health_verified = true;
    options.groups = vec![Group::Manifests, Group::Kubeadm];
    Store::open(&node.options).unwrap().create(&options, &deadline()).unwrap().id.to_string()
}

fn config_with(pods: &str) -> Vec<u8> {
    String::from_utf8(CONFIG.to_vec()).unwrap().replace("10.244.0.0/16", pods).into_bytes()
}

fn origin(plan: &RegenerationPlan, path: &str) -> String {
    plan.reconstruction.fields.iter().find(|field| field.path == path).unwrap().origin.to_string()
}

#[test]
fn the_newest_config_of_this_node_is_found_among_all_that_lies_beside_it() {
    let mut node = Node::new(&[]);
    node.write("etc/kubernetes/kubeadm-config.yaml", CONFIG);
    let good = snapshot(&node);
    // Newer ones have none: patches, the config of a joining node, one that no kubeadm of today reads.
    std::fs::remove_file(node.path("etc/kubernetes/kubeadm-config.yaml")).unwrap();
    std::fs::create_dir(node.path("etc/kubernetes/patches")).unwrap();
    node.write("etc/kubernetes/patches/etcd.yaml", b"spec: {}\n");
    node.write(
        "etc/kubernetes/kubeadm.yaml",
        b"apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\ndiscovery: {}\n",
    );
    node.write(
        "etc/kubernetes/kubeadm-init.yaml",
        b"apiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterConfiguration\n",
    );
    snapshot(&node);
    // The newest of all is another node's.
    node.write("etc/kubernetes/kubeadm-config.yaml", &config_with("10.9.0.0/16"));
    node.options.node_name = Some("cp9".into());
    snapshot(&node);
    node.options.node_name = Some("cp1".into());
    std::fs::remove_file(node.path("etc/kubernetes/kubeadm-config.yaml")).unwrap();
    std::fs::remove_file(node.path(SCHEDULER)).unwrap();
    let plan = planned(&node, &[Component::KubeScheduler]).unwrap();
    let from = origin(&plan, "networking.podSubnet");
    assert!(from.contains(&good) && from.ends_with("kubeadm-config.yaml"), "{from}");
    assert_eq!(plan.files[0].bytes, recorded(Component::KubeScheduler));
    // What lies on the node goes before.
    node.write("etc/kubernetes/kubeadm.yaml", &config_with("10.7.0.0/16"));
    let plan = planned(&node, &[Component::KubeScheduler]).unwrap();
    assert_eq!(origin(&plan, "networking.podSubnet"), "kubeadm config /etc/kubernetes/kubeadm.yaml");
    node.write("etc/kubernetes/kubeadm-config.yaml", b"half: [");
    assert!(planned(&node, &[Component::KubeScheduler]).is_ok());
}

#[test]
fn manifests_of_another_node_tell_nothing() {
    let mut node = Node::new(&[]);
    node.options.node_name = Some("cp9".into());
    snapshot(&node);
    node.options.node_name = Some("cp1".into());
    std::fs::remove_file(node.path(SCHEDULER)).unwrap();
    let error = planned(&node, &[Component::KubeScheduler]).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Missing && error.to_string().contains("scheduler.extraArgs"),
        "{error}"
    );
}

/// The engine has nothing to compare with, so that what sources disagree on is all that warns.
#[test]
fn what_sources_disagree_on_is_told_before_a_manifest_is_made_of_it() {
    let node = Node::new(&[]);
    node.write(
        "etc/kubernetes/kubeadm-config.yaml",
        &String::from_utf8(CONFIG.to_vec()).unwrap().replace("10.96.0.0/12", "10.100.0.0/16").into_bytes(),
    );
    std::fs::remove_file(node.path("etc/kubernetes/manifests/kube-controller-manager.yaml")).unwrap();
    let seen = observe(&Host::new(&node.options), &deadline());
    let fact = &seen.regenerations[0];
    assert_eq!(fact.component, Component::KubeControllerManager);
    assert!(fact.dangerous.iter().any(|text| text.contains("networking.serviceSubnet")), "{fact:?}");
    let plan = planned(&node, &[Component::KubeControllerManager]).unwrap();
    let objections = plan.objections(Acceptance::default().without_comparison());
    assert!(objections.iter().any(|text| text.contains("networking.serviceSubnet")), "{objections:?}");
    let accepted = Acceptance::up_to(cprecover::kubeadm::Severity::NeedsReview).without_comparison();
    assert_eq!(plan.objections(accepted), Vec::<String>::new());
    // Where they agree nothing warns.
    node.write("etc/kubernetes/kubeadm-config.yaml", CONFIG);
    let seen = observe(&Host::new(&node.options), &deadline());
    assert_eq!(seen.regenerations[0].dangerous, Vec::<String>::new());
    assert_eq!(seen.regenerations[0].missing, Vec::<String>::new());
}
