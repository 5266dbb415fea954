//! A group whose folder is a link, or lies behind one: never silently without files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::os::unix::fs::symlink;

use backup_rig::{MANIFESTS, Rig, minute};
use cprecover::ErrorKind;
use cprecover::backup::{CreateOptions, Group, RestoreOptions, Selection};

/// Moves a folder to another place of the node and puts a link there.
fn move_away(rig: &Rig, folder: &str) {
    let away = rig.path("data");
    std::fs::rename(rig.path(folder), &away).unwrap();
    symlink(&away, rig.path(folder)).unwrap();
}

fn of(groups: &[Group]) -> CreateOptions {
    let mut options = CreateOptions::default();
    options.groups = groups.to_vec();
    options
}

#[test]
fn manifests_behind_a_link_are_refused() {
    let rig = Rig::new();
    move_away(&rig, MANIFESTS);
    for groups in [&[Group::Manifests][..], &Group::ALL] {
        let error = rig.store().create(&of(groups), &minute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        let text = error.to_string();
        assert!(text.contains("/etc/kubernetes/manifests") && text.contains("a symbolic link"), "{text}");
    }
    assert!(rig.store().list().unwrap().is_empty());
}

#[test]
fn another_group_behind_a_link_is_skipped_by_name() {
    let rig = Rig::new();
    move_away(&rig, "etc/kubernetes/pki");
    let snapshot = rig.create(&[Group::Manifests, Group::Pki]);
    assert_eq!(snapshot.groups, [Group::Manifests]);
    assert_eq!(snapshot.skipped.len(), 1, "{:?}", snapshot.skipped);
    assert_eq!(snapshot.skipped[0].path.to_string(), "/etc/kubernetes/pki");
    assert!(snapshot.skipped[0].reason.contains("symbolic link"));
    let options = RestoreOptions::default();
    let pki = Selection::Groups(vec![Group::Pki]);
    let error = rig.store().restore(&snapshot.id, &pki, &options, &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = rig.store().create(&of(&[Group::Pki]), &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[test]
fn a_link_on_the_way_to_an_optional_group_does_not_fail_the_others() {
    let rig = Rig::new();
    std::fs::create_dir_all(rig.path("var/lib/kubelet")).unwrap();
    rig.write("var/lib/kubelet/config.yaml", "kind: KubeletConfiguration");
    move_away(&rig, "var/lib/kubelet");
    std::fs::create_dir_all(rig.path("etc/default")).unwrap();
    symlink("../elsewhere", rig.path("etc/default/kubelet")).unwrap();
    let snapshot = rig.create(&Group::ALL);
    let skipped: Vec<String> = snapshot.skipped.iter().map(|skipped| skipped.path.to_string()).collect();
    for path in ["/var/lib/kubelet/config.yaml", "/etc/default/kubelet"] {
        assert!(skipped.iter().any(|known| known == path), "{path}: {skipped:?}");
    }
    assert!(snapshot.entries.iter().any(|entry| entry.group == Group::Pki));
    assert!(rig.store().verify(&snapshot.id, &minute()).unwrap().is_intact());
    assert!(rig.store().diff_live(&snapshot.id, &minute()).unwrap().changes.is_empty());
}
