//! The etcd module against the real etcd (Debian's `etcd-server`, 3.4) on loopback.
//!
//! Whatever the offline check says of damaged data is compared with what etcd itself does when it is
//! started on a copy of the same data.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "etcd/real.rs"]
#[allow(unreachable_pub)] // a module of this test alone
mod real;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cprecover::ErrorKind;
use cprecover::etcd::{
    AlarmKind, CheckOptions, Client, ClientOptions, ClientTls, DataState, DataVerdict, Effect, Expected,
    FindingKind, MemberHealth, Startup, Step, check, check_with, copy_member, project, snapshot,
};
use cprecover::model::Observed;
use cprecover::sys::Deadline;
use real::{Etcd, Options, etcd_or_skip};

fn deadline() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}

fn verdict(dir: &Path) -> DataVerdict {
    check(dir, &deadline())
}

fn kinds(verdict: &DataVerdict) -> Vec<FindingKind> {
    verdict.findings.iter().filter(|f| f.state != DataState::Intact).map(|f| f.kind).collect()
}

/// Runs a member long enough to have a snapshot file, then kills it as the outage did.
fn used_member(keys: usize) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut etcd = Etcd::start(&Options { snapshot_count: Some(10), ..Options::new(&data) });
    for key in 0..keys {
        etcd.put(&format!("key{key}"), "a value of some length, so that records span more than a few bytes");
    }
    etcd.kill();
    (dir, data)
}

fn copy_of(data: &Path, name: &str) -> PathBuf {
    let to = data.with_file_name(name);
    let status = std::process::Command::new("cp").arg("-a").arg(data).arg(&to).status().unwrap();
    assert!(status.success());
    to
}

fn only(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    found.sort();
    found
}

fn remove(paths: Vec<PathBuf>) {
    for path in paths {
        fs::remove_file(path).unwrap();
    }
}

fn last_wal(data: &Path) -> PathBuf {
    only(&data.join("member/wal"), ".wal").pop().unwrap()
}

fn used_bytes(data: &Path) -> usize {
    let Observed::Present(wal) = verdict(data).report.wal else { panic!("no WAL") };
    usize::try_from(wal.files.last().unwrap().used_bytes).unwrap()
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_running_member_is_locked_and_a_killed_one_intact() {
    if !etcd_or_skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut etcd = Etcd::start(&Options::new(&data));
    etcd.put("a", "b");
    let running = verdict(&data);
    assert_eq!((running.state, running.startup), (DataState::Locked, Startup::Waits));
    let text = running.report.lock.to_string();
    assert!(text.contains(&format!("pid {} (etcd)", etcd.pid())), "{text}");
    let status = etcd.client().status(&deadline()).unwrap();
    assert_eq!(running.report.member_id, Some(status.member_id));
    assert_eq!(running.report.cluster_id, Some(status.cluster_id));
    let busy = copy_member(&data, &dir.path().join("copy"), &deadline()).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy);
    assert!(busy.to_string().contains(&etcd.pid().to_string()), "{busy}");
    etcd.put("c", "d");
    etcd.kill();

    let before = real::stamps(&data);
    let start = Instant::now();
    let dead = verdict(&data);
    eprintln!("check of a 64 MB WAL and a small database: {:?}", start.elapsed());
    assert_eq!((dead.state, dead.startup), (DataState::Intact, Startup::Starts), "{:?}", dead.findings);
    assert_eq!(before, real::stamps(&data), "the check changed something");
    let Observed::Present(db) = &dead.report.db else { panic!("no database") };
    let Observed::Present(wal) = &dead.report.wal else { panic!("no WAL") };
    assert_eq!(db.cluster_version.as_deref(), Some("3.4.0"));
    assert_eq!(db.members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["m0"]);
    // etcd applies an entry while its commit index is still being written to the WAL.
    assert!(wal.last_index >= wal.commit && db.consistent_index.unwrap() <= wal.last_index);
    assert_eq!(wal.term, status.raft_term);
    etcd.restart();
    assert_eq!(etcd.get("c").as_deref(), Some("d"), "the check has not harmed the data");
}

/// What etcd itself does with the data: whether it answers within some seconds.
fn starts(data: &Path) -> bool {
    Etcd::try_start(&Options::new(data)).is_some()
}

