//! Snapshots, restore, hold and release on a real file system.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod backup_rig;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use backup_rig::{MANIFESTS, Rig, minute};
use cprecover::ErrorKind;
use cprecover::backup::{
    Change, CreateOptions, Damage, FlagChange, Group, HeldState, InstallOptions, NewFile, RestoreOptions,
    Retention, Selection, Store,
};
use cprecover::model::{Component, Digest};
use cprecover::sys::{CancelToken, Deadline};

#[test]
fn a_snapshot_can_be_used_by_hand() {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests, Group::Pki, Group::Kubeconfigs]);
    let dir = rig.snapshot_dir(&snapshot);
    let sums = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(&dir)
        .status();
    match sums {
        Ok(status) => assert!(status.success()),
        Err(error) => eprintln!("SKIPPED: sha256sum: {error}"),
    }
    for (name, bytes) in rig.manifests() {
        assert_eq!(std::fs::read(dir.join("manifests").join(&name)).expect("stored"), bytes, "{name}");
    }
    assert_eq!(snapshot.kubernetes_version.as_deref(), Some("v1.36.2"));
    assert_eq!(snapshot.node.as_deref(), Some("cp1"));
    let etcd = snapshot.manifest(Component::Etcd).expect("etcd").view.as_ref().expect("view");
    assert!(etcd.flags.contains(&("quota-backend-bytes".into(), "4294967296".into())));
    assert!(rig.store().verify(&snapshot.id, &minute()).expect("verify").is_intact());
}

#[test]
fn a_store_that_was_opened_for_reading_changes_nothing() {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    let store = Store::open_read_only(&rig.node).expect("opens");
    assert_eq!(store.list().expect("list").len(), 1);
    assert!(store.verify(&snapshot.id, &minute()).expect("verify").is_intact());
    let restored = store.restore(&snapshot.id, &Selection::All, &RestoreOptions::default(), &minute());
    assert_eq!(restored.expect_err("restore").kind(), ErrorKind::Refused);
    assert_eq!(store.hold("etcd.yaml", "test", &minute()).expect_err("hold").kind(), ErrorKind::Refused);
    let pruned = store.prune(&Retention::new(1, 1), false);
    assert_eq!(pruned.expect_err("prune").kind(), ErrorKind::Refused);
    assert!(rig.path("etc/kubernetes/manifests/etcd.yaml").exists());
}

#[test]
fn secrets_are_readable_for_their_owner_only() {
    let rig = Rig::new();
    std::fs::set_permissions(rig.path("etc/kubernetes/pki/ca.crt"), PermissionsExt::from_mode(0o644))
        .unwrap();
    std::fs::set_permissions(rig.path("etc/kubernetes/pki"), PermissionsExt::from_mode(0o755)).unwrap();
    let snapshot = rig.create(&Group::ALL);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().mode() & 0o7777;
    let dir = rig.snapshot_dir(&snapshot);
    assert_eq!(mode(rig.node.store()), 0o700);
    assert_eq!(mode(dir.join("pki")), 0o700);
    assert_eq!(mode(dir.join("pki/ca.crt")), 0o600);
    assert_eq!(mode(dir.join("kubeconfigs/admin.conf")), 0o600);
    // The true mode is in the index and comes back.
    std::fs::remove_dir_all(rig.path("etc/kubernetes/pki")).unwrap();
    let selection = Selection::Groups(vec![Group::Pki]);
    rig.store().restore(&snapshot.id, &selection, &RestoreOptions::default(), &minute()).expect("restore");
    assert_eq!(mode(rig.path("etc/kubernetes/pki/ca.crt")), 0o644);
    assert_eq!(mode(rig.path("etc/kubernetes/pki")), 0o755);
    assert_eq!(std::fs::read(rig.path("etc/kubernetes/pki/etcd/ca.key")).unwrap(), b"the-etcd-key");
}

