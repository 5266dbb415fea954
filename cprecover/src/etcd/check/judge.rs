//! Whether WAL, snapshot files and database fit together, and whose they are.
//!
//! Follows etcd `server/etcdserver/bootstrap.go`, `recoverSnapshot`: it takes the newest sound snapshot
//! file that the WAL records as committed, demands a database at least as new (or a `.snap.db`), and replays
//! the WAL from there.

use std::path::Path;

use super::Check;
use super::files::Files;
use crate::etcd::ids::{ClusterId, MemberId};
use crate::etcd::verdict::{DataState, DbReport, FindingKind, MemberRecord};
use crate::etcd::wal::{SnapshotMark, WalScan};
use crate::model::Observed;

/// Reports whether an etcd wrote the database that loads no `.snap` file any more: 3.7 and newer (etcd pull
/// request 21107).
fn is_without_snapshot_files(db: &DbReport) -> bool {
    let version = db.storage_version.as_ref().or(db.cluster_version.as_ref());
    let mut parts = version.map(String::as_str).unwrap_or_default().split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (3, 7),
        _ => false,
    }
}

impl Check<'_> {
    /// Adds what follows from the parts together. A part that is broken by itself proves nothing about
    /// the others, so that the log's end is only compared when the log was read to its end.
    pub(super) fn judge(&mut self, files: &Files, wal: Option<&WalScan>) {
        let db = match &self.report.db {
            Observed::Present(db) if db.page_bytes > 0 => Some(db.clone()),
            _ => None,
        };
        let Some(wal) = wal else {
            if matches!(self.report.wal, Observed::Absent) {
                let message = "there is a database or a snapshot, but no WAL".to_owned();
                self.remark(&files.wal_dir, FindingKind::WalMissing, DataState::Mismatch, message);
            }
            self.judge_owner(files, db.as_ref());
            return;
        };
        let start = self.start_of(wal);
        let before = self.findings.len();
        if self.is_log_whole() {
            self.judge_log(files, wal, start);
            if let Some(db) = &db {
                self.judge_db(files, db, wal, start);
            }
        }
        if !files.has_db && start > 0 {
            let message = format!("there is no database, and the WAL starts after entry {start}");
            self.remark(&files.db, FindingKind::DbMissing, DataState::Mismatch, message);
        }
        if db.as_ref().is_some_and(is_without_snapshot_files) {
            self.doubt_the_start(before);
        }
        self.judge_owner(files, db.as_ref());
    }

    /// Takes back what was concluded from where the snapshot files let the log begin.
    fn doubt_the_start(&mut self, from: usize) {
        for finding in self.findings.iter_mut().skip(from) {
            if let FindingKind::SnapMissing | FindingKind::WalGap | FindingKind::DbOlderThanSnapshot =
                finding.kind
            {
                finding.state = DataState::Unfinished;
                finding.message += "; this etcd starts from its database, which is not judged here";
            }
        }
    }

    /// Returns the index from which etcd replays, and notes which snapshot files the WAL knows.
    fn start_of(&mut self, wal: &WalScan) -> u64 {
        let commit = wal.report.commit;
        let mut start = None;
        for file in &mut self.report.snapshots {
            let mark = SnapshotMark { term: file.term, index: file.index };
            file.in_wal = file.index <= commit && wal.marks.contains(&mark);
            if file.sound && file.in_wal && start.is_none() {
                start = Some(file.index);
            }
        }
        start.unwrap_or(0)
    }

    /// Reports whether the log was read to its end, a torn record apart.
    fn is_log_whole(&self) -> bool {
        !self.findings.iter().any(|finding| {
            matches!(
                finding.kind,
                FindingKind::WalCrcMismatch
                    | FindingKind::WalMalformed
                    | FindingKind::WalMetadataConflict
                    | FindingKind::WalFileMissing
            ) || finding.state == DataState::Unfinished
        })
    }

    fn judge_log(&mut self, files: &Files, wal: &WalScan, start: u64) {
        let first = wal.report.files.first().map_or(0, |file| file.first_index);
        if first > start {
            let message = format!(
                "the WAL starts at entry {first}, and no snapshot file that it records reaches so far (newest: {start})"
            );
            self.remark(&files.snap_dir, FindingKind::SnapMissing, DataState::Mismatch, message);
        } else if wal.needs_start > start {
            let message = format!(
                "entries between {start} and {} are neither in the WAL nor in a snapshot file",
                wal.needs_start
            );
            self.remark(&files.wal_dir, FindingKind::WalGap, DataState::WalBroken, message);
        }
        let end = wal.report.last_index.max(start);
        if wal.report.commit > end {
            let message =
                format!("entry {} is committed, but the WAL ends with entry {end}", wal.report.commit);
            self.remark(&files.wal_dir, FindingKind::WalCommitBeyondEnd, DataState::WalBroken, message);
        }
    }

    fn judge_db(&mut self, files: &Files, db: &DbReport, wal: &WalScan, start: u64) {
        let applied = db.consistent_index.unwrap_or(0);
        if applied < start && !files.snap_dbs.contains(&start) {
            let message = format!("database has applied entry {applied}, the snapshot {start}");
            self.remark(&files.db, FindingKind::DbOlderThanSnapshot, DataState::Mismatch, message);
        }
        let end = wal.report.last_index.max(start);
        if applied > end {
            let message = format!("database has applied entry {applied}, but the WAL ends with entry {end}");
            self.remark(&files.db, FindingKind::DbNewerThanWal, DataState::Mismatch, message);
        }
    }

    fn judge_owner(&mut self, files: &Files, db: Option<&DbReport>) {
        let expected = &self.options.expected;
        let ids = [
            ("member", expected.member_id.map(MemberId::get), self.report.member_id.map(MemberId::get)),
            ("cluster", expected.cluster_id.map(ClusterId::get), self.report.cluster_id.map(ClusterId::get)),
        ];
        for (what, wanted, found) in ids {
            if let (Some(wanted), Some(found)) = (wanted, found)
                && wanted != found
            {
                let message = format!("WAL belongs to {what} {found:x}, expected is {wanted:x}");
                self.remark(&files.wal_dir, FindingKind::ForeignId, DataState::Foreign, message);
            }
        }
        let (Some(db), Some(own)) = (db, self.report.member_id) else { return };
        if db.removed.contains(&own) {
            let message = format!("the cluster has removed member {own}");
            self.remark(&files.db, FindingKind::MemberRemoved, DataState::Foreign, message);
        } else if let Some(record) = db.members.iter().find(|member| member.id == own) {
            let record = record.clone();
            self.judge_name(&files.db, &record);
        }
        for (member, kind) in &db.alarms {
            let message = format!("alarm {kind} is set for member {member}");
            self.remark(&files.db, FindingKind::Alarm, DataState::Intact, message);
        }
    }

    /// A member that has neither the expected name nor any expected peer URL is another one. One of the
    /// two alone changes when a node is renamed or gets another address, and a name may never have been written
    /// (see [`ClusterView::from_database`](crate::etcd::ClusterView::from_database)).
    fn judge_name(&mut self, db: &Path, record: &MemberRecord) {
        let expected = &self.options.expected;
        let name = expected.name.as_ref().filter(|_| !record.name.is_empty());
        let name = name.map(|name| *name == record.name);
        let urls = Some(&expected.peer_urls).filter(|urls| !urls.is_empty() && !record.peer_urls.is_empty());
        let urls = urls.map(|urls| urls.iter().any(|url| record.peer_urls.contains(url)));
        let known: Vec<bool> = [name, urls].into_iter().flatten().collect();
        if known.iter().all(|same| *same) {
            return;
        }
        let foreign = matches!(known.as_slice(), [false, false]);
        let state = if foreign { DataState::Foreign } else { DataState::Intact };
        let message = format!(
            "the data are of member {:?} at {}, the manifest's is {:?} at {}",
            record.name,
            record.peer_urls.join(","),
            expected.name.as_deref().unwrap_or_default(),
            expected.peer_urls.join(",")
        );
        self.remark(db, FindingKind::ForeignMember, state, message);
    }
}
