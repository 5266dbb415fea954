//! Nodes of two clusters that have the same name, and share an archive or a remote.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use backup_rig::{Rig, minute};
use cprecover::backup::{CreateOptions, Group, RestoreOptions, Selection, Snapshot};
use cprecover::model::{Component, Digest};
use cprecover::{ErrorKind, Result};

const CA: &str = "etc/kubernetes/pki/ca.crt";

/// A CA's file as far as anyone looks at it here: certificates of these contents.
fn pem(contents: &[&str]) -> String {
    let block =
        |content: &&str| format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n");
    contents.iter().map(block).collect()
}

/// Another cluster's `cp1`, whose snapshot is taken in by this one's.
fn two_clusters() -> (Rig, Snapshot) {
    let (one, two) = (Rig::new(), Rig::new());
    one.write(CA, pem(&["b25l"]));
    two.write(CA, pem(&["dHdv"]));
    let mut archive = Vec::new();
    let mut options = CreateOptions::default();
    options.groups = Group::ALL.to_vec();
    let store = two.store();
    let snapshot = store.create(&options, &minute()).unwrap();
    store.export(&snapshot.id, &mut archive, &minute()).unwrap();
    let taken = one.store().import(&mut archive.as_slice(), &minute()).unwrap();
    (one, taken)
}

fn restore(rig: &Rig, snapshot: &Snapshot, selection: &Selection, other_node: bool) -> Result<()> {
    let mut options = RestoreOptions::default();
    options.other_node = other_node;
    rig.store().restore(&snapshot.id, selection, &options, &minute()).map(|_| ())
}

#[test]
fn a_snapshot_of_another_cluster_is_refused_unless_that_is_said() {
    let (rig, snapshot) = two_clusters();
    assert_eq!(snapshot.node.as_deref(), Some("cp1"));
    let before = rig.manifests();
    for selection in [Selection::All, Selection::Components(vec![Component::Etcd])] {
        let error = restore(&rig, &snapshot, &selection, false).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
        for part in [
            "of another cluster, or from before the CA was replaced",
            "--other-node",
            &Digest::of(pem(&["b25l"]).as_bytes()).to_string(),
            &Digest::of(pem(&["dHdv"]).as_bytes()).to_string(),
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
    assert_eq!(rig.manifests(), before);
    assert_eq!(std::fs::read_to_string(rig.path(CA)).unwrap(), pem(&["b25l"]));
    let mut below = RestoreOptions::default();
    below.below = Some("/srv/look".into());
    rig.store().restore(&snapshot.id, &Selection::All, &below, &minute()).expect("beside");
    restore(&rig, &snapshot, &Selection::All, true).expect("it is said");
    assert_eq!(std::fs::read_to_string(rig.path(CA)).unwrap(), pem(&["dHdv"]));
}

#[test]
fn a_node_that_lost_its_ca_or_is_replacing_it_is_restored() {
    for here in [None, Some(String::new()), Some("-----BEGIN CERTIFI".into()), Some(pem(&["bmV3", "dHdv"]))] {
        let (rig, snapshot) = two_clusters();
        match &here {
            Some(text) => rig.write(CA, text),
            None => std::fs::remove_file(rig.path(CA)).unwrap(),
        }
        restore(&rig, &snapshot, &Selection::All, false).unwrap_or_else(|error| panic!("{here:?}: {error}"));
    }
    // A link to where the CA really is.
    let (rig, snapshot) = two_clusters();
    rig.write("etc/ca.crt", pem(&["b25l"]));
    std::fs::remove_file(rig.path(CA)).unwrap();
    std::os::unix::fs::symlink("/etc/ca.crt", rig.path(CA)).unwrap();
    assert_eq!(restore(&rig, &snapshot, &Selection::All, false).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn what_is_held_comes_back_although_the_ca_was_replaced_meanwhile() {
    let rig = Rig::new();
    rig.write(CA, pem(&["b2xk"]));
    let all = rig.create(&Group::ALL);
    let held = rig.store().hold("etcd.yaml", "", &minute()).unwrap();
    assert_eq!(held.snapshot, all.id, "nothing had changed since");
    std::fs::remove_file(rig.manifest(&held.held_as)).unwrap();
    rig.write(CA, pem(&["bmV3"]));
    rig.store().release("etcd.yaml", &minute()).expect("it was held here");
    assert!(rig.manifest("etcd.yaml").is_file());
}
