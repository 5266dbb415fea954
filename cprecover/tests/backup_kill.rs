//! Real SIGKILLs at random moments of a real restore: 60 of them; the full form is
//! `CPRECOVER_KILLS=1000 cargo test -p cprecover --features cli --test backup_kill -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod backup_rig;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backup_rig::{MANIFESTS, Rig, minute, program};
use cprecover::backup::Group;

#[test]
fn killed_restores_end_in_all_old_or_all_new() {
    let Some(program) = program() else { return };
    let kills: u32 = std::env::var("CPRECOVER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let rig = Rig::new();
    let old = rig.manifests();
    let first = rig.create(&[Group::Manifests]);
    for (name, bytes) in &old {
        rig.write(&format!("{MANIFESTS}/{name}"), [bytes.as_slice(), b"# version 2\n"].concat());
    }
    let new = rig.manifests();
    let second = rig.create(&[Group::Manifests]);
    let restore = |id: &str| {
        let mut command = Command::new(program);
        command.arg("--root").arg(rig.dir.path()).args(["restore", id]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let start = Instant::now();
    assert!(restore(first.id.as_str()).wait().unwrap().success());
    let whole = start.elapsed();
    let mut random = start.elapsed().as_nanos() as u64 | 1;
    let (mut to_old, mut to_new, mut cut, mut ended) = (0, 0, 0, 0);
    for round in 0..kills {
        let target = if rig.manifests() == old { &second } else { &first };
        let mut child = restore(target.id.as_str());
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut longest = whole.as_nanos() as u64 * 11 / 10;
        if round % 2 == 1 {
            // Most of a run is the program's start; these kills come after the first file is staged.
            let staged = || rig.manifests().iter().any(|(name, _)| name.starts_with(".cprecover-"));
            while !staged() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(20));
            }
            longest /= 8;
        }
        std::thread::sleep(Duration::from_nanos(random % longest));
        child.kill().unwrap();
        cut += u32::from(child.wait().unwrap().code().is_none());
        // Before recovery: kubelet sees whole files of either version, and nothing else.
        for file in rig.manifests().iter().filter(|(name, _)| !name.starts_with('.')) {
            assert!(old.contains(file) || new.contains(file), "round {round}: {} is torn", file.0);
        }
        let journal = rig.node.store().join("journal");
        ended += u32::from(journal.read_dir().unwrap().next().is_some());
        // Opening is what ends a half-done change.
        drop(rig.store());
        let now = rig.manifests();
        assert!(
            now == old || now == new,
            "round {round}: neither old nor new: {:?}",
            now.iter().map(|f| &f.0).collect::<Vec<_>>()
        );
        if now == old { to_old += 1 } else { to_new += 1 }
    }
    for listed in rig.store().list().unwrap() {
        assert!(rig.store().verify(&listed.id, &minute()).unwrap().is_intact(), "{}", listed.id);
    }
    println!(
        "{kills} kills ({cut} while it ran, {ended} with the journal written): {to_old} all old, {to_new} all new, 0 lost, 0 mixed"
    );
    assert!(cut > kills / 4, "the kills come too late to show anything: {cut} of {kills}");
}

/// Kills restores of version 2 over version 1 until one leaves its journal behind.
fn with_a_pending_change(program: &str) -> Rig {
    for _ in 0..200 {
        let rig = Rig::new();
        let first = rig.create(&[Group::Manifests]);
        for (name, bytes) in rig.manifests() {
            rig.write(&format!("{MANIFESTS}/{name}"), [bytes.as_slice(), b"# version 2\n"].concat());
        }
        let mut command = Command::new(program);
        command.arg("--root").arg(rig.dir.path()).args(["restore", first.id.as_str()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let journal = rig.node.store().join("journal");
        let begun = || journal.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        while !begun() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if begun() {
            return rig;
        }
    }
    panic!("no restore of 200 was killed with its journal written");
}

/// Every file below `folder` with its bytes.
fn files(folder: &std::path::Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn who_only_looks_leaves_a_half_done_change_as_it_is() {
    let Some(program) = program() else { return };
    let rig = with_a_pending_change(program);
    let before = files(rig.dir.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let tar = elsewhere.path().join("snapshot.tar");
    let store = rig.node.store();
    for args in [
        &["backup", "list"][..],
        &["backup", "--store", store.to_str().unwrap(), "list"],
        &["backup", "show", "1"],
        &["backup", "diff", "1"],
        &["backup", "verify", "1"],
        &["backup", "export", "1", tar.to_str().unwrap()],
        &["hold"],
        &["regenerate", "plan", "etcd"],
    ] {
        let output = Command::new(program).arg("--root").arg(rig.dir.path()).args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // A plan of a regeneration needs a kubeadm, which it looks for after it looked into the store.
        let done = output.status.success() || args[0] == "regenerate";
        assert!(done && !stderr.contains("panicked"), "{args:?}: {stderr}");
        assert_eq!(files(rig.dir.path()), before, "{args:?} changed something");
    }
    // Whoever changes something finishes it first.
    drop(rig.store());
    assert_ne!(files(rig.dir.path()), before);
}
