//! Faults that a recovery mends by itself.

use cprecover::model::Component;
use rustix::process::Signal;

use super::node::{Node, Touched, json, kinds, letter, signal, wait};

const OTHERS: [Component; 3] =
    [Component::KubeApiserver, Component::KubeControllerManager, Component::KubeScheduler];

/// What etcd stores, which no recovery may change.
fn stored(node: &Node) -> Vec<u8> {
    let keys = std::fs::read(node.root.join("var/lib/etcd/member/stand-in-keys.jsonl")).expect("keys");
    assert!(!keys.is_empty(), "the node stores nothing");
    keys
}

/// Keys and manifests but one component's and what is held of it; the folder itself changes with that one.
fn beside(node: &Node, component: Component) -> Touched {
    let mut seen = node.touched(&["etc/kubernetes/pki", "etc/kubernetes/manifests"]);
    let folder = node.root.join("etc/kubernetes/manifests");
    let own = component.manifest_file();
    seen.retain(|path, _| *path != folder && !path.to_string_lossy().contains(own));
    seen
}

#[test]
fn an_orphan_is_ended_and_nothing_else() {
    let node = Node::healthy();
    // The store gets a copy of the member before it is acted on; nothing else of the node changes.
    let files = |node: &Node| node.touched(&["etc", "var/lib/kubelet"]);
    let (containers, before) = (node.containers(), files(&node));
    let keys = stored(&node);
    let orphan = node.orphan_etcd();
    let report = node.recovers();
    let kinds = kinds(&report);
    assert_eq!(kinds[0], "terminate-holder", "{kinds:?}");
    assert!(kinds[1..].iter().all(|kind| *kind == "restart-kubelet"), "{kinds:?}");
    assert!(letter(orphan).is_none_or(|state| state == 'Z'), "the orphan lives");
    let now = node.containers();
    for other in OTHERS {
        assert_eq!(now[&other], containers[&other], "{other} was restarted");
    }
    assert_ne!(now[&Component::Etcd], containers[&Component::Etcd]);
    assert_eq!(files(&node), before, "files were touched");
    assert_eq!(stored(&node), keys, "what etcd stores is not what it was");
}

#[test]
fn a_kubelet_that_waits_for_an_old_sandbox_gets_it_removed_through_the_runtime() {
    let node = Node::healthy();
    let before = node.containers();
    let (old, _) = node.process(Component::Etcd);
    // While the API does not answer, a kubelet that starts anew with a changed manifest makes a second
    // sandbox and may not delete the first one.
    node.daemon("stop", "kubelet");
    signal(old, Signal::STOP);
    let changed = [node.read(Component::Etcd), b"# changed\n".to_vec()].concat();
    node.write("etcd.yaml", &changed);
    node.daemon("start", "kubelet");
    node.wait_for_log("address already in use");
    assert_eq!(node.runtime().component_sandboxes(Component::Etcd).len(), 2);
    let (files, keys) = (node.touched(&["etc"]), stored(&node));
    let report = node.recovers();
    let kinds = kinds(&report);
    assert_eq!(kinds.iter().filter(|kind| **kind == "remove-sandbox").count(), 1, "{kinds:?}");
    assert!(kinds.iter().all(|kind| ["remove-sandbox", "restart-kubelet"].contains(kind)), "{kinds:?}");
    assert!(letter(old).is_none_or(|state| state == 'Z'));
    let now = node.containers();
    for other in OTHERS {
        assert_eq!(now[&other], before[&other], "{other} was restarted");
    }
    assert_eq!(node.read(Component::Etcd), changed, "the newer manifest stays");
    assert_eq!(node.touched(&["etc"]), files, "files were touched");
    assert_eq!(stored(&node), keys, "what etcd stores is not what it was");
}

#[test]
fn all_manifests_lost_come_back_byte_for_byte_and_what_no_backup_holds_is_made_anew() {
    let node = Node::healthy();
    let files: Vec<_> = Component::ALL.map(|component| node.read(component)).into();
    for component in Component::ALL {
        std::fs::remove_file(node.manifest(component)).expect("remove");
    }
    wait("the end of the control plane", || node.containers().is_empty());
    let (pki, keys) = (node.touched(&["etc/kubernetes/pki"]), stored(&node));
    let report = node.recovers();
    let kinds = kinds(&report);
    let count = |kind: &str| kinds.iter().filter(|known| **known == kind).count();
    assert_eq!((count("restore-manifest"), count("regenerate-component")), (3, 1), "{kinds:?}");
    assert!(!kinds.contains(&"terminate-holder"), "{kinds:?}");
    let now: Vec<_> = Component::ALL.map(|component| node.read(component)).into();
    assert_eq!(now, files);
    assert_eq!(node.touched(&["etc/kubernetes/pki"]), pki, "keys were touched");
    assert_eq!(stored(&node), keys, "what etcd stores is not what it was");
}

