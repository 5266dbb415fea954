#![allow(clippy::indexing_slicing)] // the pages' offsets are the test's own

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::build::{self, PAGE};
use super::*;
use crate::etcd::ids::MemberId;
use crate::etcd::verdict::AlarmKind;

fn scan_bytes(bytes: &[u8]) -> BoltScan {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("db");
    std::fs::write(&path, bytes).expect("write");
    scan(&path, Depth::Everything, 1 << 30, &Deadline::after(Duration::from_secs(20))).expect("readable")
}

fn kinds(scan: &BoltScan) -> Vec<FindingKind> {
    scan.findings.iter().map(|finding| finding.kind).collect()
}

fn sound() -> Vec<u8> {
    build::etcd_36(42, "a1").concat()
}

#[test]
fn a_database_as_etcd_3_6_writes_it() {
    let scan = scan_bytes(&sound());
    assert_eq!(kinds(&scan), []);
    let report = scan.report;
    assert_eq!((report.page_bytes, report.transaction, report.freelist_stored), (4096, 12, false));
    assert_eq!((report.used_pages, report.free_pages), (7, 2));
    assert_eq!((report.consistent_index, report.term, report.revision), (Some(42), Some(7), Some(9)));
    assert_eq!(report.key_revisions, 3);
    assert_eq!(report.cluster_version.as_deref(), Some("3.6.0"));
    assert_eq!(report.storage_version.as_deref(), Some("3.6.0"));
    assert_eq!(report.alarms, [(MemberId::new(0xa1), AlarmKind::NoSpace)]);
    assert_eq!(report.removed, [MemberId::new(0xdead)]);
    let member = report.members.first().expect("member");
    assert_eq!((member.id, member.name.as_str(), member.learner), (MemberId::new(0xa1), "cp1", false));
    assert_eq!(member.peer_urls, ["https://10.0.0.1:2380"]);
}

#[test]
fn the_members_of_a_database_in_use_are_read_where_it_is_sound() {
    let read = |bytes: &[u8]| {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        std::fs::write(file.path(), bytes).expect("write");
        let deadline = Deadline::after(std::time::Duration::from_secs(10));
        members_in_use(file.path(), &deadline).expect("reads")
    };
    let whole = scan_bytes(&sound()).report.members;
    assert!(!whole.is_empty());
    assert_eq!(read(&sound()), Some(whole.clone()));
    // What another transaction is writing, in pages that this one does not need.
    let mut torn = sound();
    for at in (2 * PAGE..torn.len()).step_by(PAGE) {
        let mut one = sound();
        one[at..at + PAGE].fill(0xee);
        assert!(read(&one).is_none_or(|found| found == whole), "page {}", at / PAGE);
    }
    torn[2 * PAGE..].fill(0xee);
    assert_eq!(read(&torn), None);
    assert_eq!(read(b""), None);
}

#[test]
fn one_broken_meta_page_is_survived_and_two_are_not() {
    for (at, other) in [(30, 11), (PAGE + 30, 12)] {
        let mut bytes = sound();
        bytes[at] ^= 1;
        let scan = scan_bytes(&bytes);
        assert_eq!(kinds(&scan), [FindingKind::DbMetaDegraded]);
        assert_eq!(scan.report.transaction, other);
    }
    let mut bytes = sound();
    bytes[30] ^= 1;
    bytes[PAGE + 30] ^= 1;
    assert_eq!(kinds(&scan_bytes(&bytes)), [FindingKind::DbMetaBroken]);
    assert_eq!(kinds(&scan_bytes(b"")), [FindingKind::DbMetaBroken]);
}

#[test]
fn a_cut_file() {
    let bytes = sound();
    let scan = scan_bytes(&bytes[..6 * PAGE]);
    assert!(kinds(&scan).iter().all(|kind| *kind == FindingKind::DbTruncated), "{:?}", scan.findings);
    assert_eq!(scan.report.consistent_index, Some(42), "what is left is still read");
    assert!(scan.findings.iter().all(|finding| finding.state == DataState::DbBroken));
}

/// Replaces one page of the sound file and returns the first finding.
fn with_page(place: usize, page: &[u8]) -> (FindingKind, Option<u64>, String) {
    let mut pages = build::etcd_36(42, "a1");
    pages[place] = page.to_vec();
    let scan = scan_bytes(&pages.concat());
    let finding = scan.findings.first().expect("found");
    (finding.kind, finding.record, finding.message.clone())
}

