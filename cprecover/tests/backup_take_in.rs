//! What comes from outside: archives and copies on a remote, whatever they claim.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backup_rig;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::time::Duration;

use backup_rig::{MANIFESTS, Rig, minute, program};
use cprecover::backup::{
    CreateOptions, Damage, Group, PutOutcome, RemoteObjects, RemoteSnapshot, Snapshot, SnapshotId, Store,
    list_remote,
};
use cprecover::model::Digest;
use cprecover::sys::{Deadline, ManualClock};
use cprecover::{Error, ErrorKind, Result};

/// A remote in memory.
#[derive(Default)]
struct Memory {
    objects: RefCell<BTreeMap<String, Vec<u8>>>,
    puts: Cell<usize>,
    /// Done when an object is asked for.
    meanwhile: Option<Box<dyn Fn()>>,
}

impl RemoteObjects for Memory {
    fn put_new(&self, name: &str, bytes: Vec<u8>, _: &Deadline) -> Result<PutOutcome> {
        self.puts.set(self.puts.get() + 1);
        let mut objects = self.objects.borrow_mut();
        if objects.contains_key(name) {
            return Ok(PutOutcome::Existed);
        }
        objects.insert(name.to_owned(), bytes);
        Ok(PutOutcome::Created)
    }

    fn replace(&self, name: &str, bytes: Vec<u8>, _: &Deadline) -> Result<()> {
        self.objects.borrow_mut().insert(name.to_owned(), bytes);
        Ok(())
    }

    fn fetch(&self, name: &str, limit_bytes: u64, _: &Deadline) -> Result<Vec<u8>> {
        if let Some(meanwhile) = &self.meanwhile {
            meanwhile();
        }
        let found = self.objects.borrow().get(name).cloned();
        let bytes = found.ok_or_else(|| Error::new(ErrorKind::NotFound, name.to_owned()))?;
        if bytes.len() as u64 > limit_bytes {
            return Err(Error::new(ErrorKind::Limit, name.to_owned()));
        }
        Ok(bytes)
    }

    fn list(&self, folder: &str, _: usize, _: &Deadline) -> Result<Vec<String>> {
        let objects = self.objects.borrow();
        Ok(objects.keys().filter(|name| name.starts_with(folder)).cloned().collect())
    }
}

fn export(store: &Store, id: &SnapshotId) -> Vec<u8> {
    let mut tar = Vec::new();
    store.export(id, &mut tar, &minute()).unwrap();
    tar
}

/// Gives a snapshot in the store another id.
fn rename(rig: &Rig, snapshot: &Snapshot, id: &str) -> SnapshotId {
    let folder = rig.snapshot_dir(snapshot);
    let (index, sums) = (folder.join("index.json"), folder.join("SHA256SUMS"));
    let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
    let old = std::fs::read_to_string(&index).unwrap();
    let new = old.replace(&format!("\"id\": \"{}\"", snapshot.id), &format!("\"id\": \"{id}\""));
    assert_ne!(old, new);
    let listed = std::fs::read_to_string(&sums).unwrap().replace(&digest(&old), &digest(&new));
    std::fs::write(&index, new).unwrap();
    std::fs::write(&sums, listed).unwrap();
    std::fs::rename(&folder, folder.with_file_name(id)).unwrap();
    id.parse().unwrap()
}

