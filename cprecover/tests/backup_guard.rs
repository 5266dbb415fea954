//! What a restore must not do: put the wrong file in place, let kubelet run a pod twice, believe an index that
//! is not the one that was written, or remove what was only held.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use backup_rig::{MANIFESTS, Rig, minute, program};
use cprecover::backup::{
    CreateOptions, Damage, EntryKind, InstallOptions, NewFile, RestoreOptions, RestoreReport, Selection,
    Snapshot, Store,
};
use cprecover::backup::{Group, SnapshotId};
use cprecover::model::Component;
use cprecover::{ErrorKind, Result};

fn etcd(rig: &Rig) -> String {
    std::fs::read_to_string(rig.manifest("etcd.yaml")).unwrap()
}

fn restore(rig: &Rig, id: &SnapshotId, selection: &Selection) -> Result<RestoreReport> {
    rig.store().restore(id, selection, &RestoreOptions::default(), &minute())
}

fn restore_etcd(rig: &Rig, id: &SnapshotId) -> Result<RestoreReport> {
    restore(rig, id, &Selection::Components(vec![Component::Etcd]))
}

/// A node with a snapshot of its manifests, whose `etcd.yaml` is lost since.
fn lost() -> (Rig, Snapshot, String) {
    let rig = Rig::new();
    let text = etcd(&rig);
    let snapshot = rig.create(&[Group::Manifests]);
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    (rig, snapshot, text)
}

/// The same pod with a key twice: kubelet takes the last value and runs it.
fn twice_a_key(text: &str) -> String {
    text.replacen("kind: Pod\n", "kind: Service\nkind: Pod\n", 1)
}

#[test]
fn the_manifest_of_a_component_is_the_one_that_kubelet_runs() {
    let rig = Rig::new();
    let old = etcd(&rig).replace("--data-dir=/var/lib/etcd", "--data-dir=/var/lib/etcd-old");
    assert_ne!(old, etcd(&rig));
    std::fs::create_dir(rig.manifest("backup")).unwrap();
    for name in [".etcd.yaml.bak", "backup/etcd.yaml", "etcd-old.yaml", "zz-etcd.yaml"] {
        rig.write(&format!("{MANIFESTS}/{name}"), &old);
    }
    let apiserver = std::fs::read_to_string(rig.manifest("kube-apiserver.yaml")).unwrap();
    let other_version = apiserver.replace("kube-apiserver:v", "kube-apiserver:v0.");
    assert_ne!(other_version, apiserver);
    rig.write(&format!("{MANIFESTS}/.apiserver"), other_version);
    let snapshot = rig.create(&[Group::Manifests]);
    assert!(!snapshot.kubernetes_version.as_ref().unwrap().starts_with("v0."), "{snapshot:?}");
    let found = snapshot.manifest(Component::Etcd).expect("etcd").path.as_path().to_owned();
    assert_eq!(found, Path::new("/etc/kubernetes/manifests/etcd.yaml"));
    for name in ["etcd.yaml", "etcd-old.yaml", "zz-etcd.yaml"] {
        std::fs::remove_file(rig.manifest(name)).unwrap();
    }
    let report = restore_etcd(&rig, &snapshot.id).expect("restore");
    assert_eq!(report.created.len(), 1);
    assert!(etcd(&rig).contains("--data-dir=/var/lib/etcd\n"));
    assert!(!rig.manifest("etcd-old.yaml").exists() && !rig.manifest("zz-etcd.yaml").exists());

    // Without a file of kubeadm's name, the one that sorts last wins, as at kubelet.
    let text = etcd(&rig);
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    for name in ["etcd-a.yaml", "etcd-b.yaml"] {
        rig.write(&format!("{MANIFESTS}/{name}"), &text);
    }
    let snapshot = rig.create(&[Group::Manifests]);
    let found = snapshot.manifest(Component::Etcd).expect("etcd");
    assert!(found.path.as_path().ends_with("etcd-b.yaml"), "{found:?}");
    for name in ["etcd-a.yaml", "etcd-b.yaml"] {
        std::fs::remove_file(rig.manifest(name)).unwrap();
    }
    let only_hidden = rig.create(&[Group::Manifests]);
    assert_eq!(only_hidden.manifest(Component::Etcd), None);
}

