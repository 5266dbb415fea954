//! What the kernel really says when a disk is full or read-only, when handles run out, when permission
//! is missing: a clear error, and nothing changed. The errors that need broken hardware or a quota (EIO,
//! EDQUOT) come from the simulated file system: `backup::crash_test`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use backup_rig::{MANIFESTS, Rig, minute, program};
use cprecover::ErrorKind;
use cprecover::backup::{CreateOptions, Group, RestoreOptions, Retention, Selection};

/// Runs `script` in a mount namespace of its own, with `$CP` for the program and its root.
fn script(rig: &Rig, script: &str) -> Option<Output> {
    let program = program()?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: mounts need root");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-uc", script]);
    command.env("CP", format!("{program} --root {}", rig.dir.path().display()));
    command.env("PROGRAM", program).current_dir(rig.dir.path());
    match command.output() {
        Ok(out) => Some(out),
        Err(error) => {
            eprintln!("SKIPPED: unshare: {error}");
            None
        }
    }
}

/// Checks how the program ended and what it said, and that nothing is left of the attempt.
fn refused(rig: &Rig, out: &Output, code: i32, says: &str) {
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{says:?} is not in: {text}");
    let left: Vec<String> = rig.manifests().into_iter().map(|(name, _)| name).collect();
    assert!(left.iter().all(|name| !name.starts_with('.')), "left over: {left:?}");
}