/// A tar file with one entry per item: name, type, the size that its header says, its content.
fn tar(entries: &[(&str, tar::EntryType, u64, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, size, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(*kind);
        header.set_size(*size);
        header.set_mode(0o600);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn the_last_number_there_is_does_not_end_the_store() {
    let rig = Rig::new();
    let last = rename(&rig, &rig.create(&[Group::Manifests]), "4294967295-20261124T081357Z");
    // One that lies there already is not counted from.
    assert_eq!(rig.create(&[Group::Manifests]).id.sequence(), 1);
    let archive = export(&rig.store(), &last);
    let (other, remote) = (Rig::new(), Memory::default());
    let error = other.store().import(&mut archive.as_slice(), &minute()).unwrap_err();
    assert!(error.kind() == ErrorKind::Limit && error.to_string().contains(last.as_str()), "{error}");
    let pushed = rig.store().push(&last, &remote, &minute()).unwrap().snapshot;
    assert_eq!(other.store().pull(&pushed, &remote, &minute()).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(other.create(&[Group::Manifests]).id.sequence(), 1);
    // A node whose disk died goes on counting where it stopped.
    let far = rename(&rig, &rig.create(&[Group::Manifests]), "1000000-20261124T081357Z");
    other.store().import(&mut export(&rig.store(), &far).as_slice(), &minute()).unwrap();
    assert_eq!(other.create(&[Group::Manifests]).id.sequence(), 1_000_001);
}

#[test]
fn no_size_is_believed() {
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    let index = std::fs::read_to_string(rig.snapshot_dir(&snapshot).join("index.json")).unwrap();
    let name = |path: &str| format!("{}/{path}", snapshot.id);
    let etcd = snapshot.entries.iter().find(|entry| entry.path.as_path().ends_with("etcd.yaml")).unwrap();
    let (regular, sparse) = (tar::EntryType::Regular, tar::EntryType::GNUSparse);
    let huge = index.replace(&format!("\"size\": {}", etcd.size), &format!("\"size\": {}", 6_u64 << 30));
    assert_ne!(huge, index);
    let long = vec![b'x'; 3 << 20];
    for (what, kind, entries) in [
        (
            "6 GiB",
            ErrorKind::Corrupt,
            vec![(name("index.json"), regular, huge.len() as u64, huge.as_bytes())],
        ),
        (
            "holes",
            ErrorKind::Invalid,
            vec![
                (name("index.json"), regular, index.len() as u64, index.as_bytes()),
                (name("manifests/etcd.yaml"), sparse, 0, b""),
            ],
        ),
        (
            "a long name",
            ErrorKind::Invalid,
            vec![(name("index.json"), tar::EntryType::GNULongName, long.len() as u64, long.as_slice())],
        ),
    ] {
        let entries = entries.iter().map(|(name, kind, size, text)| (name.as_str(), *kind, *size, *text));
        let archive = tar(&entries.collect::<Vec<_>>());
        let other = Rig::new();
        let error = other.store().import(&mut archive.as_slice(), &minute()).unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(other.store().list().unwrap().is_empty());
    }
}

/// Reads the archive, and does something else first.
struct Slow<'a, R> {
    archive: R,
    meanwhile: &'a dyn Fn(),
}

impl<R: Read> Read for Slow<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (self.meanwhile)();
        self.archive.read(buffer)
    }
}

#[test]
fn a_store_is_not_locked_while_others_are_waited_for() {
    let (from, to) = (Rig::new(), Rig::new());
    // Made at another time than what the other store makes now, so that no id is given twice.
    let earlier = ManualClock::new(Duration::from_secs(1_795_000_000));
    let create = || {
        let store = from.store().with_clock(earlier.clone());
        store.create(&CreateOptions::default(), &minute()).expect("create")
    };
    let snapshot = create();
    create();
    let newest = create();
    to.create(&[Group::Manifests]);
    let hold_and_release = |to: &Rig| {
        to.store().hold("etcd.yaml", "test", &minute()).expect("nobody has the lock");
        to.store().release("etcd.yaml", &minute()).expect("nobody has the lock");
    };
    let archive = export(&from.store(), &newest.id);
    let meanwhile = || hold_and_release(&to);
    let mut slow = Slow { archive: Cursor::new(archive), meanwhile: &meanwhile };
    assert_eq!(to.store().import(&mut slow, &minute()).unwrap(), newest);

    let mut remote = Memory::default();
    let pushed = from.store().push(&snapshot.id, &remote, &minute()).unwrap().snapshot;
    let to = Rig::new();
    to.create(&[Group::Pki]);
    let node = to.node.clone();
    remote.meanwhile = Some(Box::new(move || {
        let store = Store::open(&node).unwrap();
        store.hold("etcd.yaml", "test", &minute()).expect("nobody has the lock");
        store.release("etcd.yaml", &minute()).expect("nobody has the lock");
    }));
    to.store().pull(&pushed, &remote, &minute()).unwrap();
    assert!(to.store().verify(&snapshot.id, &minute()).unwrap().damage.is_empty());
    // Nothing of what was read lies about.
    let left: Vec<_> = to.node.store().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}

/// A pipe whose writer says nothing.
struct Silent;

impl Read for Silent {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(Duration::from_millis(5));
        Err(std::io::ErrorKind::Interrupted.into())
    }
}

