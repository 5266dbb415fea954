use std::time::Duration;

use proptest::prelude::*;

use super::build::WalWriter;
use super::*;

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn scan_of(files: &[(&str, &[u8])]) -> WalScan {
    let dir = tempfile::tempdir().expect("temp dir");
    let list: Vec<WalFile> = files
        .iter()
        .map(|(name, bytes)| {
            std::fs::write(dir.path().join(name), bytes).expect("write");
            let (sequence, first_index) = parse_name(name).expect("name");
            WalFile {
                name: (*name).into(),
                sequence,
                first_index,
                size_bytes: bytes.len() as u64,
                used_bytes: 0,
                records: 0,
            }
        })
        .collect();
    scan(dir.path(), &list, 1 << 30, &deadline()).expect("readable")
}

const FIRST: &str = "0000000000000000-0000000000000000.wal";
const SECOND: &str = "0000000000000001-0000000000000004.wal";

fn small() -> WalWriter {
    let mut wal = WalWriter::first(0xa1, 0xc1);
    for index in 1..=3 {
        wal.entry(2, index, b"value");
    }
    wal.state(2, 0xa1, 3);
    wal
}

fn kinds(scan: &WalScan) -> Vec<FindingKind> {
    scan.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_sound_log_of_two_files() {
    let first = small();
    let mut second = first.next();
    second.metadata(0xa1, 0xc1);
    second.entry(3, 4, b"x");
    second.snapshot(3, 4);
    second.state(3, 0, 4);
    second.bytes.extend([0; 4096]);
    let scan = scan_of(&[(FIRST, &first.bytes), (SECOND, &second.bytes)]);
    assert_eq!(kinds(&scan), []);
    assert_eq!((scan.member_id, scan.cluster_id), (Some(MemberId::new(0xa1)), Some(ClusterId::new(0xc1))));
    let report = &scan.report;
    assert_eq!((report.term, report.vote, report.commit), (3, None, 4));
    assert_eq!((report.first_index, report.last_index, report.last_term), (1, 4, 3));
    assert_eq!((report.snapshot_index, report.records, scan.needs_start), (4, 12, 0));
    assert_eq!(scan.marks, [SnapshotMark { term: 0, index: 0 }, SnapshotMark { term: 3, index: 4 }]);
}

#[test]
fn a_flipped_bit_is_named_with_file_offset_and_record() {
    let wal = small();
    let mut bytes = wal.bytes.clone();
    let at = bytes.windows(5).position(|w| w == b"value").expect("payload");
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    let scan = scan_of(&[(FIRST, &bytes)]);
    let finding = scan.findings.first().expect("found");
    assert_eq!((finding.kind, finding.state), (FindingKind::WalCrcMismatch, DataState::WalBroken));
    assert_eq!(finding.record, Some(3));
    assert!(finding.offset.is_some_and(|offset| offset < at as u64 && offset + 64 > at as u64));
    assert_eq!(scan.report.records, 3);
}

#[test]
fn a_cut_at_any_byte_of_the_last_file_is_torn_or_a_clean_end() {
    let wal = small();
    for cut in 0..wal.bytes.len() {
        let scan = scan_of(&[(FIRST, wal.bytes.get(..cut).expect("in range"))]);
        let used = scan.report.files.first().map(|file| file.used_bytes);
        if used == Some(cut as u64) {
            assert_eq!(kinds(&scan), [], "cut at {cut}");
        } else {
            assert_eq!(kinds(&scan), [FindingKind::WalTornTail], "cut at {cut}");
        }
    }
}

#[test]
fn a_cut_in_an_earlier_file_is_no_torn_tail() {
    let first = small();
    let second = first.next();
    let cut = first.bytes.get(..first.bytes.len() - 3).expect("longer");
    let scan = scan_of(&[(FIRST, cut), (SECOND, &second.bytes)]);
    assert_eq!(kinds(&scan), [FindingKind::WalMalformed]);
    assert!(scan.findings.iter().all(|finding| finding.state == DataState::WalBroken));
}

#[test]
fn an_unwritten_sector_is_torn() {
    let mut wal = small();
    wal.entry(2, 4, &[7; 2000]);
    let from = wal.bytes.len() - 1024;
    let mut bytes = wal.bytes.clone();
    let aligned = from.next_multiple_of(512);
    bytes.get_mut(aligned..aligned + 512).expect("inside the entry").fill(0);
    assert_eq!(kinds(&scan_of(&[(FIRST, &bytes)])), [FindingKind::WalTornTail]);
}

#[test]
fn bytes_behind_the_end_are_reported() {
    let mut bytes = small().bytes;
    bytes.extend([0; 600]);
    let at = bytes.len() as u64;
    bytes.push(9);
    let scan = scan_of(&[(FIRST, &bytes)]);
    assert_eq!(kinds(&scan), [FindingKind::WalTornTail]);
    assert_eq!(scan.findings.first().and_then(|finding| finding.offset), Some(at));
}

#[test]
fn a_file_that_does_not_continue_the_one_before_it() {
    let first = small();
    let stranger = WalWriter::first(0xa1, 0xc1);
    let mut other = stranger.next();
    other.metadata(0xa1, 0xc1);
    assert_eq!(
        kinds(&scan_of(&[(FIRST, &first.bytes), (SECOND, &other.bytes)])),
        [FindingKind::WalCrcMismatch]
    );
    let mut conflicting = first.next();
    conflicting.metadata(0xa2, 0xc1);
    let scan = scan_of(&[(FIRST, &first.bytes), (SECOND, &conflicting.bytes)]);
    assert_eq!(kinds(&scan), [FindingKind::WalMetadataConflict]);
}

#[test]
fn a_hole_in_the_sequence_and_in_the_entries() {
    let first = small();
    let mut third = first.next();
    third.metadata(0xa1, 0xc1);
    third.entry(2, 9, b"x");
    let name = "0000000000000002-0000000000000009.wal";
    let scan = scan_of(&[(FIRST, &first.bytes), (name, &third.bytes)]);
    assert_eq!(kinds(&scan), [FindingKind::WalFileMissing]);
    assert_eq!(scan.needs_start, 8);
}

#[test]
fn names() {
    assert_eq!(parse_name(SECOND), Some((1, 4)));
    for bad in ["0.tmp", "1-4.wal", "0000000000000001-0000000000000004.wal.broken", "é-0.wal"] {
        assert_eq!(parse_name(bad), None, "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let scan = scan_of(&[(FIRST, &bytes)]);
        prop_assert!(scan.report.records <= bytes.len() as u64 / 8);
    }

    #[test]
    fn any_damage_to_a_sound_log_is_judged(at in 0_usize..400, value in any::<u8>(), cut in 0_usize..400) {
        let sound = small();
        let mut bytes = sound.bytes.clone();
        let at = at % bytes.len();
        let before = bytes.get(at).copied();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        let scan = scan_of(&[(FIRST, &bytes)]);
        // A changed byte is either found, or it is one that no reader looks at: padding, an unused bit of
        // the length, or the first record's CRC, which has nothing before it to be compared with.
        if before != Some(value) && scan.findings.is_empty() {
            prop_assert_eq!(scan.report.last_index, 3);
        }
        bytes.truncate(cut);
        let _ = scan_of(&[(FIRST, &bytes)]);
    }
}