#[test]
fn equal_files_are_shared_and_a_broken_link_and_bit_rot_are_found() {
    let rig = Rig::new();
    let first = rig.create(&[Group::Manifests]);
    let second = rig.create(&[Group::Manifests]);
    let stored = |snapshot, name: &str| rig.snapshot_dir(snapshot).join("manifests").join(name);
    let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(stored(&first, "etcd.yaml")), inode(stored(&second, "etcd.yaml")));
    assert_ne!(
        inode(stored(&first, "etcd.yaml")),
        inode(rig.manifest("etcd.yaml")),
        "never a live file's inode"
    );
    assert_eq!(second.previous.as_ref(), Some(&first.id));
    let index = std::fs::read(rig.snapshot_dir(&first).join("index.json")).unwrap();
    assert_eq!(second.previous_sha256, Some(Digest::of(&index)));

    // A link that became a copy costs space only.
    let path = stored(&second, "etcd.yaml");
    let bytes = std::fs::read(&path).unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(meta.mode() & 0o7777)).unwrap();
    std::fs::File::open(&path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    let report = rig.store().verify(&second.id, &minute()).expect("verify");
    assert!(matches!(&report.damage[..], [Damage::Link { .. }]), "{report:?}");

    // One flipped bit in a shared file is found in both.
    let path = stored(&first, "kube-scheduler.yaml");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    for snapshot in [&first, &second] {
        let report = rig.store().verify(&snapshot.id, &minute()).expect("verify");
        assert!(report.damage.iter().any(|d| matches!(d, Damage::Content { .. })), "{report:?}");
    }
    // The next snapshot does not inherit the rot.
    let third = rig.create(&[Group::Manifests]);
    assert!(rig.store().verify(&third.id, &minute()).expect("verify").is_intact());
    // What has rotted is never put back, and nothing is changed.
    rig.write(&format!("{MANIFESTS}/kube-scheduler.yaml"), "ruined");
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "ruined");
    let before = rig.manifests();
    let error = rig
        .store()
        .restore(&first.id, &Selection::All, &RestoreOptions::default(), &minute())
        .expect_err("rot");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(first.id.as_str()), "{error}");
    assert_eq!(rig.manifests(), before);
}

#[test]
fn extra_missing_and_altered_are_found() {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests, Group::Pki]);
    let dir = rig.snapshot_dir(&snapshot);
    std::fs::remove_file(dir.join("manifests/etcd.yaml")).unwrap();
    std::fs::write(dir.join("pki/extra"), "x").unwrap();
    std::fs::set_permissions(dir.join("pki/ca.key"), PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(dir.join("SHA256SUMS"), "").unwrap();
    let report = rig.store().verify(&snapshot.id, &minute()).expect("verify");
    let has = |test: fn(&Damage) -> bool| report.damage.iter().any(test);
    assert!(has(|d| matches!(d, Damage::Missing { stored } if stored.to_string() == "manifests/etcd.yaml")));
    assert!(has(|d| matches!(d, Damage::Extra { stored } if stored.to_string() == "pki/extra")));
    assert!(has(|d| matches!(d, Damage::Attributes { what, .. } if what.contains("mode 0644"))));
    assert!(has(|d| matches!(d, Damage::Sums { .. })));
    assert_eq!(report.damage.len(), 4, "{report:?}");
}

#[test]
fn all_manifests_lost_and_put_back() {
    let rig = Rig::new();
    let before = rig.manifests();
    let snapshot = rig.create(&[Group::Manifests]);
    std::fs::remove_dir_all(rig.path(MANIFESTS)).unwrap();
    let report = rig
        .store()
        .restore(&snapshot.id, &Selection::All, &RestoreOptions::default(), &minute())
        .expect("restore");
    assert_eq!(report.created.len(), 4);
    assert_eq!(report.before, None, "nothing stood there");
    assert_eq!(rig.manifests(), before);
    let again =
        rig.store().restore(&snapshot.id, &Selection::All, &RestoreOptions::default(), &minute()).unwrap();
    assert_eq!((again.unchanged.len(), again.before), (4, None));
}

