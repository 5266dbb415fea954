//! The write-ahead log: frames, the chain of record CRCs, and what the records say.
//!
//! Sources: etcd `server/storage/wal/{wal,decoder,repair,util}.go` and `walpb/record.proto`; the format is
//! the same from etcd 3.0 to 3.6. A frame is a 64-bit little-endian length (lower 56 bits: record bytes; if
//! negative, bits 56–58: padding), then the record, then padding. Every record's CRC-32C continues over
//! all data records before it; each file starts with a record that repeats the CRC so far.

mod frame;

use std::path::{Path, PathBuf};

use super::ids::{ClusterId, MemberId};
use super::verdict::{DataState, Finding, FindingKind, WalFile, WalReport};
use super::wire::{self, Malformed};
use crate::error::Result;
use crate::sys::Deadline;
use frame::{Broken, Frames, Record};

/// Record types (etcd `server/storage/wal/wal.go`).
const METADATA: u64 = 1;
const ENTRY: u64 = 2;
const STATE: u64 = 3;
const CRC: u64 = 4;
const SNAPSHOT: u64 = 5;

/// How many snapshot records are kept; etcd cuts a WAL file every 64 MB and keeps 5 of them.
const MAX_SNAPSHOT_RECORDS: usize = 65_536;

/// A snapshot that the WAL records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SnapshotMark {
    pub(super) term: u64,
    pub(super) index: u64,
}

/// What a pass over the log found.
#[derive(Debug, Default)]
pub(super) struct WalScan {
    pub(super) report: WalReport,
    pub(super) member_id: Option<MemberId>,
    pub(super) cluster_id: Option<ClusterId>,
    /// Snapshots that are recorded, committed or not.
    pub(super) marks: Vec<SnapshotMark>,
    /// The log can only be replayed from a snapshot at this index or later.
    pub(super) needs_start: u64,
    pub(super) findings: Vec<Finding>,
}

/// The two numbers in `<sequence>-<index>.wal`; `None` for another name.
pub(super) fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (sequence, index) = name.strip_suffix(".wal")?.split_once('-')?;
    let hex = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
    Some((hex(sequence)?, hex(index)?))
}

/// Reads the files, which have to be in order of their sequence, up to `budget` bytes.
pub(super) fn scan(dir: &Path, files: &[WalFile], budget: u64, deadline: &Deadline) -> Result<WalScan> {
    let mut scan = Scan { out: WalScan::default(), crc: 0, previous: None, metadata: None };
    scan.out.report.files = files.to_vec();
    scan.check_sequence(dir, files);
    let mut left = budget;
    for (place, file) in files.iter().enumerate() {
        let path = dir.join(&file.name);
        if file.size_bytes > left {
            let message = format!("WAL has more than {budget} bytes; not read from here on");
            scan.find(FindingKind::Limit, DataState::Unfinished, &path, None, None, message);
            break;
        }
        left -= file.size_bytes;
        let last = place + 1 == files.len();
        if !scan.read_file(&path, place, last, deadline)? {
            break;
        }
    }
    Ok(scan.out)
}

/// How many records of a file are read for its metadata; etcd writes it second (`WAL.cut`, `Create`).
const OWNER_RECORDS: usize = 4;

/// Whose log it is, by the first file that tells; a handful of records is read, also of a log in use.
pub(super) fn owner(dir: &Path, files: &[WalFile]) -> Option<(MemberId, ClusterId)> {
    files.iter().find_map(|file| {
        let mut frames = Frames::open(&dir.join(&file.name)).ok()?;
        let mut scan = Scan { out: WalScan::default(), crc: 0, previous: None, metadata: None };
        for _ in 0..OWNER_RECORDS {
            let record = frames.next_record().ok()??;
            scan.crc_of(&record).ok()?;
            if record.kind == METADATA {
                scan.apply_metadata(record.data).ok()?;
                return scan.out.member_id.zip(scan.out.cluster_id);
            }
        }
        None
    })
}

struct Scan {
    out: WalScan,
    crc: u32,
    /// Index of the entry before, once there was one.
    previous: Option<u64>,
    metadata: Option<Vec<u8>>,
}

impl Scan {
    fn find(
        &mut self,
        kind: FindingKind,
        state: DataState,
        file: &Path,
        offset: Option<u64>,
        record: Option<u64>,
        message: String,
    ) {
        self.out.findings.push(Finding { kind, state, file: file.to_owned(), offset, record, message });
    }

    /// etcd refuses a sequence with holes (`isValidSeq`), whatever the records say.
    fn check_sequence(&mut self, dir: &Path, files: &[WalFile]) {
        let next = files.iter().skip(1);
        let hole = files.iter().zip(next).find(|(a, b)| a.sequence.checked_add(1) != Some(b.sequence));
        if let Some((before, after)) = hole {
            let message = format!("WAL files are missing between {} and {}", before.name, after.name);
            let path: PathBuf = dir.join(&after.name);
            self.find(FindingKind::WalFileMissing, DataState::WalBroken, &path, None, None, message);
        }
    }

    /// Reads one file; returns whether the log can be followed into the next.
    fn read_file(&mut self, path: &Path, place: usize, last: bool, deadline: &Deadline) -> Result<bool> {
        let mut frames = Frames::open(path)?;
        let (mut records, mut end) = (0_u64, 0_u64);
        let broken = loop {
            if records.is_multiple_of(256)
                && let Err(stop) = deadline.check("read WAL")
            {
                let (kind, state) = (FindingKind::Limit, DataState::Unfinished);
                self.find(kind, state, path, Some(end), Some(records), stop.to_string());
                break Some(());
            }
            let step = match frames.next_record() {
                Ok(None) => break None,
                Ok(Some(record)) => self.crc_of(&record).and_then(|()| self.apply(&record)),
                Err(broken) => Err(broken),
            };
            match step {
                Ok(()) => {
                    records += 1;
                    end = frames.offset();
                }
                Err(Broken::Io(source)) => return Err(crate::Error::path("read", path, source)),
                Err(broken) => {
                    self.report_broken(&broken, &frames, last, path, end, records);
                    break Some(());
                }
            }
        };
        self.note_file(place, end, records);
        if broken.is_none() && last {
            self.look_behind_the_end(&mut frames, path, records, deadline)?;
        }
        Ok(broken.is_none())
    }

