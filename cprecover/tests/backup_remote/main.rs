//! Copies of snapshots on a remote: a local folder, and S3 over HTTP and HTTPS.
//!
//! Run with `cargo test -p cprecover --features cli,remote --test backup_remote`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, unreachable_pub)]

#[path = "../backup_rig/mod.rs"]
mod backup_rig;
mod s3;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use backup_rig::{MANIFESTS, Rig, minute, program};
use cprecover::backup::{
    CreateOptions, Group, ObjectStoreRemote, PutOutcome, RemoteObjects as _, RemoteOptions, RestoreOptions,
    Selection, list_remote,
};
use cprecover::model::Digest;
use cprecover::sys::{CancelToken, Deadline};
use cprecover::{ErrorKind, NodeOptions};
use s3::S3;

fn folder(path: &Path) -> ObjectStoreRemote {
    let mut options = RemoteOptions::default();
    options.make_folder = true;
    ObjectStoreRemote::open(&format!("file://{}", path.display()), &options).expect("open")
}

fn bucket(s3: &S3) -> ObjectStoreRemote {
    let mut options = RemoteOptions::default();
    options.settings = s3.settings("http");
    options.settings.push(("aws_allow_http".into(), "true".into()));
    ObjectStoreRemote::open("s3://bucket/some/place", &options).expect("open")
}

/// Every file below `path`.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in path.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The node's disk dies; a new, empty node gets its files from the remote.
fn dies_and_comes_back(remote: &ObjectStoreRemote) {
    let rig = Rig::new();
    let groups = [Group::Manifests, Group::Pki, Group::Kubeconfigs];
    let before = rig.manifests();
    rig.create(&groups);
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), [before[0].1.as_slice(), b"# newer\n"].concat());
    let mut options = CreateOptions::default();
    options.groups = groups.to_vec();
    options.health_verified = true;
    let good = rig.store().create(&options, &minute()).unwrap();
    let manifests = rig.manifests();
    rig.write(&format!("{MANIFESTS}/etcd.yaml"), "broken");
    let bad = rig.create(&groups);
    let mut reports = Vec::new();
    for listed in rig.store().list().unwrap() {
        reports.push(rig.store().push(&listed.id, remote, &minute()).expect("push"));
    }
    // Content that the remote has is not sent again: only what changed, and the index.
    assert!(reports[0].created >= 9, "{reports:?}");
    assert_eq!((reports[1].created, reports[1].mended), (2, 0), "{reports:?}");
    let again = rig.store().push(&bad.id, remote, &minute()).expect("push again");
    assert_eq!((again.created, again.sent_bytes), (0, 0));
    drop(rig);

    let new = Rig::new();
    std::fs::remove_dir_all(new.path("etc/kubernetes")).unwrap();
    let store = new.store();
    let listed = list_remote(remote, &minute()).expect("list");
    assert_eq!(listed.iter().map(|s| s.node.as_str()).collect::<Vec<_>>(), ["cp1"; 3]);
    let found = store.resolve_remote("last-known-good", None, remote, &minute()).expect("find");
    assert_eq!(found.id, good.id);
    assert_eq!(store.resolve_remote("latest", Some("cp1"), remote, &minute()).unwrap().id, bad.id);
    assert_eq!(
        store.resolve_remote("latest", Some("cp2"), remote, &minute()).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let taken = store.pull(&found, remote, &minute()).expect("pull");
    assert_eq!(taken, good);
    let report = store.verify(&taken.id, &minute()).expect("verify");
    assert!(report.is_intact(), "its chain begins here, which is no damage: {report:?}");
    assert_eq!(store.pull(&found, remote, &minute()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    store.restore(&taken.id, &Selection::All, &RestoreOptions::default(), &minute()).expect("restore");
    assert_eq!(new.manifests(), manifests);
    assert_eq!(std::fs::read(new.path("etc/kubernetes/pki/ca.key")).unwrap(), b"the-private-key");
    // Its next snapshot goes on counting where the dead disk had stopped.
    assert_eq!(new.create(&groups).id.sequence(), good.id.sequence() + 1);
}

#[test]
fn a_node_whose_disk_died_gets_its_manifests_back_from_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let remote = folder(&dir.path().join("made"));
    dies_and_comes_back(&remote);
    let mode = std::fs::metadata(dir.path().join("made")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn a_node_whose_disk_died_gets_its_manifests_back_from_s3() {
    let s3 = S3::start(None);
    dies_and_comes_back(&bucket(&s3));
    let names = s3.state.order.lock().unwrap().clone();
    assert!(names.iter().all(|name| name.starts_with("some/place/")));
    // Of each snapshot the name that makes it one comes last.
    let pointers: Vec<usize> =
        (0..names.len()).filter(|at| names[*at].starts_with("some/place/snapshots/")).collect();
    assert_eq!(pointers.len(), 3);
    assert_eq!(pointers[2], names.len() - 1);
    for (name, bytes) in s3.state.objects.lock().unwrap().iter().filter(|(name, _)| name.contains("/blobs/"))
    {
        assert!(name.ends_with(&Digest::of(bytes).to_string()), "{name}");
    }
}

#[test]
fn tls_is_verified() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (pem, der) = (key.cert.pem(), key.cert.der().clone());
    let private = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der], private)
        .unwrap();
    let s3 = S3::start(Some(Arc::new(config)));
    let mut options = RemoteOptions::default();
    options.settings = s3.settings("https");
    let stranger = ObjectStoreRemote::open("s3://bucket/x", &options).expect("open");
    let error = stranger.fetch("a", 10, &Deadline::after(Duration::from_secs(20))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Peer | ErrorKind::Timeout), "{error}");
    assert_eq!(s3.state.puts.load(Ordering::SeqCst), 0);
    options.roots_pem = pem.into_bytes();
    let remote = ObjectStoreRemote::open("s3://bucket/x", &options).expect("open");
    assert_eq!(remote.put_new("a", b"1".to_vec(), &minute()).expect("put"), PutOutcome::Created);
    assert_eq!(remote.fetch("a", 10, &minute()).expect("fetch"), b"1");
}