#[test]
fn what_stood_there_is_snapshotted_first_and_one_component_is_restored() {
    let rig = Rig::new();
    let good = rig.create(&[Group::Manifests]);
    let etcd = std::fs::read(rig.manifest("etcd.yaml")).unwrap();
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "ruined");
    rig.write(&format!("{MANIFESTS}/kube-scheduler.yaml"), "edited");
    let selection = Selection::Components(vec![Component::Etcd]);
    let mut options = RestoreOptions::default();
    options.dry_run = true;
    let planned = rig.store().restore(&good.id, &selection, &options, &minute()).expect("plan");
    assert_eq!(planned.replaced.len(), 1);
    assert_eq!(std::fs::read(rig.manifest("etcd.yaml")).unwrap(), b"ruined");
    options.dry_run = false;
    let done = rig.store().restore(&good.id, &selection, &options, &minute()).expect("restore");
    assert_eq!(std::fs::read(rig.manifest("etcd.yaml")).unwrap(), etcd);
    assert_eq!(std::fs::read(rig.manifest("kube-scheduler.yaml")).unwrap(), b"edited");
    assert_eq!(rig.manifests().len(), 4, "no left-over");
    let before = done.before.expect("a snapshot of the ruin");
    let ruin = rig.store().read(&before, Path::new("/etc/kubernetes/manifests/etcd.yaml")).expect("read");
    assert_eq!(ruin, b"ruined");
}