    fn note_file(&mut self, place: usize, end: u64, records: u64) {
        self.out.report.records += records;
        if let Some(file) = self.out.report.files.get_mut(place) {
            file.records = records;
            file.used_bytes = end;
        }
    }

    /// Continues the chain of CRCs.
    fn crc_of(&mut self, record: &Record<'_>) -> Result<(), Broken> {
        if record.kind == CRC {
            // At the start of the chain there is nothing to compare with.
            if self.crc != 0 && self.crc != record.crc {
                return Err(Broken::Chain { stored: record.crc, computed: self.crc });
            }
            self.crc = record.crc;
            return Ok(());
        }
        let computed = crc32c::crc32c_append(self.crc, record.data);
        if computed != record.crc {
            return Err(Broken::Crc { stored: record.crc, computed });
        }
        self.crc = computed;
        Ok(())
    }

    fn apply(&mut self, record: &Record<'_>) -> Result<(), Broken> {
        let malformed = |_: Malformed| Broken::Content { kind: record.kind };
        match record.kind {
            METADATA => return self.apply_metadata(record.data),
            ENTRY => {
                // raftpb.Entry: Term = 2, Index = 3.
                let [term, index] = wire::varints(record.data, [2, 3]).map_err(malformed)?;
                self.apply_entry(term, index);
            }
            STATE => {
                // raftpb.HardState: term = 1, vote = 2, commit = 3.
                let [term, vote, commit] = wire::varints(record.data, [1, 2, 3]).map_err(malformed)?;
                let report = &mut self.out.report;
                (report.term, report.commit) = (term, commit);
                report.vote = (vote != 0).then(|| MemberId::new(vote));
            }
            SNAPSHOT => {
                // walpb.Snapshot: index = 1, term = 2.
                let [index, term] = wire::varints(record.data, [1, 2]).map_err(malformed)?;
                self.out.report.snapshot_index = self.out.report.snapshot_index.max(index);
                if self.out.marks.len() < MAX_SNAPSHOT_RECORDS {
                    self.out.marks.push(SnapshotMark { term, index });
                }
            }
            CRC => {}
            kind => return Err(Broken::Content { kind }),
        }
        Ok(())
    }

    fn apply_metadata(&mut self, data: &[u8]) -> Result<(), Broken> {
        match &self.metadata {
            Some(before) if before == data => {}
            Some(_) => return Err(Broken::MetadataConflict),
            None => {
                // etcdserverpb.Metadata: NodeID = 1, ClusterID = 2.
                let [member, cluster] =
                    wire::varints(data, [1, 2]).map_err(|_| Broken::Content { kind: METADATA })?;
                self.out.member_id = Some(MemberId::new(member));
                self.out.cluster_id = Some(ClusterId::new(cluster));
                self.metadata = Some(data.to_owned());
            }
        }
        Ok(())
    }

    /// An entry may overwrite uncommitted ones, but it may not jump ahead, except behind a snapshot.
    fn apply_entry(&mut self, term: u64, index: u64) {
        let follows = self.previous.is_some_and(|previous| index <= previous.saturating_add(1));
        if !follows {
            self.out.needs_start = self.out.needs_start.max(index.saturating_sub(1));
        }
        let report = &mut self.out.report;
        if report.first_index == 0 {
            report.first_index = index;
        }
        (report.last_index, report.last_term) = (index, term);
        self.previous = Some(index);
    }

    fn report_broken(
        &mut self,
        broken: &Broken,
        frames: &Frames,
        last: bool,
        path: &Path,
        at: u64,
        record: u64,
    ) {
        // etcd repairs what a write that was cut off leaves, and only at the end of the last file.
        let torn = last && frames.is_torn(broken);
        let (kind, state) = if torn {
            (FindingKind::WalTornTail, DataState::WalTorn)
        } else {
            let kind = match broken {
                Broken::Crc { .. } | Broken::Chain { .. } => FindingKind::WalCrcMismatch,
                Broken::MetadataConflict => FindingKind::WalMetadataConflict,
                _ => FindingKind::WalMalformed,
            };
            (kind, DataState::WalBroken)
        };
        let end = if torn { "; etcd cuts it off at start" } else { "" };
        let message = format!("{broken}{end}");
        self.find(kind, state, path, Some(at), Some(record), message);
    }

    /// Behind a zero frame there must be zeros; anything else is what a cut-off write left, or a hole that
    /// swallowed records. etcd zeroes it at start without a word (`WAL.ReadAll`).
    fn look_behind_the_end(
        &mut self,
        frames: &mut Frames,
        path: &Path,
        record: u64,
        deadline: &Deadline,
    ) -> Result<()> {
        let at = frames.offset();
        match frames.find_non_zero(deadline) {
            Ok(Some(found)) => {
                let message = format!(
                    "the log ends at byte {at}, but byte {found} is not zero; etcd zeroes it at start"
                );
                let (kind, state) = (FindingKind::WalTornTail, DataState::WalTorn);
                self.find(kind, state, path, Some(found), Some(record), message);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(source) => Err(crate::Error::path("read", path, source)),
        }
    }
}

#[cfg(test)]
pub(super) mod build;

#[cfg(test)]
mod tests;