#[test]
fn puts_are_conditional_and_reads_are_bounded() {
    let (s3, dir) = (S3::start(None), tempfile::tempdir().unwrap());
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    for remote in [bucket(&s3), folder(dir.path())] {
        let put = |bytes: &[u8]| remote.put_new("a/b", bytes.to_vec(), &minute()).expect("put");
        assert_eq!(put(b"first"), PutOutcome::Created);
        assert_eq!(put(b"second"), PutOutcome::Existed);
        assert_eq!(remote.fetch("a/b", 5, &minute()).unwrap(), b"first");
        assert_eq!(remote.fetch("a/b", 4, &minute()).unwrap_err().kind(), ErrorKind::Limit);
        remote.replace("a/b", b"third".to_vec(), &minute()).expect("replace");
        assert_eq!(remote.fetch("a/b", 100, &minute()).unwrap(), b"third");
        remote.put_new("a/c", Vec::new(), &minute()).unwrap();
        assert_eq!(remote.fetch("a/c", 0, &minute()).unwrap(), b"");
        assert_eq!(remote.list("a", 2, &minute()).unwrap(), ["a/b", "a/c"]);
        assert_eq!(remote.list("a", 1, &minute()).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(remote.list("none", 1, &minute()).unwrap(), Vec::<String>::new());
        let error = remote.fetch("a/d", 9, &minute()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("a/d") && !error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn another_snapshot_of_the_same_id_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let remote = folder(&dir.path().join("r"));
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    let report = rig.store().push(&snapshot.id, &remote, &minute()).expect("push");
    // The same id with another index: a clone of the node that shares the bucket.
    let index = rig.snapshot_dir(&snapshot).join("index.json");
    let sums = rig.snapshot_dir(&snapshot).join("SHA256SUMS");
    let digest = |text: &str| cprecover::model::Digest::of(text.as_bytes()).to_string();
    let old = std::fs::read_to_string(&index).unwrap();
    let text = old.replace("\"manual\"", "\"clone\"");
    let listed = std::fs::read_to_string(&sums).unwrap().replace(&digest(&old), &digest(&text));
    std::fs::write(&index, text).unwrap();
    std::fs::write(&sums, listed).unwrap();
    let error = rig.store().push(&snapshot.id, &remote, &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let new = Rig::new();
    assert_eq!(new.store().pull(&report.snapshot, &remote, &minute()).expect("pull"), snapshot);
}

#[test]
fn what_was_tampered_with_is_refused_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let remote = folder(&path);
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    let pushed = rig.store().push(&snapshot.id, &remote, &minute()).expect("push").snapshot;
    let all = files(&path);
    assert_eq!(all.len(), 6, "four manifests, an index, a name: {all:?}");
    for object in &all {
        let good = std::fs::read(object).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        for bad in [
            flipped,
            good[..good.len() - 1].to_vec(),
            [good.clone(), vec![b' '; 70_000]].concat(),
            Vec::new(),
        ] {
            std::fs::write(object, &bad).unwrap();
            let new = Rig::new();
            let error = new.store().pull(&pushed, &remote, &minute()).expect_err("tampered");
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Limit), "{error}");
            assert!(error.to_string().contains(snapshot.id.as_str()), "{error}");
            assert!(new.store().list().unwrap().is_empty(), "nothing half taken in");
        }
        std::fs::remove_file(object).unwrap();
        let error = Rig::new().store().pull(&pushed, &remote, &minute()).expect_err("missing");
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "{error}");
        std::fs::write(object, &good).unwrap();
    }
    // A damaged copy is mended by the next push; another index behind the name is not.
    std::fs::write(&all[0], "rot").unwrap();
    let report = rig.store().push(&snapshot.id, &remote, &minute()).expect("push");
    assert_eq!(report.mended, 1);
    Rig::new().store().pull(&pushed, &remote, &minute()).expect("pull");
}

