//! What the program says of a store and a backup: nothing that is missing or altered passes for whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use backup_rig::{Rig, minute, program};
use cprecover::backup::{CreateOptions, Damage, Group, NodePath};

fn run(rig: &Rig, arguments: &[&str]) -> Option<(Output, String, String)> {
    let mut command = std::process::Command::new(program()?);
    let out = command.arg("--root").arg(rig.dir.path()).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    Some((out, stdout, stderr))
}

#[test]
fn a_store_without_a_snapshot_is_not_intact() {
    let rig = Rig::new();
    for made in [false, true] {
        if made {
            // As pruning by hand leaves it.
            let snapshot = rig.create(&[Group::Manifests]);
            std::fs::remove_dir_all(rig.snapshot_dir(&snapshot)).unwrap();
        }
        let Some((out, stdout, _)) = run(&rig, &["backup", "verify"]) else { return };
        let says = format!("store {} has no snapshot", rig.node.store().display());
        assert_eq!((out.status.code(), stdout.trim()), (Some(3), says.as_str()));
        let (out, stdout, _) = run(&rig, &["-o", "json", "backup", "verify"]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(out.status.code(), Some(3));
        assert_eq!((&json["intact"], json["problem"].as_str()), (&false.into(), Some(says.as_str())));
    }
    rig.create(&[Group::Manifests]);
    let (out, stdout, _) = run(&rig, &["-o", "json", "backup", "verify"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(out.status.success() && json["intact"] == true && json.get("problem").is_none(), "{json}");
}

#[test]
fn damage_that_a_restore_ignores_is_told_apart() {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    let stored = rig.snapshot_dir(&snapshot).join("manifests/etcd.yaml");
    std::fs::set_permissions(&stored, PermissionsExt::from_mode(0o640)).unwrap();
    let Some((out, stdout, _)) = run(&rig, &["backup", "verify"]) else { return };
    assert_eq!(out.status.code(), Some(3), "{stdout}");
    assert!(stdout.contains("usable for a restore") && stdout.contains("the store was altered:"), "{stdout}");
    assert!(stdout.contains("manifests/etcd.yaml is stored with other attributes: mode 0640"), "{stdout}");
    assert!(!stdout.contains("DAMAGED") && !stdout.contains("Attributes {"), "{stdout}");
    std::fs::write(&stored, "rot").unwrap();
    let (out, stdout, _) = run(&rig, &["backup", "verify"]).unwrap();
    assert_eq!(out.status.code(), Some(3), "{stdout}");
    assert!(stdout.contains("DAMAGED") && stdout.contains("etcd.yaml is not what was kept"), "{stdout}");
    assert!(!rig.store().verify(&snapshot.id, &minute()).unwrap().is_usable());
}

#[test]
fn damage_is_told_in_words() {
    let stored = || NodePath::new("manifests/etcd.yaml");
    for (damage, says) in [
        (Damage::Missing { stored: stored() }, "manifests/etcd.yaml is missing"),
        (
            Damage::Sums { what: "it does not match the index".into() },
            "SHA256SUMS: it does not match the index",
        ),
        (
            Damage::Unreadable { stored: stored(), what: "why".into() },
            "manifests/etcd.yaml cannot be read: why",
        ),
    ] {
        assert_eq!(damage.to_string(), says);
    }
}

#[test]
fn a_release_of_nothing_does_not_say_that_nothing_is_held() {
    let rig = Rig::new();
    let held = rig.store().hold("etcd.yaml", "", &minute()).unwrap();
    std::fs::write(rig.manifest(&held.held_as), "altered").unwrap();
    let Some((out, stdout, _)) = run(&rig, &["release", "--all"]) else { return };
    assert_eq!((out.status.code(), stdout.trim()), (Some(1), "nothing was released"));
    std::fs::remove_file(rig.manifest(&held.held_as)).unwrap();
    assert!(run(&rig, &["release", "--all"]).unwrap().0.status.success());
    let (out, stdout, _) = run(&rig, &["release", "--all"]).unwrap();
    assert_eq!((out.status.code(), stdout.trim()), (Some(0), "nothing is held"));
}

#[test]
fn a_named_path_that_is_not_taken_is_told() {
    let rig = Rig::new();
    rig.write("etc/there.yaml", "kind: ClusterConfiguration");
    let mut options = CreateOptions::default();
    options.kubeadm_paths = vec!["/etc/nosuch.yaml".into(), "/etc/there.yaml".into()];
    options.groups = Group::ALL.to_vec();
    let snapshot = rig.store().create(&options, &minute()).unwrap();
    let skipped: Vec<_> = snapshot.skipped.iter().map(|one| (one.path.to_string(), &one.reason)).collect();
    assert_eq!(skipped, [("/etc/nosuch.yaml".to_owned(), &"it is not there".to_owned())]);
    let path = ["--kubeadm-path", "/etc/nosuch.yaml"];
    let create = ["backup", "create"];
    let Some((out, _, stderr)) = run(&rig, &[&create[..], &path].concat()) else { return };
    assert_eq!(out.status.code(), Some(0));
    assert!(stderr.contains("/etc/nosuch.yaml is not in the snapshot: it is not there"), "{stderr}");
    let count = rig.store().list().unwrap().len();
    let (out, _, stderr) = run(&rig, &[&create[..], &["--groups", "manifests"], &path].concat()).unwrap();
    assert_eq!(out.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--kubeadm-path"), "{stderr}");
    assert_eq!(rig.store().list().unwrap().len(), count);
}