#[test]
fn a_twin_that_only_kubelet_can_read_is_a_twin() {
    let (rig, snapshot, text) = lost();
    for twin in [twice_a_key(&text), format!("{text}---\nkind: Junk\n")] {
        rig.write(&format!("{MANIFESTS}/etcd.yaml.bak"), &twin);
        let error = restore_etcd(&rig, &snapshot.id).expect_err("kubelet runs the copy");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(
            error.to_string().contains("twice") && error.to_string().contains("etcd.yaml.bak"),
            "{error}"
        );
        assert!(!rig.manifest("etcd.yaml").exists());
        let install = NewFile::new("/etc/kubernetes/manifests/etcd.yaml", text.clone());
        let error = rig.store().install(&[install], &InstallOptions::default(), &minute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    // What kubelet cannot parse either runs nothing.
    for harmless in
        ["", "torn: [", "kind: Pod\n", "kind: [Pod\n", &text.replace("kind: Pod", "kind: Service")]
    {
        rig.write(&format!("{MANIFESTS}/etcd.yaml.bak"), harmless);
        restore_etcd(&rig, &snapshot.id).expect(harmless);
        std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    }
    // kubelet reads up to 10 MiB; what is larger than we read may be the pod.
    let large = std::fs::File::create(rig.manifest("etcd.yaml.bak")).unwrap();
    large.set_len(2 << 20).unwrap();
    let error = restore_etcd(&rig, &snapshot.id).expect_err("nobody knows what is in it");
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("etcd.yaml.bak"), "{error}");
    large.set_len((10 << 20) + 1).unwrap();
    restore_etcd(&rig, &snapshot.id).expect("kubelet refuses it");
}

#[test]
fn a_link_is_the_pod_that_it_leads_to() {
    let (rig, snapshot, text) = lost();
    std::fs::create_dir_all(rig.path("etc/kubernetes/backup/inner")).unwrap();
    std::fs::create_dir_all(rig.path("var")).unwrap();
    rig.write("etc/kubernetes/backup/etcd.yaml", &text);
    symlink("/etc/kubernetes/backup", rig.path("var/run")).unwrap();
    symlink("kubernetes/backup/inner", rig.path("etc/into")).unwrap();
    symlink("etcd.yaml", rig.path("etc/kubernetes/backup/second")).unwrap();
    let link = rig.manifest("web.yaml");
    let runs_it_too = [
        "../backup/etcd.yaml",
        "/etc/kubernetes/backup/etcd.yaml",
        "/var/run/etcd.yaml",
        "../../into/../second",
        "../../../../../../../../etc/kubernetes/backup/etcd.yaml",
        // The file that is about to be there, and a folder's other name.
        "etcd.yaml",
        "./../manifests/etcd.yaml",
    ];
    for target in runs_it_too {
        symlink(target, &link).unwrap();
        let error = restore_etcd(&rig, &snapshot.id).expect_err(target);
        assert_eq!(error.kind(), ErrorKind::Refused, "{target}: {error}");
        assert!(error.to_string().contains("web.yaml"), "{target}: {error}");
        assert!(!rig.manifest("etcd.yaml").exists());
        std::fs::remove_file(&link).unwrap();
    }
    let runs_nothing = [
        "/etc/gone",
        "gone/../../backup/etcd.yaml",
        "web.yaml",
        "/etc/kubernetes",
        "../backup/etcd.yaml/x",
        "..",
    ];
    for target in runs_nothing {
        symlink(target, &link).unwrap();
        restore_etcd(&rig, &snapshot.id).unwrap_or_else(|error| panic!("{target}: {error}"));
        std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
        std::fs::remove_file(&link).unwrap();
    }
}

#[test]
fn a_link_out_of_a_snapshot_is_the_pod_that_it_leads_to() {
    let (rig, _, text) = lost();
    rig.write("etc/kubernetes/real.yaml", &text);
    symlink("../real.yaml", rig.manifest("link.yaml")).unwrap();
    let linked = rig.create(&[Group::Manifests]);
    assert!(linked.entries.iter().any(|entry| entry.kind == EntryKind::Symlink));
    std::fs::remove_file(rig.manifest("link.yaml")).unwrap();
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), &text);
    let link = Selection::Files(vec![PathBuf::from("/etc/kubernetes/manifests/link.yaml")]);
    let error = restore(&rig, &linked.id, &link).expect_err("etcd.yaml runs that pod");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(!rig.manifest("link.yaml").exists());
    std::fs::remove_file(rig.path("etc/kubernetes/real.yaml")).unwrap();
    restore(&rig, &linked.id, &link).expect("it leads nowhere now");
}

