//! What the offline check says, as plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ids::{ClusterId, MemberId};
use super::lock::DataLock;
use crate::model::Observed;

/// The one word for a data directory; the worst finding decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DataState {
    /// Everything that etcd reads at start was read and is sound.
    Intact,
    /// The last WAL record was cut off while it was written; etcd cuts it away at start by itself
    /// (etcd `server/storage/wal/repair.go`).
    WalTorn,
    /// One of bbolt's two meta pages is broken; bbolt falls back to the other, one transaction older.
    DbMetaDegraded,
    /// The data is sound, but the file system has no room for what etcd allocates at start.
    NoSpace,
    /// Time, byte or entry limit reached before everything was read; what was read is sound.
    Unfinished,
    /// Something could not be read for lack of permission or by an I/O error; the state is not known.
    Unreadable,
    /// A process holds the lock: the data is in use, and its integrity was not judged.
    Locked,
    /// The files changed while they were read, so that no judgement is possible; try again.
    Changed,
    /// The directory does not exist.
    Missing,
    /// The directory holds no member: etcd would bootstrap a new one.
    Empty,
    /// Sound or not, it belongs to another member or cluster than expected.
    Foreign,
    /// Database, snapshot files and WAL do not fit together; etcd refuses to start or would lose data.
    Mismatch,
    /// A WAL record is broken before the end of the log; etcd refuses to start.
    WalBroken,
    /// The bbolt database is broken.
    DbBroken,
}

impl DataState {
    /// Returns the stable, lower-case name used in JSON output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::WalTorn => "wal-torn",
            Self::DbMetaDegraded => "db-meta-degraded",
            Self::NoSpace => "no-space",
            Self::Unfinished => "unfinished",
            Self::Unreadable => "unreadable",
            Self::Locked => "locked",
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Empty => "empty",
            Self::Foreign => "foreign",
            Self::Mismatch => "mismatch",
            Self::WalBroken => "wal-broken",
            Self::DbBroken => "db-broken",
        }
    }

    /// Returns what etcd is expected to do when it is started on this directory.
    #[must_use]
    pub const fn startup(self) -> Startup {
        match self {
            Self::Intact => Startup::Starts,
            Self::WalTorn | Self::DbMetaDegraded => Startup::RepairsItself,
            Self::Locked => Startup::Waits,
            Self::Missing | Self::Empty => Startup::Bootstraps,
            Self::Mismatch | Self::WalBroken | Self::DbBroken => Startup::Fails,
            // etcd may start on a full disk and die of its next allocation.
            Self::NoSpace | Self::Foreign | Self::Unfinished | Self::Unreadable | Self::Changed => {
                Startup::Unknown
            }
        }
    }
}

impl std::fmt::Display for DataState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What etcd is expected to do with a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Startup {
    /// It starts.
    Starts,
    /// It starts after it has cut or replaced the damaged end.
    RepairsItself,
    /// It waits for the lock, for ever.
    Waits,
    /// It starts, but on data that lacks writes it has acknowledged.
    Diverges,
    /// It starts as a new member: right for a join, the end of the data for everyone else.
    Bootstraps,
    /// It exits or panics.
    Fails,
    /// Not known.
    Unknown,
}