#[test]
fn hold_and_release() {
    let rig = Rig::new();
    let etcd = std::fs::read(rig.manifest("etcd.yaml")).unwrap();
    let inode = std::fs::metadata(rig.manifest("etcd.yaml")).unwrap().ino();
    rig.store().hold("etcd.yaml", "restart", &minute()).expect("hold");
    assert!(!rig.manifest("etcd.yaml").exists());
    assert_eq!(
        rig.store().hold("etcd.yaml", "again", &minute()).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    let held = rig.store().held().expect("held");
    assert_eq!((held[0].file.as_str(), held[0].state), ("etcd.yaml", HeldState::Held));
    // A snapshot taken meanwhile says what it lacks, and pruning keeps the one that has it.
    let meanwhile = rig.create(&[Group::Manifests]);
    assert!(meanwhile.skipped[0].reason.starts_with("held since"));
    let pruned = rig.store().prune(&Retention::new(1, 0), false).expect("prune");
    assert!(!pruned.removed.contains(&held[0].snapshot));
    let restore =
        rig.store().restore(&held[0].snapshot, &Selection::All, &RestoreOptions::default(), &minute());
    assert_eq!(restore.unwrap_err().kind(), ErrorKind::Refused);
    rig.store().release("etcd.yaml", &minute()).expect("release");
    assert_eq!(std::fs::read(rig.manifest("etcd.yaml")).unwrap(), etcd);
    assert_eq!(std::fs::metadata(rig.manifest("etcd.yaml")).unwrap().ino(), inode, "the same file");
    assert!(rig.store().held().unwrap().is_empty());
    assert_eq!(rig.store().release("etcd.yaml", &minute()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_hold_survives_clumsy_hands() {
    let rig = Rig::new();
    let etcd = std::fs::read(rig.manifest("etcd.yaml")).unwrap();
    // The held file is deleted: the snapshot still has it.
    let held = rig.store().hold("etcd.yaml", "x", &minute()).expect("hold");
    std::fs::remove_file(rig.manifest(&held.held_as)).unwrap();
    assert_eq!(rig.store().held().unwrap()[0].state, HeldState::OnlyInSnapshot);
    rig.store().release("etcd.yaml", &minute()).expect("release");
    assert_eq!(std::fs::read(rig.manifest("etcd.yaml")).unwrap(), etcd);
    // Another file stands in its place: both are kept.
    let held = rig.store().hold("etcd.yaml", "x", &minute()).expect("hold");
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "other");
    assert_eq!(rig.store().release("etcd.yaml", &minute()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(rig.manifest(&held.held_as).exists() && rig.manifest("etcd.yaml").exists());
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    // Put back by hand: the next open forgets the hold.
    std::fs::rename(rig.manifest(&held.held_as), rig.manifest("etcd.yaml")).unwrap();
    assert!(rig.store().held().unwrap().is_empty());
    assert_eq!(std::fs::read(rig.manifest("etcd.yaml")).unwrap(), etcd);
}

#[test]
fn install_is_all_or_nothing_and_checks_what_it_expects() {
    let rig = Rig::new();
    let before = rig.manifests();
    let scheduler = "/etc/kubernetes/manifests/kube-scheduler.yaml";
    let mut wrong = NewFile::new("/etc/kubernetes/manifests/etcd.yaml", "new");
    wrong.expects = Some(None);
    let files = [NewFile::new(scheduler, "new scheduler"), wrong];
    let error = rig.store().install(&files, &InstallOptions::default(), &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert_eq!(rig.manifests(), before);
    let report = rig.store().install(&files[..1], &InstallOptions::default(), &minute()).expect("install");
    assert_eq!(report.replaced.len(), 1);
    assert_eq!(std::fs::read(rig.manifest("kube-scheduler.yaml")).unwrap(), b"new scheduler");
    assert!(report.before.is_some());
}

#[test]
fn a_pod_is_never_run_twice() {
    let rig = Rig::new();
    let etcd = std::fs::read(rig.manifest("etcd.yaml")).unwrap();
    let twin = NewFile::new("/etc/kubernetes/manifests/etcd-2.yaml", etcd.clone());
    let error = rig.store().install(&[twin], &InstallOptions::default(), &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("etcd-2.yaml"), "{error}");
    // Restoring one manifest beside a stray copy of it is the same.
    let snapshot = rig.create(&[Group::Manifests]);
    std::fs::rename(rig.manifest("etcd.yaml"), rig.manifest("etcd.yaml.bak")).unwrap();
    let selection = Selection::Components(vec![Component::Etcd]);
    let error =
        rig.store().restore(&snapshot.id, &selection, &RestoreOptions::default(), &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    // An exact restore takes the stray copy away in the same step.
    let mut exact = RestoreOptions::default();
    exact.exact = true;
    let report = rig.store().restore(&snapshot.id, &Selection::All, &exact, &minute()).expect("exact");
    assert_eq!((report.created.len(), report.removed.len()), (1, 1));
    assert_eq!(rig.manifests().len(), 4);
}

#[test]
fn symlinks_are_not_followed_anywhere() {
    let rig = Rig::new();
    let outside = tempfile::tempdir().expect("temp dir");
    std::fs::write(outside.path().join("secret"), "outside").unwrap();
    let snapshot = rig.create(&[Group::Manifests]);
    // A manifest that is a link is kept as a link, not as what it points to.
    symlink(outside.path().join("secret"), rig.manifest("link.yaml")).unwrap();
    let linked = rig.create(&[Group::Manifests]);
    let entry = linked.entries.iter().find(|e| e.path.as_path().ends_with("link.yaml")).expect("entry");
    assert!(entry.sha256.is_none() && entry.target.is_some());
    // Restoring over a link replaces the link.
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    symlink(outside.path().join("secret"), rig.manifest("etcd.yaml")).unwrap();
    let selection = Selection::Components(vec![Component::Etcd]);
    rig.store().restore(&snapshot.id, &selection, &RestoreOptions::default(), &minute()).expect("restore");
    assert!(rig.manifest("etcd.yaml").symlink_metadata().unwrap().is_file());
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"outside");
    // A folder on the way that became a link is refused.
    std::fs::rename(rig.path("etc/kubernetes"), outside.path().join("k")).unwrap();
    symlink(outside.path().join("k"), rig.path("etc/kubernetes")).unwrap();
    let error = rig
        .store()
        .restore(&snapshot.id, &Selection::All, &RestoreOptions::default(), &minute())
        .expect_err("a link on the way");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn diff_names_flags_and_keeps_secrets() {
    let rig = Rig::new();
    let old = rig.create(&[Group::Manifests, Group::Pki]);
    let text = String::from_utf8(std::fs::read(rig.manifest("etcd.yaml")).unwrap()).unwrap();
    let text = text.replace("--quota-backend-bytes=4294967296", "--quota-backend-bytes=2147483648");
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), text);
    rig.write("etc/kubernetes/pki/ca.key", "another-key");
    let live = rig.store().diff_live(&old.id, &minute()).expect("diff");
    let new = rig.create(&[Group::Manifests, Group::Pki]);
    let diff = rig.store().diff(&old.id, &new.id).expect("diff");
    assert_eq!(live, diff);
    assert_eq!(diff.changes.len(), 2);
    let Change::Content { component, flags, lines, image, .. } = &diff.changes[0] else { panic!("{diff:?}") };
    assert_eq!((*component, image), (Some(Component::Etcd), &None));
    let want = ("quota-backend-bytes", Some("4294967296"), Some("2147483648"));
    let FlagChange { flag, old, new, .. } = &flags[0];
    assert_eq!((flag.as_str(), old.as_deref(), new.as_deref()), want);
    assert_eq!(lines.len(), 2);
    assert!(!format!("{diff:?}").contains("another-key"));
}

#[test]
fn what_a_caller_named_is_compared_too() {
    let rig = Rig::new();
    for (path, text) in
        [("root/kubeadm.yaml", "a"), ("srv/patches/etcd.json", "b"), ("srv/patches/gone.json", "c")]
    {
        std::fs::create_dir_all(rig.path(path).parent().unwrap()).unwrap();
        rig.write(path, text);
    }
    let mut options = CreateOptions::default();
    options.groups = vec![Group::Kubeadm];
    options.kubeadm_paths = vec!["/root/kubeadm.yaml".into(), "/srv/patches".into()];
    let snapshot = rig.store().create(&options, &minute()).unwrap();
    let diff = |id| rig.store().diff_live(id, &minute()).unwrap().changes;
    assert_eq!(diff(&snapshot.id), []);
    rig.write("srv/patches/etcd.json", "changed");
    std::fs::remove_file(rig.path("srv/patches/gone.json")).unwrap();
    let changes = diff(&snapshot.id);
    let is = |change: &Change, path: &str| change.path().as_path() == Path::new(path);
    assert!(changes.iter().any(|c| matches!(c, Change::Content { .. }) && is(c, "/srv/patches/etcd.json")));
    assert!(changes.iter().any(|c| matches!(c, Change::Removed { .. }) && is(c, "/srv/patches/gone.json")));
    assert!(!changes.iter().any(|change| is(change, "/root/kubeadm.yaml")), "{changes:?}");
    // And what stood in no group's place before a change.
    rig.write("srv/other", "old");
    let file = NewFile::new("/srv/other", "new");
    let report = rig.store().install(&[file], &InstallOptions::default(), &minute()).unwrap();
    let changes = diff(&report.before.unwrap());
    assert!(matches!(&changes[..], [Change::Content { .. }]), "{changes:?}");
}

#[test]
fn last_known_good_needs_verified_health_and_survives_pruning() {
    let rig = Rig::new();
    rig.create(&[Group::Manifests]);
    assert!(rig.store().last_known_good().expect("read").is_none());
    let mut options = CreateOptions::default();
    options.health_verified = true;
    let good = rig.store().create(&options, &minute()).expect("create");
    for _ in 0..4 {
        rig.create(&[Group::Manifests]);
    }
    assert_eq!(rig.store().last_known_good().unwrap().unwrap().id, good.id);
    let report = rig.store().prune(&Retention::new(2, 0), false).expect("prune");
    assert_eq!(report.removed.len(), 3);
    assert_eq!(rig.store().last_known_good().unwrap().unwrap().id, good.id);
    for listed in rig.store().list().unwrap() {
        assert!(rig.store().verify(&listed.id, &minute()).unwrap().is_intact(), "{listed:?}");
    }
    // A snapshot that somebody removed, other than by pruning, breaks the chain.
    let ids: Vec<_> = rig.store().list().unwrap().into_iter().map(|listed| listed.id).collect();
    std::fs::remove_dir_all(rig.node.store().join("snapshots").join(ids[1].as_str())).unwrap();
    let report = rig.store().verify(&ids[2], &minute()).unwrap();
    assert!(report.damage.iter().any(|d| matches!(d, Damage::Chain { .. })), "{report:?}");
}

#[test]
fn export_and_import() {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests, Group::Pki]);
    let mut tar = Vec::new();
    rig.store().export(&snapshot.id, &mut tar, &minute()).expect("export");
    let other = tempfile::tempdir().expect("temp dir");
    let store = Store::open_at(&rig.node, other.path().join("store")).expect("open");
    let taken = store.import(&mut tar.as_slice(), &minute()).expect("import");
    assert_eq!(taken, snapshot);
    assert!(store.verify(&snapshot.id, &minute()).unwrap().is_intact());
    assert_eq!(store.import(&mut tar.as_slice(), &minute()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let another = tempfile::tempdir().expect("temp dir");
    let store = Store::open_at(&rig.node, another.path().join("store")).expect("open");
    for cut in [0, 512, 1000, tar.len() / 2] {
        assert!(store.import(&mut &tar[..cut], &minute()).is_err(), "cut at {cut}");
    }
    let at = tar.windows(15).position(|w| w == b"the-private-key").expect("key");
    tar[at] ^= 1;
    assert_eq!(store.import(&mut tar.as_slice(), &minute()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(store.list().unwrap().is_empty(), "nothing half imported");
}

#[test]
fn damage_and_newer_versions_are_told_by_name() {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    let index = rig.snapshot_dir(&snapshot).join("index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    for (bad, kind) in [
        (text[..text.len() / 2].to_owned(), ErrorKind::Corrupt),
        (text.replace("snapshot/v1", "snapshot/v2"), ErrorKind::Unsupported),
        (r#"{"schema": "cprecover.dev/snapshot/v9", "other": 1}"#.to_owned(), ErrorKind::Unsupported),
        (text.replace("\"manifests/etcd.yaml\"", "\"../../etc/passwd\""), ErrorKind::Corrupt),
        (text.replace("/etc/kubernetes/manifests/etcd.yaml", "/etc/../etcd.yaml"), ErrorKind::Corrupt),
        (String::new(), ErrorKind::Corrupt),
    ] {
        std::fs::write(&index, bad).unwrap();
        let error = rig.store().load(&snapshot.id).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(snapshot.id.as_str()), "{error}");
        let listed = rig.store().list().unwrap();
        assert!(listed[0].snapshot.is_none() && listed[0].error.is_some());
        // Neither a new snapshot nor pruning minds, and the damaged one stays.
        rig.create(&[Group::Manifests]);
        let pruned = rig.store().prune(&Retention::new(1, 0), false).unwrap();
        assert!(!pruned.removed.contains(&snapshot.id));
    }
    std::fs::write(rig.node.store().join("format.json"), r#"{"schema":"cprecover.dev/backup-store/v2"}"#)
        .unwrap();
    assert_eq!(Store::open(&rig.node).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn two_processes_do_not_meet() {
    let rig = Rig::new();
    rig.create(&[Group::Manifests]);
    let folder = std::fs::File::open(rig.node.store()).unwrap();
    folder.lock().unwrap();
    let soon = Deadline::after(Duration::from_millis(200));
    let error = rig.store().create(&CreateOptions::default(), &soon).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(rig.store().list().unwrap().len(), 1, "reading goes on");
    let cancel = CancelToken::default();
    cancel.cancel();
    let error = rig.store().create(&CreateOptions::default(), &minute().with_cancel(cancel)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(folder);
    });
    rig.create(&[Group::Manifests]);
    other.join().unwrap();
}
