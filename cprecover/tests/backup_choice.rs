//! Which snapshot is taken when none is named, and whose.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use backup_rig::{MANIFESTS, Rig, minute, program};
use cprecover::backup::{
    CreateOptions, Group, RestoreOptions, Retention, Selection, Snapshot, SnapshotId, Store,
};
use cprecover::model::Component;
use cprecover::sys::{Clock as _, Deadline, ManualClock, SystemClock};
use cprecover::{ErrorKind, NodeOptions};

fn run(rig: &Rig, program: &str, args: &str) -> Output {
    let mut command = Command::new(program);
    command.arg("--root").arg(&rig.node.root).args(args.split(' ')).output().unwrap()
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// A node with this name; snapshots name it.
fn named(name: &str) -> (Rig, NodeOptions) {
    let rig = Rig::new();
    let mut node = rig.node.clone();
    node.node_name = Some(name.to_owned());
    (rig, node)
}

fn create(store: &Store, healthy: bool) -> Snapshot {
    let mut options = CreateOptions::default();
    options.health_verified = healthy;
    store.create(&options, &minute()).unwrap()
}

fn copy(from: &Store, id: &SnapshotId, to: &Store) {
    let mut tar = Vec::new();
    from.export(id, &mut tar, &minute()).unwrap();
    to.import(&mut tar.as_slice(), &minute()).unwrap();
}

/// A snapshot of node cp2 with the number `number`.
fn of_cp2(number: u32, healthy: bool, to: &Store) -> Snapshot {
    let (other, node) = named("cp2");
    let name = other.manifest("etcd.yaml");
    let text = std::fs::read_to_string(&name).unwrap().replace("--name=cp1", "--name=cp2");
    assert!(text.contains("--name=cp2"));
    std::fs::write(&name, text).unwrap();
    let store = Store::open(&node).unwrap();
    for _ in 1..number {
        create(&store, false);
    }
    let snapshot = create(&store, healthy);
    copy(&store, &snapshot.id, to);
    snapshot
}

#[test]
fn a_second_restore_does_not_put_the_broken_files_back() {
    let Some(program) = program() else { return };
    let rig = Rig::new();
    let good = std::fs::read(rig.manifest("etcd.yaml")).unwrap();
    let snapshot = rig.create(&[Group::Manifests]);
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "broken");
    for (args, expected) in
        [("restore", "replaced"), ("restore", "unchanged"), ("restore latest", "unchanged")]
    {
        let out = run(&rig, program, args);
        assert!(out.status.success() && said(&out).contains(expected), "{args}: {}", said(&out));
        assert_eq!(std::fs::read(rig.manifest("etcd.yaml")).unwrap(), good, "{args}");
    }
    assert_eq!(rig.store().list().unwrap().len(), 2, "what was broken is kept");
    assert_eq!(rig.store().latest().unwrap().unwrap().id, snapshot.id);
    let before = run(&rig, program, "restore 2");
    assert!(before.status.success(), "by its number it is taken: {}", said(&before));
    assert_eq!(std::fs::read(rig.manifest("etcd.yaml")).unwrap(), b"broken");
}

#[test]
fn what_stood_there_when_another_component_was_held_is_not_restored() {
    let Some(program) = program() else { return };
    let rig = Rig::new();
    let good = std::fs::read(rig.manifest("etcd.yaml")).unwrap();
    rig.create(&[Group::Manifests]);
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "broken");
    for args in ["hold kube-apiserver", "release kube-apiserver", "restore"] {
        let out = run(&rig, program, args);
        assert!(out.status.success(), "{args}: {}", said(&out));
    }
    assert_eq!(std::fs::read(rig.manifest("etcd.yaml")).unwrap(), good);
    // Nor does it stand for a backup that is asked for.
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "other");
    run(&rig, program, "hold kube-apiserver");
    run(&rig, program, "release kube-apiserver");
    let out = run(&rig, program, "backup create --groups manifests --if-changed");
    assert!(said(&out).contains("manual"), "{}", said(&out));
}