#[test]
fn a_torn_tail_is_repaired_by_etcd_as_the_verdict_says() {
    if !etcd_or_skip() {
        return;
    }
    let (_dir, data) = used_member(25);
    let end = used_bytes(&data);
    for name in ["cut", "sector"] {
        let copy = copy_of(&data, name);
        edit(&last_wal(&copy), |bytes| match name {
            // The file system kept the size of the file, or it did not.
            "cut" => bytes.truncate(end - 5),
            _ => bytes[end - 20..].fill(0x00),
        });
        let found = verdict(&copy);
        // Zeros from inside the last record on: torn only if they fill what is left of a sector.
        if name == "cut" {
            assert_eq!(found.state, DataState::WalTorn, "{:?}", found.findings);
            assert_eq!(found.startup, Startup::RepairsItself);
        }
        assert_eq!(
            starts(&copy),
            matches!(found.startup, Startup::RepairsItself | Startup::Starts | Startup::Diverges),
            "{name}: {:?}",
            found.findings
        );
    }
}

#[test]
fn a_flipped_bit_in_the_wal_is_found_where_it_is_and_etcd_refuses() {
    if !etcd_or_skip() {
        return;
    }
    let (_dir, data) = used_member(25);
    let wal = last_wal(&data);
    let at = used_bytes(&data) / 2;
    edit(&wal, |bytes| bytes[at] ^= 0x04);
    let found = verdict(&data);
    assert_eq!((found.state, found.startup), (DataState::WalBroken, Startup::Fails), "{:?}", found.findings);
    let cause = found.cause().unwrap();
    assert_eq!(cause.file, wal);
    let offset = usize::try_from(cause.offset.unwrap()).unwrap();
    assert!(offset <= at && at < offset + 400, "flipped byte {at}, reported record at {offset}");
    assert!(cause.record.is_some_and(|record| record > 5));
    assert!(!starts(&data));
}

#[test]
fn a_damaged_database() {
    if !etcd_or_skip() {
        return;
    }
    let (_dir, data) = used_member(40);
    let db = |copy: &Path| copy.join("member/snap/db");
    let cut = copy_of(&data, "cut");
    edit(&db(&cut), |bytes| bytes.truncate(3 * 4096 + 100));
    let found = verdict(&cut);
    assert_eq!((found.state, found.startup), (DataState::DbBroken, Startup::Fails));
    assert!(kinds(&found).contains(&FindingKind::DbTruncated), "{:?}", found.findings);
    assert!(!starts(&cut));

    let meta = copy_of(&data, "meta");
    edit(&db(&meta), |bytes| bytes[..8192].fill(0));
    let found = verdict(&meta);
    assert_eq!(kinds(&found), [FindingKind::DbMetaBroken]);
    assert!(!starts(&meta));

    for page in 0..2 {
        let one = copy_of(&data, &format!("meta{page}"));
        edit(&db(&one), |bytes| bytes[page * 4096 + 20] ^= 1);
        let found = verdict(&one);
        assert_eq!((found.state, found.startup), (DataState::DbMetaDegraded, Startup::RepairsItself));
        assert!(starts(&one), "bbolt uses the other meta page");
    }

    // Every page in use is zeroed in turn, and each time the verdict names it.
    let bytes = fs::read(db(&data)).unwrap();
    let Observed::Present(whole) = verdict(&data).report.db else { panic!("no database") };
    let mut named = 0;
    for page in 2..bytes.len() / 4096 {
        edit(&db(&cut), |target| {
            *target = bytes.clone();
            target[page * 4096..(page + 1) * 4096].fill(0);
        });
        let found = verdict(&cut);
        if found.state == DataState::DbBroken {
            assert_eq!(found.cause().unwrap().record, Some(page as u64), "{:?}", found.findings);
            named += 1;
        } else {
            assert_eq!(found.state, DataState::Intact, "page {page}: {:?}", found.findings);
        }
    }
    assert!(named > 0 && named <= whole.used_pages, "{named} of {} pages", whole.used_pages);
}