/// As in the outage: kubelet was stopped, so that the runtime still has the containers of the lost manifests.
#[test]
fn a_lost_manifest_of_which_there_is_no_copy_is_made_anew_as_its_container_ran() {
    let node = Node::healthy();
    let component = Component::KubeScheduler;
    node.daemon("stop", "kubelet");
    let file = node.read(component);
    std::fs::remove_file(node.manifest(component)).expect("remove");
    std::fs::remove_file(node.root.join("etc/kubernetes/kubeadm-config.yaml")).expect("remove");
    std::fs::remove_dir_all(node.root.join("var/lib/cprecover")).expect("remove");
    let others = |node: &Node| beside(node, component);
    let before = others(&node);
    let plan = json(&node.run(&["regenerate", "plan", component.as_str(), "-o", "json"]));
    let origins = plan["reconstruction"]["fields"].to_string();
    assert!(origins.contains("container of kube-scheduler"), "{origins}");
    let report = node.recovers();
    assert_eq!(kinds(&report)[0], "regenerate-component", "{report}");
    assert_eq!(node.read(component), file);
    assert_eq!(others(&node), before, "files were touched");
}

#[test]
fn one_lost_manifest_comes_back_and_the_others_are_not_touched() {
    let node = Node::healthy();
    let lost = node.lose(Component::KubeControllerManager);
    let others = [Component::Etcd, Component::KubeApiserver, Component::KubeScheduler];
    let identity = |node: &Node| {
        let folder = node.touched(&["etc/kubernetes/manifests"]);
        others.map(|component| folder[&node.manifest(component)])
    };
    let (files, containers, keys) = (identity(&node), node.containers(), stored(&node));
    let pki = node.touched(&["etc/kubernetes/pki"]);
    let report = node.recovers();
    assert_eq!(kinds(&report)[0], "restore-manifest");
    assert!(kinds(&report)[1..].iter().all(|kind| *kind == "restart-kubelet"), "{:?}", kinds(&report));
    assert_eq!(node.read(Component::KubeControllerManager), lost);
    assert_eq!(identity(&node), files);
    assert_eq!(node.touched(&["etc/kubernetes/pki"]), pki, "keys were touched");
    assert_eq!(stored(&node), keys, "what etcd stores is not what it was");
    let now = node.containers();
    for component in others {
        assert_eq!(now[&component], containers[&component], "{component} was restarted");
    }
}

#[test]
fn a_backup_copy_that_kubelet_runs_is_taken_out_and_kept() {
    let node = Node::healthy();
    let original = node.read(Component::KubeScheduler);
    let text = String::from_utf8(original.clone()).expect("UTF-8");
    let port = node.port("scheduler").to_string();
    // An older state of the same pod, with another port; kubelet runs the file that sorts last.
    let old = text.replace(&port, "1");
    assert_ne!(old, text);
    node.write("kube-scheduler.yaml.bak", old.as_bytes());
    wait("a node that is not healthy", || node.run(&["recover", "--dry-run"]).status.code() == Some(3));
    let (files, containers) = (beside(&node, Component::KubeScheduler), node.containers());
    let report = node.recovers();
    let kinds = kinds(&report);
    assert_eq!(kinds[0], "quarantine-manifest", "{kinds:?}");
    assert!(!kinds.contains(&"restore-manifest") && !kinds.contains(&"terminate-holder"), "{kinds:?}");
    assert_eq!(node.read(Component::KubeScheduler), original);
    assert!(!node.root.join("etc/kubernetes/manifests/kube-scheduler.yaml.bak").exists());
    assert!(node.store_has(old.as_bytes()), "the copy is lost");
    assert_eq!(beside(&node, Component::KubeScheduler), files, "another file was touched");
    for other in [Component::Etcd, Component::KubeApiserver, Component::KubeControllerManager] {
        assert_eq!(node.containers()[&other], containers[&other], "{other} was restarted");
    }
}

#[test]
fn a_torn_manifest_is_replaced_and_its_bytes_are_kept() {
    let node = Node::healthy();
    let whole = node.read(Component::KubeApiserver);
    let torn = whole[..whole.len() / 2].to_vec();
    node.write("kube-apiserver.yaml", &[&torn[..], b"\n  torn: [\n"].concat());
    let broken = node.read(Component::KubeApiserver);
    wait("the end of the container", || !node.runs(Component::KubeApiserver));
    let (files, containers) = (beside(&node, Component::KubeApiserver), node.containers());
    let report = node.recovers();
    assert_eq!(kinds(&report)[0], "restore-manifest", "{:?}", kinds(&report));
    assert_eq!(node.read(Component::KubeApiserver), whole);
    assert!(node.store_has(&broken), "the torn file is lost");
    assert_eq!(beside(&node, Component::KubeApiserver), files, "another file was touched");
    for other in [Component::Etcd, Component::KubeControllerManager, Component::KubeScheduler] {
        assert_eq!(node.containers()[&other], containers[&other], "{other} was restarted");
    }
}

#[test]
fn a_manifest_that_an_engine_held_and_died_over_is_put_back() {
    let node = Node::healthy();
    let bytes = node.read(Component::KubeScheduler);
    let store = cprecover::backup::Store::open(&node.options()).expect("store");
    let deadline = cprecover::sys::Deadline::after(std::time::Duration::from_secs(30));
    store.hold("kube-scheduler.yaml", "bounce", &deadline).expect("hold");
    wait("the end of the container", || !node.runs(Component::KubeScheduler));
    node.recovers();
    assert_eq!(node.read(Component::KubeScheduler), bytes);
    assert!(store.held().expect("held").is_empty());
}