#[test]
fn a_damaged_snapshot_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let remote = folder(&path);
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    std::fs::write(rig.snapshot_dir(&snapshot).join("manifests/etcd.yaml"), "rot").unwrap();
    assert_eq!(rig.store().push(&snapshot.id, &remote, &minute()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(files(&path).is_empty());
}

#[test]
fn a_folder_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let url = format!("file://{}", dir.path().display());
    let error = ObjectStoreRemote::open(&url, &RemoteOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[test]
fn a_folder_is_made_for_a_copy_alone_and_never_the_one_that_it_is_in() {
    let Some(program) = program() else { return };
    let (dir, rig) = (tempfile::tempdir().unwrap(), Rig::new());
    rig.create(&[Group::Manifests]);
    let run = |verb: &str, path: &Path| {
        let url = format!("file://{}", path.display());
        let mut command = std::process::Command::new(program);
        command.arg("--root").arg(&rig.node.root).args(["backup", verb, "--remote", &url]);
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    // Where the disk with the copies is not mounted.
    let (mount, copies) = (dir.path().join("mnt"), dir.path().join("mnt/copies"));
    for (verb, path) in [("list", &mount), ("pull", &mount), ("list", &copies), ("push", &copies)] {
        let (code, says) = run(verb, path);
        assert_eq!(code, Some(1), "{verb}: {says}");
        assert!(says.contains(&path.display().to_string()), "{verb}: {says}");
        assert!(!mount.exists(), "{verb}");
    }
    std::fs::create_dir(&mount).unwrap();
    assert_eq!(run("push", &copies).0, Some(0));
    assert_eq!(run("list", &copies).0, Some(0));
}

/// A snapshot whose index names one object for many large files.
#[test]
fn what_many_files_of_one_object_come_to_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let remote = folder(&path);
    let rig = Rig::new();
    let snapshot = rig.create(&[Group::Manifests]);
    let pushed = rig.store().push(&snapshot.id, &remote, &minute()).expect("push").snapshot;
    let index = std::fs::read(rig.snapshot_dir(&snapshot).join("index.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let entries = index["entries"].as_array_mut().unwrap();
    let mut file = entries.iter().find(|entry| entry["kind"] == "file").unwrap().clone();
    for number in 0..5 {
        file["size"] = (1_u64 << 30).into();
        file["path"] = format!("/etc/kubernetes/manifests/{number}").into();
        file["stored"] = format!("manifests/{number}").into();
        entries.push(file.clone());
    }
    let index = serde_json::to_vec(&index).unwrap();
    let digest = Digest::of(&index).to_string();
    remote.put_new(&format!("blobs/sha256/{}/{digest}", &digest[..2]), index.clone(), &minute()).unwrap();
    let name = format!("snapshots/{}/{}.json", pushed.node, pushed.id);
    let pointer = remote.fetch(&name, 65_536, &minute()).unwrap();
    let mut pointer: serde_json::Value = serde_json::from_slice(&pointer).unwrap();
    pointer["indexSha256"] = digest.into();
    pointer["indexBytes"] = index.len().into();
    remote.replace(&name, serde_json::to_vec(&pointer).unwrap(), &minute()).unwrap();
    let error = Rig::new().store().pull(&pushed, &remote, &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn bad_urls_settings_and_credentials_are_told_without_the_credentials() {
    for url in ["not a url", "ftp://x/y", "http://127.0.0.1/x", "memory:///x"] {
        let error = ObjectStoreRemote::open(url, &RemoteOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}: {error}");
    }
    let s3 = S3::start(None);
    let mut options = RemoteOptions::default();
    options.settings = vec![("aws_no_such_setting".into(), "the-secret-key".into())];
    let error = ObjectStoreRemote::open("s3://bucket/x", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("aws_no_such_setting"), "{error}");
    options.settings = s3.settings("http");
    options.settings[1].1 = "WRONG".into();
    options.settings.push(("aws_allow_http".into(), "true".into()));
    options.environment = vec![("AWS_PROFILE".into(), "x".into())];
    assert!(!format!("{options:?}").contains("the-secret-key"));
    let remote = ObjectStoreRemote::open("s3://bucket/x", &options).expect("open");
    let error = remote.put_new("a", Vec::new(), &minute()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    for text in [error.to_string(), format!("{error:?}"), format!("{remote:?}")] {
        assert!(!text.contains("the-secret-key"), "{text}");
    }
    // A bucket that is not there is not an empty one.
    options.settings = s3.settings("http");
    options.settings.push(("aws_allow_http".into(), "true".into()));
    let remote = ObjectStoreRemote::open("s3://other/x", &options).expect("open");
    assert_eq!(list_remote(&remote, &minute()).unwrap_err().kind(), ErrorKind::Peer);
    // Plain HTTP only when it is asked for.
    options.settings.pop();
    let plain = ObjectStoreRemote::open("s3://bucket/x", &options)
        .and_then(|remote| remote.put_new("plain", Vec::new(), &Deadline::after(Duration::from_secs(5))));
    assert!(plain.is_err());
    assert!(s3.state.objects.lock().unwrap().is_empty());
}

#[test]
fn a_remote_that_stumbles_is_asked_again_and_one_that_hangs_is_left() {
    let s3 = S3::start(None);
    let remote = bucket(&s3);
    s3.state.failing.store(2, Ordering::SeqCst);
    assert_eq!(remote.put_new("a", b"1".to_vec(), &minute()).expect("after two 503"), PutOutcome::Created);
    s3.state.silent.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let error = remote.fetch("a", 10, &Deadline::after(Duration::from_millis(300))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let cancel = CancelToken::default();
    let deadline = minute().with_cancel(cancel.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            cancel.cancel();
        });
        let error = remote.fetch("a", 10, &deadline).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    });
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_callers_own_executor_does_not_mind() {
    let s3 = S3::start(None);
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let remote = bucket(&s3);
        assert_eq!(remote.put_new("a", b"1".to_vec(), &minute()).unwrap(), PutOutcome::Created);
        assert_eq!(remote.fetch("a", 1, &minute()).unwrap(), b"1");
    });
}

#[test]
fn the_program_copies_to_and_from_a_remote() {
    let Some(program) = program() else { return };
    let (dir, rig) = (tempfile::tempdir().unwrap(), Rig::new());
    let url = format!("file://{}/r", dir.path().display());
    let run = |root: &NodeOptions, args: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.arg("--root").arg(&root.root).args(["-o", "json", "backup"]).args(args);
        let out = command.args(["--remote", &url]).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()
    };
    let snapshot = rig.create(&[Group::Manifests]);
    let pushed = run(&rig.node, &["push"]);
    assert_eq!(pushed["schema"], "cprecover.dev/backup-push/v1");
    assert_eq!(pushed["created"], 5);
    let new = Rig::new();
    let listed = run(&new.node, &["list"]);
    assert_eq!(listed["snapshots"][0]["id"], snapshot.id.as_str());
    let pulled = run(&new.node, &["pull", "latest"]);
    assert_eq!(pulled["id"], snapshot.id.as_str());
    assert!(new.store().verify(&snapshot.id, &minute()).unwrap().is_intact());
}