#[test]
fn hold_and_set_aside_see_every_file_that_kubelet_runs() {
    let rig = Rig::new();
    let text = etcd(&rig);
    rig.write("etc/kubernetes/real.yaml", &text);
    for twin in ["../real.yaml", "-"] {
        match twin {
            "-" => rig.write(&format!("{MANIFESTS}/twin.yaml"), twice_a_key(&text)),
            target => symlink(target, rig.manifest("twin.yaml")).unwrap(),
        }
        let error = rig.store().hold("etcd.yaml", "", &minute()).expect_err(twin);
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("twin.yaml"), "{error}");
        rig.store().set_aside("etcd.yaml", "", &minute()).expect("the twin goes on running it");
        rig.store().release("etcd.yaml", &minute()).expect("release");
        std::fs::remove_file(rig.manifest("twin.yaml")).unwrap();
    }
    // A link to the file itself ends with it, and is not another manifest.
    symlink("etcd.yaml", rig.manifest("twin.yaml")).unwrap();
    let error = rig.store().set_aside("etcd.yaml", "", &minute()).expect_err("the only one");
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    rig.store().hold("etcd.yaml", "", &minute()).expect("hold");
    rig.store().release("etcd.yaml", &minute()).expect("release");
    std::fs::remove_file(rig.manifest("twin.yaml")).unwrap();
    // What the last key makes of it counts, and what is no pod is not set aside as one of two.
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), twice_a_key(&text));
    let error = rig.store().set_aside("etcd.yaml", "", &minute()).expect_err("the only one");
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "torn: [");
    let error = rig.store().set_aside("etcd.yaml", "", &minute()).expect_err("no pod");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(etcd(&rig), "torn: [");
    rig.store().hold("etcd.yaml", "", &minute()).expect("a person may hold anything");
}

fn index(rig: &Rig, snapshot: &Snapshot) -> PathBuf {
    rig.snapshot_dir(snapshot).join("index.json")
}

/// Lets the index say another mode of every file, as a flipped bit would.
fn rot(rig: &Rig, snapshot: &Snapshot) {
    let text = std::fs::read_to_string(index(rig, snapshot)).unwrap();
    let rotted = text.replace("\"mode\": \"0600\"", "\"mode\": \"0604\"");
    assert_ne!(text, rotted);
    std::fs::write(index(rig, snapshot), rotted).unwrap();
}

fn damage(rig: &Rig, snapshot: &Snapshot) -> Vec<Damage> {
    rig.store().verify(&snapshot.id, &minute()).expect("verify").damage
}

fn is_refused_as_damaged(rig: &Rig, snapshot: &Snapshot) {
    let damage = damage(rig, snapshot);
    assert!(damage.iter().any(|d| matches!(d, Damage::Index { .. }) && !d.is_harmless()), "{damage:?}");
    let error = restore_etcd(rig, &snapshot.id).expect_err("a damaged index");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!rig.manifest("etcd.yaml").exists());
    let mut tar = Vec::new();
    let error = rig.store().export(&snapshot.id, &mut tar, &minute()).expect_err("a damaged index");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(tar.is_empty());
}