#[test]
fn another_nodes_files_are_restored_only_when_that_is_said() {
    let (rig, node) = named("cp1");
    let store = Store::open(&node).unwrap();
    let own = create(&store, false);
    let other = of_cp2(3, true, &store);
    assert_eq!(store.latest().unwrap().unwrap().id, own.id);
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    let etcd = Selection::Components(vec![Component::Etcd]);
    assert_eq!(store.choose(&etcd, true, &minute()).unwrap().snapshot.id, own.id);
    let mut options = RestoreOptions::default();
    let error = store.restore(&other.id, &etcd, &options, &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("cp2") && error.to_string().contains("cp1"), "{error}");
    assert!(!rig.manifest("etcd.yaml").exists());
    options.other_node = true;
    store.restore(&other.id, &etcd, &options, &minute()).unwrap();
    assert!(std::fs::read_to_string(rig.manifest("etcd.yaml")).unwrap().contains("--name=cp2"));
    // Nor does it stand for one of this node that shows the same.
    store.restore(&other.id, &Selection::All, &options, &minute()).unwrap();
    let mut again = CreateOptions::default();
    again.only_if_changed = true;
    assert_eq!(store.create(&again, &minute()).unwrap().node.as_deref(), Some("cp1"));
    // Where it is all that there is, it is named.
    let (_rig, node) = named("cp1");
    let store = Store::open(&node).unwrap();
    let other = of_cp2(1, true, &store);
    let error = store.choose(&Selection::All, false, &minute()).unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("cp2"), "{error}");
    assert_eq!(store.choose(&Selection::All, true, &minute()).unwrap().snapshot.id, other.id);
}

#[test]
fn pruning_counts_each_nodes_snapshots_alone() {
    let (rig, node) = named("cp1");
    let store = Store::open(&node).unwrap();
    let good = create(&store, true);
    let other = of_cp2(9, true, &store);
    create(&store, false);
    let newest = create(&store, false);
    let report = store.prune(&Retention::new(1, 0), false).unwrap();
    assert_eq!(report.removed.len(), 1, "{report:?}");
    let left: Vec<SnapshotId> = store.list().unwrap().into_iter().map(|listed| listed.id).collect();
    assert_eq!(left, [good.id.clone(), other.id, newest.id]);
    assert_eq!(store.last_known_good().unwrap().unwrap().id, good.id);
    // Neither snapshots from before a change nor those of an outage replace the last one with a manifest.
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    create(&store, false);
    rig.write(&format!("{MANIFESTS}/kube-scheduler.yaml"), "changed");
    store.hold("kube-apiserver.yaml", "test", &minute()).unwrap();
    store.release("kube-apiserver.yaml", &minute()).unwrap();
    store.prune(&Retention::new(1, 0), false).unwrap();
    let choice = store.choose(&Selection::All, false, &minute()).unwrap();
    assert!(choice.snapshot.manifest(Component::Etcd).is_some(), "{choice:?}");
}

#[test]
fn a_snapshot_that_names_no_node_is_not_given_anothers_name() {
    let rig = Rig::new();
    let store = rig.store();
    create(&store, false);
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    assert_eq!(create(&store, false).node.as_deref(), Some("cp1"), "by the one before");
    of_cp2(5, false, &store);
    assert_eq!(create(&store, false).node, None);
}

#[test]
fn what_was_made_in_an_outage_is_not_taken_for_what_is_missing() {
    let Some(program) = program() else { return };
    let rig = Rig::new();
    let whole = rig.create(&[Group::Manifests]);
    let good = std::fs::read(rig.manifest("etcd.yaml")).unwrap();
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    let out = run(&rig, program, "backup create");
    assert!(out.status.success(), "{}", said(&out));
    let warning = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(warning.contains("etcd has no manifest") && warning.lines().count() == 1, "{warning}");
    let out = run(&rig, program, "restore --dry-run");
    let text = said(&out);
    assert!(text.contains("would create  /etc/kubernetes/manifests/etcd.yaml"), "{text}");
    assert!(text.contains(whole.id.as_str()) && !rig.manifest("etcd.yaml").exists(), "{text}");
    assert!(run(&rig, program, "restore").status.success());
    assert_eq!(std::fs::read(rig.manifest("etcd.yaml")).unwrap(), good);
    // A damaged one is passed over, and what is in no other is told.
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    std::fs::write(rig.snapshot_dir(&whole).join("manifests/etcd.yaml"), "rot").unwrap();
    let out = run(&rig, program, "restore");
    assert!(out.status.success(), "{}", said(&out));
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(told.contains("the manifest of etcd") && told.contains(whole.id.as_str()), "{told}");
}

