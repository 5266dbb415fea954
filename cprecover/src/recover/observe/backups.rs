//! The best backup of each component's manifest, verified now.

use std::time::Instant;

use crate::backup::{Snapshot, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Observed};
use crate::recover::cache::Cache;
use crate::recover::observation::BackupFact;
use crate::sys::Deadline;

/// Looks through the store for the newest snapshot of each manifest: this node's own before another's, which
/// somebody may have imported to look at it, and one that was taken while the node was healthy before any
/// other, since the others may hold what broke it.
///
/// Each snapshot is verified once in a while only; whatever was said here, a restore checks again that the
/// index and every file that it puts in place are the recorded ones.
pub(super) fn best(
    store: &Store,
    now: Instant,
    cache: &mut Cache,
    deadline: &Deadline,
) -> Result<Vec<BackupFact>> {
    let listed = store.list()?;
    let newest_first = store.newest_first(&listed);
    let mut facts = Vec::new();
    for component in Component::ALL {
        for snapshot in candidates(store, &newest_first, component) {
            let id = snapshot.id.to_string();
            let state = cache.snapshot(&id, now, || {
                let report = store.verify(&snapshot.id, deadline);
                Observed::from_result(report.map(|report| report.is_usable()))
            });
            let fact = BackupFact {
                snapshot: id,
                component,
                taken_unix_ms: snapshot.created_unix_s.saturating_mul(1000),
                verified: state,
                last_known_good: snapshot.health_verified,
                same_node: same_node(store, snapshot),
            };
            let is_good = fact.is_good();
            // One that cannot be used is reported too, and the next one is looked at.
            facts.push(fact);
            if is_good {
                break;
            }
        }
    }
    // Good ones first, so that whoever takes the first of a component takes the best.
    facts.sort_by_key(|fact| !fact.is_good());
    Ok(facts)
}

/// Reads a backed-up manifest, as [`best`] named it.
///
/// # Errors
/// [`ErrorKind::NotFound`] when the snapshot does not hold it, and as [`Store::read`].
pub(in crate::recover) fn manifest(store: &Store, backup: &BackupFact) -> Result<Vec<u8>> {
    let (id, component) = (backup.snapshot.parse()?, backup.component);
    let snapshot = store.load(&id)?;
    let entry = snapshot.manifest(component).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("snapshot {id} has no manifest of {component}"))
    })?;
    store.read(&id, entry.path.as_path())
}

fn same_node(store: &Store, snapshot: &Snapshot) -> Observed<bool> {
    match (store.is_of_this_node(snapshot), &snapshot.node) {
        (Some(is_own), _) => Observed::Present(is_own),
        (None, None) => Observed::Unknown("the snapshot names no node".into()),
        (None, Some(_)) => Observed::Unknown("nothing tells this node's name".into()),
    }
}

/// Snapshots with a manifest of the component, this node's first, then healthy ones, then newer ones; at
/// most eight.
fn candidates<'a>(store: &Store, newest_first: &[&'a Snapshot], component: Component) -> Vec<&'a Snapshot> {
    let newest_first = newest_first.iter().copied();
    let mut found: Vec<&Snapshot> =
        newest_first.filter(|snapshot| snapshot.manifest(component).is_some()).collect();
    // Those that are alike stay in their order.
    found.sort_by_key(|snapshot| {
        let is_own = store.is_of_this_node(snapshot) == Some(true);
        std::cmp::Reverse((is_own, snapshot.health_verified))
    });
    found.truncate(8);
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backup::CreateOptions;
    use crate::node::NodeOptions;

    const ETCD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system, labels: {component: etcd}}\n\
        spec: {containers: [{name: etcd, image: etcd:3.6.8, command: [etcd, --name=NAME]}]}\n";

    fn back_up(node: &NodeOptions, name: &str) -> Snapshot {
        let manifest = node.manifests().join("etcd.yaml");
        std::fs::create_dir_all(node.manifests()).expect("mkdir");
        std::fs::write(manifest, ETCD.replace("NAME", name)).expect("write");
        let store = Store::open(node).expect("opens");
        store.create(&CreateOptions::default(), &Deadline::after(Duration::from_secs(20))).expect("created")
    }

    fn seen(node: &NodeOptions) -> Vec<BackupFact> {
        let store = Store::open_read_only(node).expect("opens");
        let deadline = Deadline::after(Duration::from_secs(20));
        best(&store, Instant::now(), &mut Cache::default(), &deadline).expect("looks")
    }

    #[test]
    fn a_backup_is_the_nodes_own_under_whatever_name_the_host_goes() {
        for hostname in [None, Some("ip-10-0-0-1\n")] {
            let dir = tempfile::tempdir().expect("temp dir");
            let node = NodeOptions::at(dir.path()).expect("absolute");
            if let Some(name) = hostname {
                std::fs::create_dir_all(dir.path().join("etc")).expect("mkdir");
                std::fs::write(dir.path().join("etc/hostname"), name).expect("write");
            }
            let env = node.resolve("/var/lib/kubelet/kubeadm-flags.env");
            std::fs::create_dir_all(env.parent().expect("parent")).expect("mkdir");
            std::fs::write(env, "KUBELET_KUBEADM_ARGS=\"--hostname-override=cp1\"\n").expect("write");
            assert_eq!(back_up(&node, "cp1").node.as_deref(), Some("cp1"));
            assert!(seen(&node).iter().all(BackupFact::is_good), "{hostname:?}");
        }
    }

    #[test]
    fn another_nodes_backup_does_not_hide_the_own_one() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut node = NodeOptions::at(dir.path()).expect("absolute");
        node.node_name = Some("cp1".into());
        let own = back_up(&node, "cp1").id.to_string();
        node.node_name = Some("cp2".into());
        let other = back_up(&node, "cp2").id.to_string();
        let facts = seen(&node);
        assert_eq!(facts.first().map(|fact| (&fact.snapshot, fact.is_good())), Some((&other, true)));
        node.node_name = Some("cp1".into());
        let facts = seen(&node);
        assert_eq!(
            facts.first().map(|fact| (&fact.snapshot, fact.is_good())),
            Some((&own, true)),
            "{facts:?}"
        );
        node.node_name = Some("cp3".into());
        assert!(!seen(&node).iter().any(BackupFact::is_good));
    }

    #[test]
    fn what_was_taken_in_from_an_earlier_life_of_the_store_is_older() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut node = NodeOptions::at(dir.path()).expect("absolute");
        node.node_name = Some("cp1".into());
        let deadline = Deadline::after(Duration::from_secs(20));
        (1..=3).for_each(|_| drop(back_up(&node, "cp1")));
        let old = back_up(&node, "cp1").id;
        let mut tar = Vec::new();
        Store::open(&node).expect("opens").export(&old, &mut tar, &deadline).expect("exported");
        std::fs::remove_dir_all(node.store()).expect("lost");
        // Times are whole seconds.
        std::thread::sleep(Duration::from_millis(1100));
        let new = back_up(&node, "cp1").id.to_string();
        Store::open(&node).expect("opens").import(&mut tar.as_slice(), &deadline).expect("taken in");
        let facts = seen(&node);
        assert_eq!(facts.first().map(|fact| &fact.snapshot), Some(&new), "{facts:?}");
    }
}