#[test]
fn parts_that_do_not_fit_together() {
    if !etcd_or_skip() {
        return;
    }
    let (_dir, data) = used_member(60);
    let snapshots = verdict(&data).report.snapshots;
    assert!(snapshots.iter().any(|file| file.sound && file.in_wal && file.index > 10), "{snapshots:?}");

    // Without the database a snapshot cannot be loaded.
    let no_db = copy_of(&data, "no-db");
    fs::remove_file(no_db.join("member/snap/db")).unwrap();
    let found = verdict(&no_db);
    assert_eq!(kinds(&found), [FindingKind::DbMissing], "{:?}", found.findings);
    assert_eq!((found.state, found.startup), (DataState::Mismatch, Startup::Fails));
    assert!(!starts(&no_db));

    // Without snapshot files the WAL, which still starts at 0, is replayed as a whole.
    let no_snap = copy_of(&data, "no-snap");
    remove(only(&no_snap.join("member/snap"), ".snap"));
    let found = verdict(&no_snap);
    assert_eq!(found.state, DataState::Intact, "{:?}", found.findings);
    assert!(starts(&no_snap));

    // A broken snapshot file is passed over for an older one.
    let broken = copy_of(&data, "broken-snap");
    let newest = only(&broken.join("member/snap"), ".snap").pop().unwrap();
    edit(&newest, |bytes| bytes[40] ^= 1);
    let found = verdict(&broken);
    assert!(found.findings.iter().any(|f| f.kind == FindingKind::SnapBroken && f.file == newest));
    assert!(starts(&broken));

    // A database from before the snapshot.
    let old_dir = tempfile::tempdir().unwrap();
    let old = old_dir.path().join("data");
    let mut etcd = Etcd::start(&Options { snapshot_count: Some(10), ..Options::new(&old) });
    etcd.put("a", "b");
    let early = old_dir.path().join("early.db");
    let taken = snapshot(&etcd.client(), &early, &deadline()).unwrap();
    for key in 0..40 {
        etcd.put(&format!("k{key}"), "v");
    }
    etcd.kill();
    let bytes = fs::read(&early).unwrap();
    fs::write(old.join("member/snap/db"), &bytes[..bytes.len() - 32]).unwrap();
    let found = verdict(&old);
    assert_eq!(kinds(&found), [FindingKind::DbOlderThanSnapshot], "{taken:?} {:?}", found.findings);
    assert!(!starts(&old));

    // A WAL that is gone, while the database is there.
    let no_wal = copy_of(&data, "no-wal");
    fs::remove_dir_all(no_wal.join("member/wal")).unwrap();
    let found = verdict(&no_wal);
    assert_eq!(kinds(&found), [FindingKind::WalMissing]);
    assert_eq!((found.state, found.startup), (DataState::Mismatch, Startup::Diverges));
}

#[test]
fn missing_empty_and_foreign() {
    if !etcd_or_skip() {
        return;
    }
    let (dir, data) = used_member(3);
    assert_eq!(verdict(&dir.path().join("none")).state, DataState::Missing);
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let found = verdict(&empty);
    assert_eq!((found.state, found.startup), (DataState::Empty, Startup::Bootstraps));

    let own = verdict(&data);
    let compare = |expected: Expected| {
        let mut options = CheckOptions::default();
        options.expected = expected;
        check_with(&data, &options, &deadline())
    };
    let mut expected = Expected::default();
    expected.member_id = own.report.member_id;
    expected.cluster_id = own.report.cluster_id;
    expected.name = Some("m0".into());
    assert_eq!(compare(expected.clone()).state, DataState::Intact);
    expected.cluster_id = Some("abc".parse().unwrap());
    assert_eq!(kinds(&compare(expected)), [FindingKind::ForeignId]);
    let mut other = Expected::default();
    other.name = Some("cp2".into());
    other.peer_urls = vec!["https://10.0.0.2:2380".into()];
    assert_eq!(kinds(&compare(other)), [FindingKind::ForeignMember]);
    let mut moved = Expected::default();
    moved.name = Some("m0".into());
    moved.peer_urls = vec!["https://10.0.0.2:2380".into()];
    let moved = compare(moved);
    assert_eq!(moved.state, DataState::Intact, "a new address alone does not make it foreign");
    assert!(moved.findings.iter().any(|f| f.kind == FindingKind::ForeignMember));
}