#[test]
fn a_silent_pipe_costs_no_more_than_the_deadline() {
    let rig = Rig::new();
    let error = rig.store().import(&mut Silent, &Deadline::after(Duration::from_millis(200))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[test]
fn nothing_of_a_file_that_is_no_archive_is_told() {
    let rig = Rig::new();
    let secret = b"root:x:0:0:the-secret\x1b[2J:/root:/bin/sh\n".repeat(100);
    let named = tar(&[("the-secret/index.json", tar::EntryType::Regular, 3, b"abc")]);
    for bytes in [secret, named] {
        let error = rig.store().import(&mut bytes.as_slice(), &minute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!format!("{error:?} {error}").contains("the-secret"), "{error}");
        assert!(error.to_string().contains("no tar archive of a snapshot"), "{error}");
    }
    let Some(program) = program() else { return };
    let path = rig.path("passwd\x1b[2J");
    std::fs::write(&path, b"root:x:0:0:the-secret:/root:/bin/sh\n".repeat(100)).unwrap();
    let run = |file: &Path, stdin: std::process::Stdio| {
        let mut command = std::process::Command::new(program);
        command.arg("--root").arg(&rig.node.root).args(["backup", "import"]).arg(file).stdin(stdin);
        command.output().unwrap()
    };
    let out = run(&path, std::process::Stdio::null());
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(told.contains("passwd") && told.contains("no tar archive of a snapshot"), "{told}");
    assert!(!told.contains("the-secret") && !told.contains('\x1b'), "{told:?}");
    // The program reads pipes as they come.
    let snapshot = rig.create(&[Group::Manifests]);
    let archive = rig.path("archive");
    std::fs::write(&archive, export(&rig.store(), &snapshot.id)).unwrap();
    std::fs::remove_dir_all(rig.snapshot_dir(&snapshot)).unwrap();
    let piped = std::process::Command::new("cat").arg(&archive).stdout(std::process::Stdio::piped()).spawn();
    let out = run(Path::new("-"), piped.unwrap().stdout.unwrap().into());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn what_a_remote_has_is_not_sent_again() {
    let (rig, remote) = (Rig::new(), Memory::default());
    let first = rig.create(&[Group::Manifests]);
    let report = rig.store().push(&first.id, &remote, &minute()).unwrap();
    assert_eq!((report.created, remote.puts.get()), (5, 6), "{report:?}");
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "changed");
    let second = rig.create(&[Group::Manifests]);
    let report = rig.store().push(&second.id, &remote, &minute()).unwrap();
    // The file, the index, and the name.
    assert_eq!((report.created, report.reused, remote.puts.get()), (2, 3, 9), "{report:?}");
    let rotten = remote.objects.borrow().keys().find(|name| name.starts_with("blobs/")).unwrap().clone();
    remote.objects.borrow_mut().insert(rotten, b"rot".to_vec());
    for id in [&first.id, &second.id] {
        rig.store().push(id, &remote, &minute()).unwrap();
    }
    let new = Rig::new();
    for snapshot in list_remote(&remote, &minute()).unwrap() {
        new.store().pull(&snapshot, &remote, &minute()).unwrap();
    }
}

#[test]
fn the_latest_of_a_remote_is_of_the_last_life_of_the_node() {
    let (rig, remote) = (Rig::new(), Memory::default());
    let push = |id: &str| {
        let id = rename(&rig, &rig.create(&[Group::Manifests]), id);
        rig.store().push(&id, &remote, &minute()).unwrap().snapshot
    };
    for id in ["000001-20260901T000000Z", "000050-20260930T000000Z"] {
        push(id);
    }
    // The disk died; numbers began again.
    std::fs::remove_dir_all(rig.node.store()).unwrap();
    let again = push("000001-20261001T000000Z");
    let newest = push("000002-20261002T000000Z");
    // A clock that was wrong once does not decide.
    push("000003-29990101T000000Z");
    let find = |name: &str| rig.store().resolve_remote(name, None, &remote, &minute());
    assert_eq!(find("latest").unwrap(), newest);
    assert_eq!(find("50").unwrap().id.sequence(), 50);
    let error = find("1").unwrap_err();
    assert!(error.kind() == ErrorKind::Missing && error.to_string().contains(again.id.as_str()), "{error}");
    let listed: Vec<RemoteSnapshot> = list_remote(&remote, &minute()).unwrap();
    let numbers: Vec<u32> = listed.iter().map(|snapshot| snapshot.id.sequence()).collect();
    assert_eq!(numbers, [1, 50, 1, 2, 3]);
    // Nor does the store guess.
    let store = rig.store();
    let first = find("000001-20260901T000000Z").unwrap();
    store.pull(&first, &remote, &minute()).unwrap();
    let error = store.resolve("1").unwrap_err();
    assert!(error.kind() == ErrorKind::Missing && error.to_string().contains(first.id.as_str()), "{error}");
    assert_eq!(store.resolve(first.id.as_str()).unwrap(), first.id);
}

#[test]
fn a_damaged_snapshot_is_mended_from_its_good_copy() {
    let (rig, remote) = (Rig::new(), Memory::default());
    let first = rig.create(&[Group::Manifests]);
    let etcd = std::fs::read_to_string(rig.manifest("etcd.yaml")).unwrap();
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), etcd + "# newer\n");
    let second = rig.create(&[Group::Manifests]);
    let store = rig.store();
    let archive = export(&store, &first.id);
    let pushed = store.push(&first.id, &remote, &minute()).unwrap().snapshot;
    let folder = rig.snapshot_dir(&first);
    let index = std::fs::read_to_string(folder.join("index.json")).unwrap();
    let damages: [(&str, &dyn Fn()); 6] = [
        ("rot", &|| std::fs::write(folder.join("manifests/kube-scheduler.yaml"), "rot").unwrap()),
        ("a lost file", &|| std::fs::remove_file(folder.join("manifests/etcd.yaml")).unwrap()),
        ("a lost index", &|| std::fs::remove_file(folder.join("index.json")).unwrap()),
        ("a torn index", &|| std::fs::write(folder.join("index.json"), "{").unwrap()),
        ("an altered index", &|| {
            std::fs::write(folder.join("index.json"), index.replace("manual", "altered")).unwrap();
        }),
        ("a lost index without sums", &|| {
            std::fs::write(folder.join("index.json"), "{").unwrap();
            std::fs::write(folder.join("SHA256SUMS"), "").unwrap();
        }),
    ];
    for (what, damage) in damages {
        for pull in [false, true] {
            let take_in = || {
                if pull {
                    store.pull(&pushed, &remote, &minute())
                } else {
                    store.import(&mut archive.as_slice(), &minute())
                }
            };
            let error = take_in().expect_err("an intact one is left");
            assert!(
                error.kind() == ErrorKind::AlreadyExists && error.to_string().contains("already"),
                "{error}"
            );
            damage();
            assert_eq!(take_in().unwrap_or_else(|error| panic!("{what}: {error}")), first);
            assert!(store.verify(&first.id, &minute()).unwrap().is_intact(), "{what}");
            let names = || rig.node.store().join("snapshots").read_dir().unwrap();
            assert_eq!(names().count(), 2, "{what}: nothing is left of the damaged one");
        }
    }
    // What shared its inode with the rotted file has rotted too and is found; its own copy mends it.
    let report = store.verify(&second.id, &minute()).unwrap();
    assert!(report.damage.iter().any(|damage| matches!(damage, Damage::Content { .. })), "{report:?}");
    // Another snapshot of that name is never replaced, damaged or not.
    let other = Rig::new();
    other.write(&format!("{MANIFESTS}/etcd.yaml"), "other");
    let clock = ManualClock::new(Duration::from_secs(1_795_000_000));
    let made = other.store().with_clock(clock).create(&CreateOptions::default(), &minute()).unwrap();
    let other_id = rename(&other, &made, first.id.as_str());
    let foreign = export(&other.store(), &other_id);
    for damage in [&|| (), damages[0].1, damages[2].1] {
        damage();
        let error = store.import(&mut foreign.as_slice(), &minute()).unwrap_err();
        assert!(error.kind() == ErrorKind::AlreadyExists && error.to_string().contains("other"), "{error}");
    }
}