#[test]
fn an_index_that_is_not_the_written_one_is_neither_restored_from_nor_passed_on() {
    let (rig, snapshot, _) = lost();
    let good = std::fs::read(index(&rig, &snapshot)).unwrap();
    rot(&rig, &snapshot);
    is_refused_as_damaged(&rig, &snapshot);
    // Nor does it stand for a new one.
    let text = String::from_utf8(good.clone()).unwrap();
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), etcd_of(&rig, &snapshot));
    let labelled = text.replace("\"reason\": \"manual\"", "\"reason\": \"manuel\"");
    std::fs::write(index(&rig, &snapshot), labelled).unwrap();
    let mut options = CreateOptions::default();
    options.only_if_changed = true;
    let next = rig.store().create(&options, &minute()).expect("create");
    assert_ne!(next.id, snapshot.id);
    std::fs::write(index(&rig, &snapshot), &good).unwrap();
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    restore_etcd(&rig, &snapshot.id).expect("mended");
}

fn etcd_of(rig: &Rig, snapshot: &Snapshot) -> Vec<u8> {
    std::fs::read(rig.snapshot_dir(snapshot).join("manifests/etcd.yaml")).unwrap()
}

#[test]
fn a_lost_line_of_the_index_is_made_up_for_by_the_next_snapshot() {
    let rig = Rig::new();
    let first = rig.create(&[Group::Manifests]);
    let second = rig.create(&[Group::Manifests]);
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    let sums = |of: &Snapshot| rig.snapshot_dir(of).join("SHA256SUMS");
    let text = std::fs::read_to_string(sums(&first)).unwrap();
    let cut = text.lines().filter(|line| !line.ends_with("  index.json")).collect::<Vec<_>>().join("\n");
    std::fs::write(sums(&first), cut).unwrap();
    assert!(matches!(&damage(&rig, &first)[..], [Damage::Sums { .. }]));
    restore_etcd(&rig, &first.id).expect("the next snapshot confirms the index");
    std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
    rot(&rig, &first);
    is_refused_as_damaged(&rig, &first);
    // Nobody confirms the last one: its files' digests still hold.
    std::fs::remove_file(sums(&second)).unwrap();
    assert!(damage(&rig, &second).iter().all(Damage::is_harmless));
    restore_etcd(&rig, &second.id).expect("nothing speaks against it");
}

#[test]
fn an_archive_whose_index_is_not_the_written_one_is_not_taken_in() {
    let (rig, snapshot, _) = lost();
    let mut tar = Vec::new();
    rig.store().export(&snapshot.id, &mut tar, &minute()).expect("export");
    let at = tar.windows(14).position(|w| w == b"\"mode\": \"0600\"").expect("a mode");
    tar[at + 12] = b'4';
    let other = tempfile::tempdir().expect("temp dir");
    let store = Store::open_at(&rig.node, other.path().join("store")).expect("open");
    let error = store.import(&mut tar.as_slice(), &minute()).expect_err("changed on the way");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(store.list().expect("list").is_empty());
}

#[test]
fn an_index_from_before_does_not_hide_a_twin() {
    let rig = Rig::new();
    let text = twice_a_key(&etcd(&rig));
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), &text);
    let snapshot = rig.create(&[Group::Manifests]);
    std::fs::rename(rig.manifest("etcd.yaml"), rig.manifest("twin.yaml")).unwrap();
    // An earlier version saw no pod in it.
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(index(&rig, &snapshot)).unwrap()).unwrap();
    for entry in json["entries"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("view");
    }
    std::fs::write(index(&rig, &snapshot), serde_json::to_vec(&json).unwrap()).unwrap();
    std::fs::remove_file(rig.snapshot_dir(&snapshot).join("SHA256SUMS")).unwrap();
    let file = Selection::Files(vec![PathBuf::from("/etc/kubernetes/manifests/etcd.yaml")]);
    let error = restore(&rig, &snapshot.id, &file).expect_err("twin.yaml runs that pod");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[test]
