//! Whole data directories as etcd 3.5 and 3.6 write them, made by hand.
//!
//! What newer versions add: `conf_state` in the WAL's snapshot records (3.5), `term` (3.5) and
//! `storageVersion` (3.6) in the bucket `meta`.

use std::time::Duration;

use rustix::fs::FlockOperation;

use super::*;
use crate::etcd::verdict::Startup;
use crate::etcd::wal::build::WalWriter;
use crate::etcd::{bolt, snap};

const MEMBER: u64 = 0xa1;

/// A member whose log starts at `first`, ends with `last`, and whose database has applied `applied`.
struct Member {
    first: u64,
    last: u64,
    commit: u64,
    applied: u64,
    /// A snapshot file and its record.
    snapshot: Option<u64>,
    /// The database's key of the member, in hex.
    listed: &'static str,
}

impl Default for Member {
    fn default() -> Self {
        Self { first: 1, last: 50, commit: 50, applied: 42, snapshot: Some(40), listed: "a1" }
    }
}

impl Member {
    fn write(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp dir");
        let (wal_dir, snap_dir) = (dir.path().join("member/wal"), dir.path().join("member/snap"));
        std::fs::create_dir_all(&wal_dir).expect("mkdir");
        std::fs::create_dir_all(&snap_dir).expect("mkdir");
        let mut wal = WalWriter::first(MEMBER, 0xc1);
        for index in self.first..=self.last {
            wal.entry(7, index, b"payload");
            if self.snapshot == Some(index) {
                wal.snapshot(7, index);
            }
        }
        wal.state(7, MEMBER, self.commit);
        wal.bytes.extend([0; 4096]);
        let sequence = u64::from(self.first > 1);
        let first = if self.first > 1 { self.first } else { 0 };
        std::fs::write(wal_dir.join(format!("{sequence:016x}-{first:016x}.wal")), &wal.bytes).expect("write");
        if let Some(index) = self.snapshot {
            let name = format!("{:016x}-{index:016x}.snap", 7);
            std::fs::write(snap_dir.join(name), snap::build(7, index)).expect("write");
        }
        let db = bolt::build::etcd_36(self.applied, self.listed).concat();
        std::fs::write(snap_dir.join("db"), db).expect("write");
        dir
    }

    fn verdict(&self) -> DataVerdict {
        check(self.write().path(), &deadline())
    }
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn cause(verdict: &DataVerdict) -> Option<(FindingKind, DataState, Startup)> {
    verdict.cause().map(|finding| (finding.kind, verdict.state, verdict.startup))
}

#[test]
fn a_sound_member_of_3_6() {
    let verdict = Member::default().verdict();
    assert_eq!(
        (verdict.state, verdict.startup),
        (DataState::Intact, Startup::Starts),
        "{:?}",
        verdict.findings
    );
    assert!(verdict.report.snapshots.iter().all(|file| file.in_wal && file.sound));
    let db = verdict.report.db.present().expect("database");
    assert_eq!(db.storage_version.as_deref(), Some("3.6.0"));
    let json = serde_json::to_string(&verdict).expect("serialises");
    let back: DataVerdict = serde_json::from_str(&json).expect("parses");
    assert_eq!(back, verdict);
}

#[test]
fn a_log_that_lost_its_end_is_noticed_although_etcd_would_start() {
    let verdict = Member { last: 41, commit: 41, applied: 45, ..Member::default() }.verdict();
    let expected = (FindingKind::DbNewerThanWal, DataState::Mismatch, Startup::Diverges);
    assert_eq!(cause(&verdict), Some(expected));
}

#[test]
fn a_committed_entry_that_is_not_there() {
    let verdict = Member { commit: 60, ..Member::default() }.verdict();
    let expected = (FindingKind::WalCommitBeyondEnd, DataState::WalBroken, Startup::Fails);
    assert_eq!(cause(&verdict), Some(expected));
}

#[test]
fn a_log_that_starts_late_needs_its_snapshot() {
    let late = Member { first: 30, ..Member::default() };
    let verdict = late.verdict();
    assert_eq!(verdict.state, DataState::Intact, "{:?}", verdict.findings);
    let dir = late.write();
    let name = format!("member/snap/{:016x}-{:016x}.snap", 7, 40);
    std::fs::remove_file(dir.path().join(name)).expect("remove");
    let verdict = check(dir.path(), &deadline());
    let expected = (FindingKind::SnapMissing, DataState::Mismatch, Startup::Fails);
    assert_eq!(cause(&verdict), Some(expected));
}

#[test]
fn an_etcd_that_loads_no_snapshot_files_is_not_called_damaged_for_want_of_one() {
    let newer = |dir: &tempfile::TempDir| {
        let db = dir.path().join("member/snap/db");
        let mut bytes = std::fs::read(&db).expect("read");
        let at: Vec<usize> = (0..bytes.len())
            .filter(|at| bytes.get(*at..).is_some_and(|rest| rest.starts_with(b"3.6.0")))
            .collect();
        assert_eq!(at.len(), 2, "cluster's and storage's version");
        at.into_iter()
            .filter_map(|at| at.checked_add(2))
            .for_each(|at| bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = b'7'));
        std::fs::write(db, bytes).expect("write");
    };
    let dir = Member { first: 30, ..Member::default() }.write();
    let name = format!("member/snap/{:016x}-{:016x}.snap", 7, 40);
    std::fs::remove_file(dir.path().join(name)).expect("remove");
    newer(&dir);
    let verdict = check(dir.path(), &deadline());
    assert_eq!(verdict.state, DataState::Unfinished, "{:?}", verdict.findings);
    let sound = Member::default().write();
    newer(&sound);
    let verdict = check(sound.path(), &deadline());
    assert_eq!(verdict.state, DataState::Intact, "{:?}", verdict.findings);
}

