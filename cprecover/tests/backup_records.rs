//! A record of the store that cannot be read keeps from being done only what it might be about, and the
//! message says which file it is and what to do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::path::PathBuf;
use std::process::Output;

use backup_rig::{Rig, minute, program};
use cprecover::ErrorKind;
use cprecover::backup::{Group, RestoreOptions, Retention, Selection};
use cprecover::model::Component;

const SCHEDULER: &str = "kube-scheduler.yaml";

fn run(rig: &Rig, arguments: &[&str]) -> Option<Output> {
    let mut command = std::process::Command::new(program()?);
    command.arg("--root").arg(rig.dir.path()).args(arguments);
    Some(command.output().unwrap())
}

/// A node whose scheduler is held, with the record of that; four snapshots, the last of them from the hold.
fn held() -> (Rig, PathBuf) {
    let rig = Rig::new();
    for number in 0..3 {
        rig.write("etc/kubernetes/admin.conf", number.to_string());
        rig.create(&[Group::Manifests, Group::Kubeconfigs]);
    }
    rig.store().hold(SCHEDULER, "a test", &minute()).unwrap();
    let record = rig.node.store().join(format!("held/{SCHEDULER}.json"));
    assert!(record.is_file());
    (rig, record)
}

fn restore(rig: &Rig, component: Component, replace_held: bool) -> cprecover::Result<()> {
    let id = rig.store().resolve("1").unwrap();
    let mut options = RestoreOptions::default();
    options.replace_held = replace_held;
    rig.store().restore(&id, &Selection::Components(vec![component]), &options, &minute()).map(|_| ())
}

#[test]
fn a_holds_record_that_cannot_be_read_blocks_only_its_own_manifest() {
    for bytes in ["", "{", "{\"schema\": \"cprecover.dev/held-manifest/v9\"}"] {
        let (rig, record) = held();
        let copy = rig.manifest(&format!(".cprecover-held.{SCHEDULER}"));
        std::fs::write(&record, bytes).unwrap();
        let names_it = |error: cprecover::Error| {
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Refused, "{text}");
            assert!(text.contains(record.to_str().unwrap()) && text.contains("move it away"), "{text}");
        };
        std::fs::remove_file(rig.manifest("etcd.yaml")).unwrap();
        restore(&rig, Component::Etcd, false).expect("another manifest");
        rig.store().hold("etcd.yaml", "", &minute()).expect("another manifest");
        rig.store().release("etcd.yaml", &minute()).expect("another manifest");
        let snapshot = rig.create(&[Group::Manifests, Group::Kubeconfigs]);
        assert!(snapshot.skipped.iter().any(|one| one.path.as_path().ends_with(SCHEDULER)), "{snapshot:?}");

        for replace_held in [false, true] {
            names_it(restore(&rig, Component::KubeScheduler, replace_held).unwrap_err());
        }
        names_it(rig.store().release(SCHEDULER, &minute()).unwrap_err());
        names_it(rig.store().hold(SCHEDULER, "", &minute()).unwrap_err());
        let count = rig.store().list().unwrap().len();
        let report = rig.store().prune(&Retention::new(1, 0), false).expect("prune");
        assert!(report.removed.is_empty() && report.kept.len() == count, "{report:?}");
        assert!(report.kept[0].reason.contains(record.to_str().unwrap()), "{report:?}");
        assert!(copy.is_file() && record.is_file() && !rig.manifest(SCHEDULER).exists());
        let unreadable = rig.store().unreadable_holds().unwrap();
        assert_eq!((unreadable.len(), unreadable[0].file.as_str()), (1, SCHEDULER));

        // As the message says.
        std::fs::remove_file(&record).unwrap();
        restore(&rig, Component::KubeScheduler, false).expect("it is held no longer");
        assert!(copy.is_file());
        assert!(!rig.store().prune(&Retention::new(1, 0), false).unwrap().removed.is_empty());
    }
}

#[test]
fn a_record_under_another_name_says_nothing_of_its_manifest() {
    let (rig, record) = held();
    // Moved away within its folder.
    std::fs::rename(&record, record.with_extension("json.bad")).unwrap();
    assert!(rig.store().held().unwrap().is_empty() && rig.store().unreadable_holds().unwrap().is_empty());
    // The record of another manifest.
    std::fs::rename(record.with_extension("json.bad"), record.with_file_name("etcd.yaml.json")).unwrap();
    assert!(rig.store().held().unwrap().is_empty());
    assert_eq!(rig.store().unreadable_holds().unwrap()[0].file, "etcd.yaml");
}

#[test]
fn the_list_of_holds_names_what_cannot_be_read() {
    let (rig, record) = held();
    std::fs::write(&record, "").unwrap();
    let Some(out) = run(&rig, &["hold"]) else { return };
    assert_eq!(out.status.code(), Some(3), "{out:?}");
    assert!(
        String::from_utf8_lossy(&out.stdout).contains("kube-scheduler.yaml  held, its record"),
        "{out:?}"
    );
    assert!(String::from_utf8_lossy(&out.stderr).contains(record.to_str().unwrap()), "{out:?}");
    let out = run(&rig, &["release", "--all"]).unwrap();
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "nothing was released");
}

#[test]
fn a_malformed_record_of_the_journal_says_which_it_is_and_what_to_do() {
    let rig = Rig::new();
    rig.create(&[Group::Manifests]);
    let store = rig.store();
    let record = rig.node.store().join("journal/000001.json");
    std::fs::write(&record, "").unwrap();
    let error = store.hold("etcd.yaml", "", &minute()).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
    assert!(text.contains(record.to_str().unwrap()) && text.contains("move it away"), "{text}");
    std::fs::remove_file(&record).unwrap();
    store.hold("etcd.yaml", "", &minute()).expect("as the message says");
}

#[test]
fn a_malformed_note_of_pruned_snapshots_is_begun_anew() {
    let (rig, _) = held();
    rig.store().release(SCHEDULER, &minute()).unwrap();
    let mut archive = Vec::new();
    let (store, first) = (rig.store(), rig.store().resolve("2").unwrap());
    store.export(&first, &mut archive, &minute()).unwrap();
    let note = rig.node.store().join("pruned.json");
    std::fs::write(&note, "{").unwrap();
    assert!(!store.prune(&Retention::new(1, 0), false).expect("prune").removed.is_empty());
    std::fs::write(&note, "[1]").unwrap();
    store.import(&mut archive.as_slice(), &minute()).expect("import");
    let noted = std::fs::read_to_string(&note).unwrap();
    assert!(serde_json::from_str::<std::collections::BTreeMap<String, String>>(&noted).is_ok(), "{noted}");
}
