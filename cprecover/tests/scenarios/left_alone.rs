//! A healthy node.

use cprecover::model::Component;

use super::node::{Node, kinds, state};

#[test]
fn a_healthy_node_has_an_empty_plan_and_no_file_of_it_is_touched() {
    let node = Node::healthy();
    let whole = |node: &Node| {
        let mut seen = node.touched(&["etc", "opt", "usr", "var/lib"]);
        // The lock and the first run's audit log are made in the store's folder.
        seen.remove(&node.root.join("var/lib/cprecover"));
        seen
    };
    let processes = |node: &Node| Component::ALL.map(|component| node.process(component));
    let (files, containers, pids) = (whole(&node), node.containers(), processes(&node));
    assert_eq!(containers.len(), 4);
    let plan = super::node::json(&node.run(&["plan", "-o", "json"]));
    assert_eq!(plan["steps"], serde_json::json!([]), "{plan:#}");
    let (code, report) = node.recover(&[]);
    assert_eq!((code, state(&report)), (0, "healthy"), "{report:#}");
    assert_eq!(kinds(&report), Vec::<&str>::new());
    assert_eq!(report["plan"]["steps"], serde_json::json!([]));
    assert_eq!(whole(&node), files, "a file was touched");
    assert_eq!(node.containers(), containers);
    assert_eq!(processes(&node), pids);
}