#[test]
fn broken_pages_are_named() {
    let key = build::revision;
    let zero = with_page(5, &[0; PAGE]);
    assert_eq!((zero.0, zero.1), (FindingKind::DbPageBroken, Some(5)), "{}", zero.2);
    let shared = with_page(4, &build::branch(4, &[(5, key(2)), (5, key(9))]));
    assert_eq!((shared.0, shared.1), (FindingKind::DbPageShared, Some(5)));
    let overflow = with_page(4, &build::branch(4, &[(6, key(9)), (7, key(10))]));
    assert_eq!(overflow.0, FindingKind::DbPageShared, "{}", overflow.2);
    let outside = with_page(4, &build::branch(4, &[(5, key(2)), (900, key(9))]));
    assert_eq!((outside.0, outside.1), (FindingKind::DbPageBroken, Some(4)));
    let order = with_page(5, &build::leaf(5, &[(0, key(3), vec![]), (0, key(2), vec![])], PAGE));
    assert_eq!((order.0, order.1), (FindingKind::DbPageBroken, Some(5)));
    let range = with_page(5, &build::leaf(5, &[(0, key(20), vec![])], PAGE));
    assert!(range.2.contains("parent"), "{}", range.2);
    let mut wrong_type = build::leaf(5, &[], PAGE);
    wrong_type[8] = 0x10;
    assert_eq!(with_page(5, &wrong_type).0, FindingKind::DbPageBroken);
}

#[test]
fn the_stored_list_of_free_pages() {
    let with_list = |list: Vec<u8>, meta_page: u64| {
        let mut pages = build::etcd_36(42, "a1");
        pages[0] = build::meta(0, 3, Some(meta_page), 9, 12);
        pages[7] = list;
        scan_bytes(&pages.concat())
    };
    let good = with_list(build::freelist(8, &[2]), 8);
    assert_eq!(kinds(&good), []);
    assert!(good.report.freelist_stored);
    assert_eq!(good.report.free_pages, 1);
    for bad in
        [build::freelist(8, &[5]), build::freelist(8, &[900]), vec![0; PAGE], build::leaf(8, &[], PAGE)]
    {
        let found = kinds(&with_list(bad, 8));
        assert!(!found.is_empty());
    }
    assert_eq!(kinds(&with_list(build::freelist(8, &[900]), 8)), [FindingKind::DbFreelistBroken]);
    assert_eq!(kinds(&with_list(build::freelist(8, &[5]), 8)), [FindingKind::DbPageShared]);
}

#[test]
fn an_applied_database_without_key_space_is_broken() {
    let index = 5_u64.to_be_bytes();
    let root = build::leaf(2, &[build::inline("meta", &[(b"consistent_index", &index)])], PAGE);
    let bytes = [build::meta(0, 2, None, 3, 2), build::meta(1, 2, None, 3, 1), root].concat();
    assert_eq!(kinds(&scan_bytes(&bytes)), [FindingKind::DbBucketMissing]);
}

#[test]
fn a_passed_deadline_is_no_verdict() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("db");
    std::fs::write(&path, sound()).expect("write");
    let scan = scan(&path, Depth::Everything, 1 << 30, &Deadline::after(Duration::ZERO)).expect("readable");
    assert_eq!(scan.findings.first().map(|finding| finding.state), Some(DataState::Unfinished));
    let scan = super::scan(&path, Depth::Everything, 100, &Deadline::after(Duration::from_secs(9)));
    assert_eq!(scan.expect("readable").findings.first().map(|f| f.kind), Some(FindingKind::Limit));
}

/// A page full of elements that all claim the same long key must not be copied once per element.
#[test]
fn overlapping_keys_cost_nothing() {
    let mut pages = build::etcd_36(42, "a1");
    let mut hostile = build::branch(4, &[]);
    let count = 65_535_u16;
    hostile[10..12].copy_from_slice(&count.to_le_bytes());
    hostile[12..16].copy_from_slice(&4095_u32.to_le_bytes());
    hostile.resize(4096 * PAGE, 0xff);
    for place in 0..usize::from(count) {
        let base = 16 + 16 * place;
        let pos = u32::try_from(usize::from(count) * 16 + 16 - base).expect("small");
        hostile[base..base + 4].copy_from_slice(&pos.to_le_bytes());
        hostile[base + 4..base + 8].copy_from_slice(&8_000_000_u32.to_le_bytes());
    }
    pages[0] = build::meta(0, 3, None, 4 + 4096, 12);
    pages.truncate(4);
    pages.push(hostile);
    let start = Instant::now();
    let scan = scan_bytes(&pages.concat());
    assert_eq!(kinds(&scan), [FindingKind::DbPageBroken]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_damage_is_judged_and_ends(
        edits in proptest::collection::vec((0_usize..9 * PAGE, any::<u8>()), 1..40),
        cut in 0_usize..10 * PAGE,
    ) {
        let mut bytes = sound();
        for (at, value) in edits {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        let start = Instant::now();
        let scan = scan_bytes(&bytes);
        prop_assert!(scan.findings.len() <= 32);
        prop_assert!(start.elapsed() < Duration::from_secs(5));
    }

    /// Damage to the headers and element tables, where it hurts, behind sound meta pages.
    #[test]
    fn damaged_structure_never_panics(
        edits in proptest::collection::vec((2_usize..9, 0_usize..80, any::<u8>()), 1..24),
    ) {
        let mut bytes = sound();
        for (page, at, value) in edits {
            if let Some(byte) = bytes.get_mut(page * PAGE + at) {
                *byte = value;
            }
        }
        let scan = scan_bytes(&bytes);
        prop_assert!(scan.report.used_pages <= 16);
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..8192)) {
        prop_assert_eq!(kinds(&scan_bytes(&bytes)), [FindingKind::DbMetaBroken]);
    }
}