#[test]
fn a_snapshot_newer_than_the_database_needs_a_snap_db() {
    let behind = Member { applied: 30, ..Member::default() };
    let expected = (FindingKind::DbOlderThanSnapshot, DataState::Mismatch, Startup::Fails);
    assert_eq!(cause(&behind.verdict()), Some(expected));
    let dir = behind.write();
    std::fs::write(dir.path().join(format!("member/snap/{:016x}.snap.db", 40)), b"").expect("write");
    let verdict = check(dir.path(), &deadline());
    assert_eq!(verdict.state, DataState::Intact, "{:?}", verdict.findings);
}

#[test]
fn a_removed_member_and_an_uncommitted_snapshot() {
    let dir = Member::default().write();
    // The database lists "dead" as removed; make the WAL that member's.
    let mut wal = WalWriter::first(0xdead, 0xc1);
    (1..=50).for_each(|index| wal.entry(7, index, b"x"));
    wal.snapshot(7, 40);
    wal.state(7, 0, 50);
    std::fs::write(dir.path().join(format!("member/wal/{:016x}-{:016x}.wal", 0, 0)), wal.bytes)
        .expect("write");
    let verdict = check(dir.path(), &deadline());
    let expected = (FindingKind::MemberRemoved, DataState::Foreign, Startup::Unknown);
    assert_eq!(cause(&verdict), Some(expected));

    let early = Member { commit: 39, applied: 39, ..Member::default() }.verdict();
    assert!(early.report.snapshots.iter().all(|file| !file.in_wal), "etcd ignores an uncommitted snapshot");
    assert_eq!(early.state, DataState::Intact, "{:?}", early.findings);
}

#[test]
fn limits_and_deadlines_are_no_verdict_on_the_data() {
    let dir = Member::default().write();
    let late = check(dir.path(), &Deadline::after(Duration::ZERO));
    assert_eq!(late.state, DataState::Unfinished);
    let mut small = CheckOptions { db_bytes: 100, ..CheckOptions::default() };
    assert_eq!(check_with(dir.path(), &small, &deadline()).state, DataState::Unfinished);
    small = CheckOptions { wal_bytes: 100, ..CheckOptions::default() };
    assert_eq!(check_with(dir.path(), &small, &deadline()).state, DataState::Unfinished);
    small = CheckOptions { entries: 0, ..CheckOptions::default() };
    let cut = check_with(&dir.path().join("member"), &small, &deadline());
    assert_eq!(cut.state, DataState::Empty, "nothing of a member, and nothing was cut off");
    std::fs::remove_file(dir.path().join("member/snap/db")).expect("remove");
    let cut = check_with(dir.path(), &small, &deadline());
    assert_eq!(cut.state, DataState::Unfinished, "a list that was cut off proves no absence");
}