#[test]
fn a_full_disk_below_the_store() {
    let rig = Rig::new();
    std::fs::create_dir_all(rig.node.store()).unwrap();
    let big = [b"# ".as_slice(), &vec![b'x'; 200_000]].concat();
    rig.write(&format!("{MANIFESTS}/big.yaml"), big);
    let Some(out) = script(
        &rig,
        "mount -t tmpfs -o size=100k,mode=700 none var/lib/cprecover || exit 99
         $CP backup create --groups manifests; code=$?
         # Nothing of it is left, and what fits can still be kept.
         [ -z \"$(ls -A var/lib/cprecover/snapshots)\" ] || exit 98
         rm etc/kubernetes/manifests/big.yaml
         $CP backup create --groups manifests >&2 || exit 97
         $CP backup verify >&2 || exit 96
         exit $code",
    ) else {
        return;
    };
    refused(&rig, &out, 1, "No space left on device");
}

#[test]
fn a_full_disk_below_the_manifests() {
    let rig = Rig::new();
    let before = rig.manifests();
    rig.create(&[Group::Manifests]);
    let Some(out) = script(
        &rig,
        "mount -t tmpfs -o size=16k,mode=700 none etc/kubernetes/manifests || exit 99
         echo old > etc/kubernetes/manifests/etcd.yaml
         $CP restore latest; code=$?
         [ \"$(ls -A etc/kubernetes/manifests)\" = etcd.yaml ] || exit 98
         [ \"$(cat etc/kubernetes/manifests/etcd.yaml)\" = old ] || exit 97
         [ -z \"$(ls -A var/lib/cprecover/journal)\" ] || exit 96
         exit $code",
    ) else {
        return;
    };
    refused(&rig, &out, 1, "No space left on device");
    assert_eq!(rig.manifests(), before, "the mount hid them");
}

#[test]
fn a_read_only_file_system() {
    let rig = Rig::new();
    rig.create(&[Group::Manifests]);
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "changed");
    let before = rig.manifests();
    for (mounted, command) in [
        ("var/lib/cprecover", "backup create --groups manifests"),
        ("etc/kubernetes/manifests", "restore 1"),
        ("etc/kubernetes/manifests", "hold etcd.yaml"),
        ("var/lib/cprecover", "restore 1"),
        ("var/lib/cprecover", "backup prune --keep-last 1"),
    ] {
        let Some(out) = script(
            &rig,
            &format!(
                "mount --bind {mounted} {mounted} && mount -o remount,bind,ro {mounted} || exit 99
                 $CP backup list > /dev/null || exit 98
                 $CP backup verify 1 > /dev/null || exit 97
                 $CP {command}"
            ),
        ) else {
            return;
        };
        if command.contains("prune") && out.status.success() {
            continue; // With one snapshot there is nothing to remove.
        }
        refused(&rig, &out, 1, "Read-only file system");
        assert_eq!(rig.manifests(), before, "{command}");
    }
}

#[test]
fn no_handles_left() {
    let rig = Rig::new();
    rig.create(&[Group::Manifests]);
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "changed");
    let before = rig.manifests();
    let (mut failed, mut done) = (0, 0);
    for limit in 3..40 {
        let Some(out) = script(&rig, &format!("prlimit --nofile={limit}:{limit} $CP restore 1")) else {
            return;
        };
        let text = String::from_utf8_lossy(&out.stderr);
        if out.status.success() {
            done += 1;
            rig.write(&format!("{MANIFESTS}/etcd.yaml"), "changed");
            continue;
        }
        // With four handles not even the program's own libraries can be opened (127).
        if out.status.code() == Some(1) && text.contains("Too many open files") {
            failed += 1;
        } else {
            assert!(limit < 6, "{limit} handles: {text}");
        }
        rig.store();
        assert_eq!(rig.manifests(), before, "{limit} handles: {text}");
    }
    assert!(failed > 3 && done > 3, "{failed} failed, {done} done");
}

#[test]
fn no_permission() {
    let rig = Rig::new();
    let Some(out) = script(
        &rig,
        "chmod 755 . && mkdir -p -m 755 var var/lib && mkdir -m 700 var/lib/cprecover &&
         chown 65534 var/lib/cprecover && cp \"$PROGRAM\" cprecover && chmod 755 cprecover || exit 99
         setpriv --reuid=65534 --regid=65534 --clear-groups ./cprecover --root \"$PWD\" backup create --groups manifests
         code=$?
         [ -z \"$(ls -A var/lib/cprecover/snapshots)\" ] || exit 98
         exit $code",
    ) else {
        return;
    };
    refused(&rig, &out, 1, "Permission denied");
}

#[test]
fn a_file_that_is_being_written_is_never_kept_in_part() {
    let rig = Rig::new();
    let path = rig.manifest("etcd.yaml");
    // Two versions of 300 kB, written over each other in place without a pause.
    let versions = [vec![b'a'; 300_000], vec![b'b'; 300_000]];
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), &versions[0]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut made, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for version in &versions {
                    std::fs::write(&path, version).unwrap();
                }
            }
        });
        for _ in 0..20 {
            match rig.store().create(&CreateOptions::default(), &minute()) {
                Ok(snapshot) => {
                    made += 1;
                    let bytes = rig
                        .store()
                        .read(&snapshot.id, "/etc/kubernetes/manifests/etcd.yaml".as_ref())
                        .unwrap();
                    assert!(versions.contains(&bytes) || bytes.is_empty(), "a part, or a mix, was kept");
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
                    assert!(error.to_string().contains("etcd.yaml"), "{error}");
                }
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    println!("{made} snapshots, {refused} refused: no part, no mix");
    for listed in rig.store().list().unwrap() {
        assert!(rig.store().verify(&listed.id, &minute()).unwrap().is_intact());
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// An archive of one file that lies so deep and has another digest than its index says.
fn deep_archive(depth: usize) -> Vec<u8> {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    let index = std::fs::read(rig.snapshot_dir(&snapshot).join("index.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let entries = index["entries"].as_array_mut().unwrap();
    entries.truncate(2);
    let folder = format!("manifests{}", "/d".repeat(depth));
    entries[0]["stored"] = folder.clone().into();
    entries[1]["stored"] = format!("{folder}/f").into();
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in
        [("index.json", index.to_string()), (format!("{folder}/f").as_str(), "other".to_owned())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        let path = format!("{}/{name}", snapshot.id);
        tar.append_data(&mut header, path, bytes.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn an_import_that_is_refused_leaves_nothing_however_deep_it_is() {
    for depth in [60, 126, 127, 300] {
        let rig = Rig::new();
        let error = rig.store().import(&mut deep_archive(depth).as_slice(), &minute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{depth}: {error}");
        let left = std::fs::read_dir(rig.node.store().join("snapshots")).unwrap().count();
        assert_eq!(left, 0, "{depth}: {error}");
        rig.create(&[Group::Manifests]);
    }
}

#[test]
fn a_left_over_that_cannot_be_removed_keeps_nothing_from_being_done() {
    let rig = Rig::new();
    rig.create(&[Group::Manifests]);
    let left = rig.node.store().join("snapshots/.new-000077-20261124T053706Z");
    std::fs::create_dir_all(left.join("d/".repeat(300))).unwrap();
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "changed");
    rig.create(&[Group::Manifests]);
    rig.store().hold("etcd.yaml", "", &minute()).unwrap();
    rig.store().release("etcd.yaml", &minute()).unwrap();
    let id = rig.store().resolve("1").unwrap();
    rig.store().restore(&id, &Selection::All, &RestoreOptions::default(), &minute()).unwrap();
    rig.store().prune(&Retention::new(1, 0), false).unwrap();
    assert!(left.exists());
}