#[test]
fn a_full_file_system() {
    if !etcd_or_skip() || !real::root_or_skip() {
        return;
    }
    let (_dir, data) = used_member(3);
    // The WAL file that etcd has allocated ahead takes room, too.
    remove(only(&data.join("member/wal"), ".tmp"));
    let place = tempfile::tempdir().unwrap();
    let mount = real::Tmpfs::mount(place.path(), "100m");
    let full = place.path().join("data");
    let status = std::process::Command::new("cp").arg("-a").arg(&data).arg(&full).status().unwrap();
    assert!(status.success());
    let found = verdict(&full);
    assert_eq!(kinds(&found), [FindingKind::NoSpace], "{:?}", found.findings);
    assert_eq!(found.state, DataState::NoSpace);
    assert!(found.is_sound());
    let error = copy_member(&full, &place.path().join("copy"), &deadline()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(!place.path().join("copy").exists());
    drop(mount);
}

#[test]
fn snapshot_and_copy_of_a_member() {
    if !etcd_or_skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut etcd = Etcd::start(&Options::new(&data));
    for key in 0..30 {
        etcd.put(&format!("k{key}"), &"v".repeat(9000));
    }
    let to = dir.path().join("snapshot.db");
    let receipt = snapshot(&etcd.client(), &to, &deadline()).unwrap();
    let bytes = fs::read(&to).unwrap();
    assert_eq!(bytes.len() as u64, receipt.size_bytes);
    assert_eq!(bytes[bytes.len() - 32..], receipt.sha256.as_bytes()[..]);
    assert_eq!((receipt.revision, receipt.key_revisions), (Some(31), 30));
    assert_eq!(snapshot(&etcd.client(), &to, &deadline()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    etcd.kill();
    let gone = snapshot(&etcd.client(), &dir.path().join("late.db"), &deadline()).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Peer);
    assert_eq!(only(dir.path(), ".tmp"), Vec::<PathBuf>::new());

    let copy = dir.path().join("copy");
    let receipt = copy_member(&data, &copy, &deadline()).unwrap();
    assert!(receipt.files.iter().any(|file| file.path == Path::new("member/snap/db")));
    assert_eq!(verdict(&copy).state, DataState::Intact);
    let mut restored = Etcd::start(&Options::new(&copy));
    assert_eq!(restored.get("k7").map(|value| value.len()), Some(9000));
    restored.kill();
}

#[test]
fn three_members_with_quorum_kept_and_lost_and_a_learner() {
    if !etcd_or_skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut members = real::cluster(dir.path(), 3);
    let view = members[0].client().survey(&deadline()).unwrap();
    assert_eq!(view.count(), (3, 3, 2));
    assert_eq!(view.members.iter().filter(|member| member.leader).count(), 1);
    assert!(project(&view, &Step::new("m1", Effect::Stop)).is_allowed());
    assert!(members[0].client().health(&deadline()).unwrap().healthy);

    let learner = members[0].add_learner("http://127.0.0.1:1");
    let view = members[0].client().survey(&deadline()).unwrap();
    assert_eq!(view.count(), (3, 3, 2), "a learner does not vote");
    let found = view.members.iter().find(|member| member.learner).unwrap();
    assert_eq!((found.id.unwrap().to_string(), found.health), (learner, MemberHealth::Unhealthy));
    let id = found.id.unwrap().to_string();
    assert!(!project(&view, &Step::new(id, Effect::Promote)).is_allowed());

    members[2].kill();
    let view = real::wait_for(|| {
        let view = members[0].client().survey(&deadline()).ok()?;
        (view.count() == (3, 2, 2) && view.members.iter().any(|member| member.leader)).then_some(view)
    });
    let dead = view.members.iter().find(|member| member.name == "m2").unwrap();
    assert_eq!(dead.health, MemberHealth::Unhealthy);
    assert!(!project(&view, &Step::new("m1", Effect::Restart)).is_allowed());
    assert!(project(&view, &Step::new("m2", Effect::Restart)).is_allowed());

    members[1].kill();
    let start = Instant::now();
    let client = members[0].client();
    let status = real::wait_for(|| client.status(&deadline()).ok().filter(|status| status.leader.is_none()));
    assert!(status.errors.iter().any(|error| error.contains("no leader")), "{:?}", status.errors);
    assert!(!client.health(&deadline()).unwrap().healthy);
    let list = client.members(&deadline()).unwrap();
    assert_eq!(list.members.len(), 4, "the list needs no quorum");
    let view = client.survey(&deadline()).unwrap();
    assert_eq!(view.count(), (3, 0, 2));
    assert!(!project(&view, &Step::new("m1", Effect::Remove)).is_allowed());
    assert!(start.elapsed() < Duration::from_secs(40));
    members[0].kill();
    let found = verdict(members[0].data());
    assert_eq!(found.state, DataState::Intact, "{:?}", found.findings);
    let Observed::Present(db) = found.report.db else { panic!("no database") };
    assert_eq!(db.members.iter().filter(|member| member.learner).count(), 1);
}

#[test]
fn tls_with_client_certificates() {
    if !etcd_or_skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let pki = real::pki(dir.path());
    let mut etcd = Etcd::start(&Options { pki: Some(pki.clone()), ..Options::new(&data) });
    let client = etcd.client();
    assert!(client.health(&deadline()).unwrap().healthy);
    assert_eq!(client.version(&deadline()).unwrap().cluster, "3.4.0");
    assert_eq!(client.survey(&deadline()).unwrap().count(), (1, 1, 1));
    snapshot(&client, &dir.path().join("s.db"), &deadline()).unwrap();

    let ask = |tls| Client::new(ClientOptions::new(client.address(), tls)).unwrap().status(&deadline());
    let without = ask(Some(ClientTls::new(pki.ca_pem()))).unwrap_err();
    assert_eq!(without.kind(), ErrorKind::Peer, "no client certificate: {without}");
    let other = tempfile::tempdir().unwrap();
    let stranger = real::pki(other.path());
    let wrong = ask(Some(ClientTls::new(stranger.ca_pem()))).unwrap_err();
    assert!(wrong.to_string().contains("certificate"), "{wrong}");
    assert_eq!(ask(None).unwrap_err().kind(), ErrorKind::Peer, "plain HTTP to a TLS port");
    etcd.kill();
}

#[test]
fn a_stopped_process_is_left_in_time() {
    if !etcd_or_skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut etcd = Etcd::start(&Options::new(&dir.path().join("data")));
    etcd.pause();
    let start = Instant::now();
    let error = etcd.client().status(&Deadline::after(Duration::from_secs(2))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    etcd.kill();
}

#[test]
fn the_nospace_alarm_is_seen_running_and_offline() {
    if !etcd_or_skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut etcd = Etcd::start(&Options { quota_bytes: Some(300_000), ..Options::new(&data) });
    let value = "v".repeat(50_000);
    let client = etcd.client();
    let alarms = (0..20)
        .find_map(|key| {
            etcd.try_put(&format!("k{key}"), &value);
            client.alarms(&deadline()).ok().filter(|alarms| !alarms.is_empty())
        })
        .expect("an alarm");
    assert_eq!(alarms[0].kind, AlarmKind::NoSpace);
    etcd.kill();
    let found = verdict(&data);
    assert_eq!(found.state, DataState::Intact);
    let Observed::Present(db) = &found.report.db else { panic!("no database") };
    assert_eq!(db.alarms, [(alarms[0].member_id, AlarmKind::NoSpace)]);
}

#[test]
fn a_check_goes_by_the_manifest_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = dir.path().join("etc/kubernetes/manifests");
    std::fs::create_dir_all(&manifests).unwrap();
    let recorded = include_str!("../testdata/kubeadm-1.36/manifests/etcd.yaml");
    std::fs::write(manifests.join("etcd.yaml"), recorded.replace("/var/lib/etcd", "/srv/etcd")).unwrap();
    for args in [&[][..], &["--wal-dir", "/no/such/wal"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_cprecover"))
            .args(["--root".as_ref(), dir.path().as_os_str()])
            .args(["etcd", "check", "-o", "json"])
            .args(args)
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["report"]["dataDir"], dir.path().join("srv/etcd").to_str().unwrap(), "{json}");
    }
}

#[test]
fn the_program_prints_json_with_a_schema() {
    if !etcd_or_skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut etcd = Etcd::start(&Options::new(&data));
    let address = etcd.client().address().to_string();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_cprecover"))
            .args(["--root".as_ref(), dir.path().as_os_str()])
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = run(&["etcd", "status", "--endpoint", &address, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect(&text);
    assert_eq!((code, json["schema"].as_str()), (Some(0), Some("cprecover.dev/etcd-status/v1")));
    assert_eq!(json["quorum"], 1);
    let (code, text) = run(&["etcd", "status", "--endpoint", &address]);
    assert!(code == Some(0) && text.contains("1 of 1 voting members are healthy"), "{text}");
    let (code, text) = run(&["etcd", "check", data.to_str().unwrap(), "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect(&text);
    assert_eq!((code, json["state"].as_str()), (Some(5), Some("locked")), "{text}");
    let to = dir.path().join("s.db");
    let (code, text) = run(&["etcd", "snapshot", to.to_str().unwrap(), "--endpoint", &address]);
    assert!(code == Some(0) && to.is_file(), "{text}");
    etcd.kill();
    let (code, text) = run(&["etcd", "check", data.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains("INTACT"), "{text}");
    let (code, text) = run(&["etcd", "status", "--endpoint", &address]);
    assert!(code == Some(1) && text.contains(&address), "{text}");
}