#[test]
fn the_members_of_data_in_use_are_read_whatever_time_the_log_takes() {
    let dir = Member::default().write();
    let wal = dir.path().join(format!("member/wal/{:016x}-{:016x}.wal", 0, 0));
    std::fs::File::options().write(true).open(wal).and_then(|file| file.set_len(64_000_000)).expect("grow");
    let db = std::fs::File::open(dir.path().join("member/snap/db")).expect("open");
    rustix::fs::flock(&db, FlockOperation::NonBlockingLockExclusive).expect("lock");
    let verdict = check(dir.path(), &Deadline::after(Duration::ZERO));
    assert_eq!(verdict.state, DataState::Locked, "{:?}", verdict.findings);
    let names: Vec<&str> =
        verdict.report.db.present().expect("read").members.iter().map(|member| &member.name[..]).collect();
    assert_eq!(names, ["cp1"]);
    assert_eq!(verdict.report.member_id.map(MemberId::get), Some(MEMBER));
}

/// etcd purges its oldest WAL files while it runs.
#[test]
fn a_log_file_that_leads_nowhere_or_vanishes_is_no_missing_folder() {
    let dir = Member::default().write();
    let link = dir.path().join(format!("member/wal/{:016x}-{:016x}.wal", 7, 99));
    std::os::unix::fs::symlink("/nowhere/at/all", &link).expect("link");
    let verdict = check(dir.path(), &deadline());
    assert_eq!(verdict.state, DataState::Unreadable, "{:?}", verdict.findings);
}

/// The member that the program's stand-in for etcd writes, one that lists nobody and one that is alone: real
/// files, so that nothing has to be told that it looks at a stand-in.
fn stand_in() -> ([Vec<u8>; 2], Vec<u8>) {
    // Its name and addresses are a run's own.
    let [nobody, alone] = [&[][..], &[("a1", r#"{"id":161}"#)][..]];
    let mut wal = WalWriter::first(MEMBER, 0xc1);
    (1..=3).for_each(|index| wal.entry(2, index, b"stand-in"));
    wal.state(2, MEMBER, 3);
    wal.bytes.extend([0; 512]);
    ([nobody, alone].map(bolt::build::database_listing), wal.bytes)
}

#[test]
fn the_stand_ins_member_is_sound() {
    let (databases, wal) = stand_in();
    let [nobody, alone] = &databases;
    let written: [&[u8]; 3] = [
        include_bytes!("../../bin/cprecover/double/etcd/db"),
        include_bytes!("../../bin/cprecover/double/etcd/db-alone"),
        include_bytes!("../../bin/cprecover/double/etcd/wal"),
    ];
    assert!(
        written == [&nobody[..], &alone[..], &wal[..]],
        "write them anew with `write_the_stand_ins_member`"
    );
    for (db, listed) in databases.iter().zip([0, 1]) {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir_all(dir.path().join("member/wal")).expect("mkdir");
        std::fs::create_dir_all(dir.path().join("member/snap")).expect("mkdir");
        std::fs::write(dir.path().join("member/snap/db"), db).expect("write");
        std::fs::write(dir.path().join(format!("member/wal/{:016x}-{:016x}.wal", 0, 0)), &wal)
            .expect("write");
        let verdict = check(dir.path(), &deadline());
        let member = verdict.report.member_id.map(MemberId::get);
        assert_eq!((verdict.state, member), (DataState::Intact, Some(MEMBER)), "{:?}", verdict.findings);
        assert_eq!(verdict.report.db.present().expect("database").members.len(), listed);
    }
}

#[test]
#[ignore = "writes into the source folder"]
fn write_the_stand_ins_member() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/cprecover/double/etcd");
    let ([nobody, alone], wal) = stand_in();
    for (name, bytes) in [("db", nobody), ("db-alone", alone), ("wal", wal)] {
        std::fs::write(folder.join(name), bytes).expect("write");
    }
}