/// What exactly was found; one per damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingKind {
    /// The WAL ends in an incomplete record.
    WalTornTail,
    /// A record's CRC does not fit the chain (`walpb: crc mismatch`).
    WalCrcMismatch,
    /// A record's frame or protobuf is malformed.
    WalMalformed,
    /// A WAL file of the sequence is not there (`wal: file not found`).
    WalFileMissing,
    /// There is a database or a snapshot, but no WAL file.
    WalMissing,
    /// The log jumps over entries.
    WalGap,
    /// The WAL says that more entries are committed than it holds (`tocommit(N) is out of range`).
    WalCommitBeyondEnd,
    /// Two WAL files name different members or clusters (`wal: conflicting metadata found`).
    WalMetadataConflict,
    /// Both meta pages are broken (`invalid database`).
    DbMetaBroken,
    /// One of the two meta pages is broken.
    DbMetaDegraded,
    /// The file is shorter than its pages.
    DbTruncated,
    /// A page is not what its parent says: id, type, bounds or key order.
    DbPageBroken,
    /// A page is reachable twice, or both reachable and free (`freepages: … multiple references`).
    DbPageShared,
    /// The list of free pages is malformed.
    DbFreelistBroken,
    /// A bucket that every etcd database has is not there.
    DbBucketMissing,
    /// There is a WAL that does not start at 0, but no database.
    DbMissing,
    /// A snapshot file is malformed or its CRC is wrong; etcd renames it to `.snap.broken`.
    SnapBroken,
    /// The WAL starts after entries that only a snapshot file could give, and there is none.
    SnapMissing,
    /// The database is older than the snapshot, and no `.snap.db` brings it forward.
    DbOlderThanSnapshot,
    /// The database has applied entries that the WAL does not hold.
    DbNewerThanWal,
    /// Member or cluster id is not the expected one.
    ForeignId,
    /// The database does not know this member under the expected name or peer URLs.
    ForeignMember,
    /// The cluster has removed this member.
    MemberRemoved,
    /// The database holds an alarm.
    Alarm,
    /// Not enough room on the file system.
    NoSpace,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The directory or a file is open to others than its owner, or not a regular file.
    Permissions,
    /// A file left by an earlier repair (`.broken`) or an interrupted write.
    Leftover,
    /// A process holds the lock.
    Locked,
    /// Something changed while it was read.
    Changed,
    /// Something could not be read.
    Unreadable,
    /// A limit was reached.
    Limit,
}

/// One thing that was found, with the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// The state that it alone would give; [`DataState::Intact`] for a mere remark.
    pub state: DataState,
    /// The file.
    pub file: PathBuf,
    /// Byte offset in the file, where there is one.
    pub offset: Option<u64>,
    /// Index of the record in its WAL file or of the page in the database, from 0.
    pub record: Option<u64>,
    /// One line for a person.
    pub message: String,
}

/// The answer of the offline check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DataVerdict {
    /// The worst of the findings' states.
    pub state: DataState,
    /// What etcd is expected to do with this directory.
    pub startup: Startup,
    /// Everything that was found, worst first; at most 32.
    pub findings: Vec<Finding>,
    /// What the files say.
    pub report: DataReport,
}

/// What the files of a data directory say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DataReport {
    /// The directory that was read.
    pub data_dir: PathBuf,
    /// Permission bits of the directory; etcd wants 0700.
    pub mode: Option<u32>,
    /// Who holds the lock on the database.
    pub lock: DataLock,
    /// This member's id, from the WAL.
    pub member_id: Option<MemberId>,
    /// The cluster's id, from the WAL.
    pub cluster_id: Option<ClusterId>,
    /// The WAL.
    pub wal: Observed<WalReport>,
    /// Snapshot files, newest first.
    pub snapshots: Vec<SnapFile>,
    /// The database.
    pub db: Observed<DbReport>,
    /// Room on the file system.
    pub space: Option<Space>,
}

/// What the WAL says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WalReport {
    /// The files in order.
    pub files: Vec<WalFile>,
    /// The raft term of the last hard state.
    pub term: u64,
    /// For whom this member voted in that term; `None` when it did not.
    pub vote: Option<MemberId>,
    /// The last index known to be committed.
    pub commit: u64,
    /// The first entry's index; 0 when there is no entry.
    pub first_index: u64,
    /// The last entry's index; 0 when there is no entry.
    pub last_index: u64,
    /// The last entry's term.
    pub last_term: u64,
    /// Index of the newest snapshot that the WAL records.
    pub snapshot_index: u64,
    /// How many whole, sound records were read.
    pub records: u64,
}

/// One WAL file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WalFile {
    /// Its name, `<sequence>-<index>.wal` in hex.
    pub name: String,
    /// Its place in the sequence.
    pub sequence: u64,
    /// The index of the first entry it may hold.
    pub first_index: u64,
    /// Its size; etcd allocates 64 MB ahead.
    pub size_bytes: u64,
    /// How many bytes of it hold sound records.
    pub used_bytes: u64,
    /// How many sound records it holds.
    pub records: u64,
}