#[test]
fn a_dry_run_of_a_damaged_snapshot_fails() {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    std::fs::write(rig.snapshot_dir(&snapshot).join("manifests/etcd.yaml"), "rot").unwrap();
    let mut options = RestoreOptions::default();
    options.dry_run = true;
    let error = rig.store().restore(&snapshot.id, &Selection::All, &options, &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let scheduler = Selection::Components(vec![Component::KubeScheduler]);
    rig.store().restore(&snapshot.id, &scheduler, &options, &minute()).expect("its file is whole");
}

#[test]
fn certificates_are_restored_only_when_their_group_is_named() {
    let Some(program) = program() else { return };
    let rig = Rig::new();
    assert!(run(&rig, program, "backup create").status.success());
    rig.write("etc/kubernetes/pki/ca.crt", "renewed");
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "broken");
    let out = run(&rig, program, "restore");
    assert!(out.status.success(), "{}", said(&out));
    assert!(std::fs::read(rig.manifest("etcd.yaml")).unwrap().starts_with(b"apiVersion"));
    assert_eq!(std::fs::read(rig.path("etc/kubernetes/pki/ca.crt")).unwrap(), b"renewed");
    let out = run(&rig, program, "restore --groups pki,kubeconfigs");
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(std::fs::read(rig.path("etc/kubernetes/pki/ca.crt")).unwrap(), b"certificate");
    // What was made before that change has other groups only.
    let out = run(&rig, program, "restore 3");
    assert!(!out.status.success() && said(&out).contains("--group all"), "{}", said(&out));
    assert!(run(&rig, program, "restore 3 --group all").status.success());
    assert_eq!(std::fs::read(rig.path("etc/kubernetes/pki/ca.crt")).unwrap(), b"renewed");
}

#[test]
fn groups_are_named_alike_and_wrong_names_are_a_wrong_use() {
    let Some(program) = program() else { return };
    let rig = Rig::new();
    for args in
        ["backup create --group manifests", "backup create --groups pki", "restore 1 --group manifests"]
    {
        let out = run(&rig, program, args);
        assert!(out.status.success(), "{args}: {}", said(&out));
    }
    for args in ["backup create --groups nonsense", "restore --group nonsense", "restore --groups nonsense"] {
        assert_eq!(run(&rig, program, args).status.code(), Some(2), "{args}");
    }
}

/// What is missing of a node whose etcd is no static pod is not etcd's manifest, wherever that etcd runs.
#[test]
fn a_snapshot_tells_an_etcd_elsewhere_from_a_lost_one() {
    let external = |edit: &dyn Fn(String) -> String, has_etcd: bool| {
        let rig = Rig::new();
        let api = std::fs::read_to_string(rig.manifest("kube-apiserver.yaml")).unwrap();
        rig.write(&format!("{MANIFESTS}/kube-apiserver.yaml"), edit(api));
        if !has_etcd {
            std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
        }
        rig.create(&[Group::Manifests]).has_external_etcd()
    };
    let unchanged = |text: String| text;
    let other_hosts = |text: String| text.replace("https://127.0.0.1:2379", "https://10.0.0.9:2379");
    let own_service = |text: String| text.replace("/pki/apiserver-etcd-client.crt", "/ssl/etcd/client.crt");
    assert!(!external(&unchanged, false), "kubeadm's own, lost");
    assert!(external(&other_hosts, false));
    assert!(external(&own_service, false), "a service of its own on this host");
    assert!(!external(&own_service, true));
}

#[test]
fn one_that_cannot_be_looked_through_is_passed_over() {
    let rig = Rig::new();
    let older = rig.create(&[Group::Manifests]);
    let etcd = std::fs::read_to_string(rig.manifest("etcd.yaml")).unwrap();
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), etcd + "# newer\n");
    let newer = rig.create(&[Group::Manifests]);
    let folder = rig.snapshot_dir(&newer).join("manifests");
    let mode = |bits| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o300);
    if folder.read_dir().is_ok() {
        // Root lists it all the same, but no more names than there may be.
        let name = |number: u32| folder.join(number.to_string());
        (0..100_000).for_each(|number| drop(std::fs::File::create(name(number)).unwrap()));
    }
    let choice = rig.store().choose(&Selection::All, false, &minute()).unwrap();
    assert_eq!((choice.snapshot.id, choice.damaged), (older.id, vec![newer.id.clone()]));
    let over = Deadline::after(Duration::ZERO);
    let error = rig.store().choose(&Selection::All, false, &over).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    mode(0o700);
}