fn an_exact_restore_keeps_what_was_only_held() {
    let rig = Rig::new();
    let before = rig.manifests();
    rig.store().hold("etcd.yaml", "restart", &minute()).expect("hold");
    let meanwhile = rig.create(&[Group::Manifests]);
    rig.store().release("etcd.yaml", &minute()).expect("release");
    rig.write(&format!("{MANIFESTS}/new.yaml"), "kind: Junk");
    let mut exact = RestoreOptions::default();
    exact.exact = true;
    let report = rig.store().restore(&meanwhile.id, &Selection::All, &exact, &minute()).expect("restore");
    assert_eq!(report.removed.len(), 1, "{report:?}");
    assert_eq!(rig.manifests(), before);
}

#[test]
fn an_export_that_fails_leaves_no_file_and_can_be_tried_again() {
    let Some(program) = program() else { return };
    let (rig, snapshot, _) = lost();
    let out = tempfile::tempdir().expect("temp dir");
    let file = out.path().join("snapshot.tar");
    let export = || {
        let mut command = std::process::Command::new(program);
        command.arg("--root").arg(rig.dir.path()).args(["backup", "export", snapshot.id.as_str()]);
        command.arg(&file).output().expect("run")
    };
    let names = || std::fs::read_dir(out.path()).unwrap().count();
    let scheduler = rig.snapshot_dir(&snapshot).join("manifests/kube-scheduler.yaml");
    let good = std::fs::read(&scheduler).unwrap();
    std::fs::write(&scheduler, "rotted").unwrap();
    assert!(!export().status.success());
    assert_eq!(names(), 0, "nothing of it is left");
    std::fs::write(&scheduler, &good).unwrap();
    let done = export();
    assert!(done.status.success(), "{done:?}");
    let written = std::fs::read(&file).expect("the archive");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = export();
    assert!(!again.status.success(), "a file that is there is not replaced");
    assert_eq!((std::fs::read(&file).unwrap(), names()), (written, 1));
}

#[test]
fn a_path_that_leads_up_is_refused_before_anything_is_written() {
    let (rig, snapshot, _) = lost();
    let before = rig.manifests();
    for below in ["/mnt/../etc", "/mnt/new/..", "mnt"] {
        let mut options = RestoreOptions::default();
        options.below = Some(below.into());
        let error = rig.store().restore(&snapshot.id, &Selection::All, &options, &minute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{below}: {error}");
    }
    for path in ["/etc/kubernetes/../new.yaml", "/etc/new/..", "new.yaml"] {
        let file = NewFile::new(path, "x");
        let error = rig.store().install(&[file], &InstallOptions::default(), &minute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{path}: {error}");
    }
    assert_eq!(std::fs::read_dir(rig.node.store().join("journal")).unwrap().count(), 0);
    assert_eq!(rig.manifests(), before);
}

#[test]
fn a_release_lets_kubelet_find_no_pod_twice() {
    let rig = Rig::new();
    let text = etcd(&rig);
    rig.store().hold("etcd.yaml", "", &minute()).unwrap();
    rig.write(&format!("{MANIFESTS}/etcd-fixed.yaml"), &text);
    let error = rig.store().release("etcd.yaml", &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("etcd-fixed.yaml"), "{error}");
    assert!(!rig.manifest("etcd.yaml").exists());
    std::fs::remove_file(rig.manifest("etcd-fixed.yaml")).unwrap();
    rig.store().release("etcd.yaml", &minute()).unwrap();
    // What was set aside because of another file goes back beside it.
    rig.write(&format!("{MANIFESTS}/etcd-old.yaml"), &text);
    rig.store().set_aside("etcd-old.yaml", "", &minute()).unwrap();
    rig.store().release("etcd-old.yaml", &minute()).unwrap();
    assert!(rig.manifest("etcd-old.yaml").exists());
}