/// One `.snap` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SnapFile {
    /// Its name, `<term>-<index>.snap` in hex.
    pub name: String,
    /// The raft term it was taken in.
    pub term: u64,
    /// The last entry it holds.
    pub index: u64,
    /// Its size.
    pub size_bytes: u64,
    /// Whether its CRC is right and its content agrees with its name.
    pub sound: bool,
    /// Whether the WAL records it; etcd ignores one that the WAL does not know.
    pub in_wal: bool,
}

/// What the bbolt database says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DbReport {
    /// Size of the file.
    pub size_bytes: u64,
    /// Page size.
    pub page_bytes: u32,
    /// Pages in use by the tree.
    pub used_pages: u64,
    /// Pages below the high-water mark that hold nothing; what a defragmentation gives back.
    pub free_pages: u64,
    /// The last committed bbolt transaction.
    pub transaction: u64,
    /// Whether the list of free pages is stored; etcd does not store it and rebuilds it at start.
    pub freelist_stored: bool,
    /// The last raft entry that was applied; `None` when it was never saved.
    pub consistent_index: Option<u64>,
    /// The raft term of that entry (etcd 3.5 and newer).
    pub term: Option<u64>,
    /// The newest revision of the key space, its main part.
    pub revision: Option<u64>,
    /// Key revisions in the bucket `key`, tombstones included.
    pub key_revisions: u64,
    /// The cluster's version, as `3.4.0`.
    pub cluster_version: Option<String>,
    /// The storage version (etcd 3.6 and newer), as `3.6.0`.
    pub storage_version: Option<String>,
    /// The members that the database knows; at most 64.
    pub members: Vec<MemberRecord>,
    /// Members that were removed; at most 64.
    pub removed: Vec<MemberId>,
    /// Alarms that are set.
    pub alarms: Vec<(MemberId, AlarmKind)>,
}

/// A member as the database records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MemberRecord {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it is a learner, which does not vote.
    pub learner: bool,
}

/// An alarm (etcd `api/etcdserverpb/rpc.proto`, `AlarmType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AlarmKind {
    /// The database is larger than its quota; only reads and deletes work.
    NoSpace,
    /// The members' data differ.
    Corrupt,
    /// One that this version does not know.
    Other,
}

impl AlarmKind {
    /// `NOSPACE` = 1, `CORRUPT` = 2.
    pub(super) const fn of_number(number: u64) -> Self {
        match number {
            1 => Self::NoSpace,
            2 => Self::Corrupt,
            _ => Self::Other,
        }
    }
}

impl std::fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
            Self::Other => "of unknown kind",
        })
    }
}

/// How many findings a verdict keeps.
const MAX_FINDINGS: usize = 32;

/// Makes the verdict: the worst finding decides.
pub(super) fn conclude(mut findings: Vec<Finding>, report: DataReport) -> DataVerdict {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    findings.truncate(MAX_FINDINGS);
    let state = findings.first().map_or(DataState::Intact, |finding| finding.state);
    let startup = match findings.first().map(|finding| finding.kind) {
        // etcd notices neither that the log lost its end nor that there is none.
        Some(FindingKind::DbNewerThanWal | FindingKind::WalMissing) if state == DataState::Mismatch => {
            Startup::Diverges
        }
        _ => state.startup(),
    };
    DataVerdict { state, startup, findings, report }
}

/// Room on the file system of the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Space {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What is left for unprivileged processes.
    pub available_bytes: u64,
    /// What is left for root, as which etcd runs in kubeadm's pods.
    pub free_bytes: u64,
    /// Inodes left; `None` on file systems that make them as needed.
    pub free_inodes: Option<u64>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

impl DataVerdict {
    /// Reports whether everything was read and nothing is wrong with the data itself.
    ///
    /// A full disk ([`DataState::NoSpace`]) does not damage the data.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        matches!(self.state, DataState::Intact | DataState::NoSpace)
    }

    /// Reports whether a restore or a new membership is needed, because etcd cannot start with this data.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        matches!(self.state, DataState::WalBroken | DataState::DbBroken | DataState::Mismatch)
    }

    /// Returns the finding that decided the state.
    #[must_use]
    pub fn cause(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.state == self.state)
    }
}