/// Numbers begin again where a store was lost; what is taken in from before is older, whatever its number.
#[test]
fn an_older_snapshot_that_is_taken_in_is_not_the_newest() {
    let rig = Rig::new();
    let hour = Duration::from_hours(1);
    let now = SystemClock.unix().checked_sub(hour).unwrap();
    let back_up = |since: Duration, only_if_changed: bool| {
        let mut options = CreateOptions::default();
        options.only_if_changed = only_if_changed;
        let store = rig.store().with_clock(ManualClock::new(now + since));
        store.create(&options, &minute()).unwrap()
    };
    let etcd = std::fs::read_to_string(rig.manifest("etcd.yaml")).unwrap();
    (1..=3).for_each(|second| drop(back_up(Duration::from_secs(second), false)));
    let old = back_up(Duration::from_secs(4), false);
    let mut tar = Vec::new();
    rig.store().export(&old.id, &mut tar, &minute()).unwrap();
    std::fs::remove_dir_all(rig.node.store()).unwrap();
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), format!("{etcd}# new\n"));
    let new = back_up(hour / 2, false);
    rig.store().import(&mut tar.as_slice(), &minute()).unwrap();
    assert!(old.id > new.id, "by number it is the newer");

    let store = rig.store();
    assert_eq!(store.latest().unwrap().unwrap().id, new.id);
    assert_eq!(store.resolve("latest").unwrap(), new.id);
    let kept = store.prune(&Retention::new(1, 1), true).unwrap();
    assert_eq!(kept.removed, std::slice::from_ref(&old.id), "{kept:?}");
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    assert_eq!(store.choose(&Selection::All, false, &minute()).unwrap().snapshot.id, new.id);
    // The old one does not stand for what is there now, and what is made now comes after both.
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), &etcd);
    let again = back_up(hour, true);
    assert!(again.id > old.id && again.id > new.id, "{}", again.id);
    assert_eq!(back_up(hour, true).id, again.id);
    assert_eq!(store.latest().unwrap().unwrap().id, again.id);
    store.prune(&Retention::new(1, 0), false).unwrap();
    let left: Vec<SnapshotId> = store.list().unwrap().into_iter().map(|listed| listed.id).collect();
    assert_eq!(left, [again.id]);
}

#[test]
fn the_only_intact_snapshot_is_not_pruned() {
    let rig = Rig::new();
    let store = rig.store();
    let good = create(&store, true);
    create(&store, false);
    let etcd = std::fs::read_to_string(rig.manifest("etcd.yaml")).unwrap();
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), etcd + "# changed\n");
    let newest = create(&store, true);
    std::fs::write(rig.snapshot_dir(&newest).join("manifests/etcd.yaml"), "rot").unwrap();
    let left = || store.list().unwrap().into_iter().map(|listed| listed.id).collect::<Vec<_>>();
    let ids = left();
    // The second stands in as the newest one, the first as the last known good.
    let dry = store.prune(&Retention::new(1, 1), true).unwrap();
    assert_eq!((left(), dry.removed.len(), dry.kept.len()), (ids.clone(), 0, 3), "{dry:?}");
    let of_first = dry.kept.iter().find(|kept| kept.id == good.id).unwrap();
    let reason = &of_first.reason;
    assert!(reason.contains("last known good") && reason.contains(newest.id.as_str()), "{dry:?}");
    store.prune(&Retention::new(1, 1), false).unwrap();
    assert_eq!(left(), ids);
    assert_eq!(store.choose(&Selection::All, false, &minute()).unwrap().snapshot.id, good.id);
    // As soon as another is intact, nothing has to stand in.
    let again = create(&store, true);
    let report = store.prune(&Retention::new(1, 0), false).unwrap();
    assert_eq!((left(), report.removed), (vec![again.id], ids));
}
