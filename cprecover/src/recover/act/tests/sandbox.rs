//! Removing a sandbox: what is checked right before it, and the grace time that its container gets.

use super::*;
use crate::model::SandboxId;
use crate::parse::manifest::StaticPod;
use crate::recover::plan::Step;
use crate::terminate::EndOptions;

const PODS: &str = include_str!("../../../../testdata/incident-deadlock/crictl-pods.json");
const CONTAINERS: &str = include_str!("../../../../testdata/incident-deadlock/crictl-ps.json");
const STALE_SANDBOX: &str = "104e3ec5b5f9afa78c46da67a1c8f43354e3ea76b2dda33d52dc52e4cdc18d3e";
const STALE: &str = "495582fcc4800c185bc52ca5c74355306ae36bf590d826e66297cd70445a9e39";
const NEWEST: &str = "621239f14a677ac6b8874f46c92bfa9868c6293bfc51d007a6c3bb1b9a9ab7f0";

/// The recorded deadlock with etcd's manifest in place.
fn deadlock() -> Node {
    let node = Node::new();
    node.put("etcd.yaml", ETCD);
    node.lists(CONTAINERS);
    node.write("pods.json", PODS.as_bytes());
    let mut after: serde_json::Value = serde_json::from_str(PODS).expect("recorded");
    let items = after.get_mut("items").and_then(serde_json::Value::as_array_mut).expect("items");
    items.retain(|item| item.get("id").and_then(serde_json::Value::as_str) != Some(STALE_SANDBOX));
    node.write("pods.after", after.to_string().as_bytes());
    node
}

fn runs(node: &Node, container: &str, argv: &[String]) {
    let detail = serde_json::json!({
        "status": { "id": container, "state": "CONTAINER_RUNNING" },
        "info": { "runtimeSpec": { "process": { "args": argv } } },
    });
    node.write(&format!("inspect.{container}"), detail.to_string().as_bytes());
}

fn remove() -> Action {
    Action::RemoveSandbox { sandbox: SandboxId::new(STALE_SANDBOX) }
}

fn calls(node: &Node) -> Vec<String> {
    let text = std::fs::read_to_string(node.path("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_sandbox_of_the_manifest_in_place_is_not_removed_because_another_is_newer() {
    let pod = StaticPod::parse(ETCD).expect("the recorded manifest");
    let manifest = pod.main().expect("one container").argv.clone();
    let other = vec!["etcd".to_owned(), "--data-dir=/wrong".to_owned()];
    // Changed and changed back; and where the runtime does not tell what the newest one executes.
    for newest in [Some(&other), None] {
        let node = deadlock();
        runs(&node, STALE, &manifest);
        if let Some(newest) = newest {
            runs(&node, NEWEST, newest);
        }
        let error = node.perform(&remove()).expect_err("it is the manifest's");
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
        assert_eq!(calls(&node), [""; 0], "nothing is stopped");
    }
    let node = deadlock();
    runs(&node, STALE, &other);
    runs(&node, NEWEST, &manifest);
    node.perform(&remove()).expect("it is left over");
    let stop = format!("stop --timeout 10 {STALE}");
    assert_eq!(
        calls(&node),
        [stop, format!("stopp {STALE_SANDBOX}"), format!("rmp --force {STALE_SANDBOX}")]
    );
}

#[test]
fn an_etcd_that_a_kill_may_damage_gets_a_minute_by_its_own_image() {
    let other = vec!["etcd".to_owned()];
    for (image, seconds) in [("etcd:3.5.1-0", 60), ("etcd:3.5.3-0", 10), ("etcd:latest", 60)] {
        let node = deadlock();
        node.lists(&CONTAINERS.replace("etcd:3.6.8-0", image));
        runs(&node, STALE, &other);
        node.perform(&remove()).expect("it is left over");
        assert_eq!(calls(&node).first(), Some(&format!("stop --timeout {seconds} {STALE}")), "{image}");
    }
    let given = Duration::from_millis(Step::of(&remove(), "", "").deadline_ms);
    assert!(given > EndOptions::RISKY_GRACE + Duration::from_secs(30), "{given:?}");
}
