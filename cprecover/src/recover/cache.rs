//! What need not be read again in every round: verdicts on files that have not changed since.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::etcd::{CheckOptions, DataState, DataVerdict};
use crate::model::Observed;

/// How long the verification of a snapshot counts; bit rot changes no time stamp.
const SNAPSHOT_AGE: Duration = Duration::from_mins(10);
/// Files of a member that are stamped; etcd keeps about a dozen.
const MAX_FILES: usize = 256;

/// Identity and version of a file, as far as `stat` tells them.
pub(super) type Stamp = (PathBuf, [u64; 3], [i64; 2]);

/// Verdicts of earlier rounds, with what they hold for.
#[derive(Debug, Default)]
pub(super) struct Cache {
    etcd: Option<KnownData>,
    snapshots: BTreeMap<String, (Instant, Observed<bool>)>,
}

#[derive(Debug)]
struct KnownData {
    options: CheckOptions,
    stamps: Vec<Stamp>,
    verdict: DataVerdict,
}

impl Cache {
    /// Returns the verdict on data at rest whose files are as they were.
    pub(super) fn etcd_data(
        &self,
        options: &CheckOptions,
        stamps: Option<&[Stamp]>,
        folder: &Path,
    ) -> Option<DataVerdict> {
        let known = self.etcd.as_ref()?;
        let same = known.options == *options
            && Some(known.stamps.as_slice()) == stamps
            && known.verdict.report.data_dir == folder;
        // A lock leaves no trace in a stamp.
        let database = folder.join(crate::ports::DATABASE);
        (same && matches!(crate::ports::lock_is_free(&database), Ok(true))).then(|| known.verdict.clone())
    }

    /// Keeps a verdict that only the files can change: nobody used them, and all was read.
    pub(super) fn keep_etcd_data(
        &mut self,
        options: CheckOptions,
        stamps: Option<Vec<Stamp>>,
        verdict: &DataVerdict,
    ) {
        let lasting = matches!(
            verdict.state,
            DataState::Intact
                | DataState::WalTorn
                | DataState::DbMetaDegraded
                | DataState::Foreign
                | DataState::Mismatch
                | DataState::WalBroken
                | DataState::DbBroken
        );
        self.etcd =
            stamps.filter(|_| lasting).map(|stamps| KnownData { options, stamps, verdict: verdict.clone() });
    }

    /// Returns whether a snapshot's digests were right not long ago; else finds it out by `verify`.
    pub(super) fn snapshot(
        &mut self,
        id: &str,
        now: Instant,
        verify: impl FnOnce() -> Observed<bool>,
    ) -> Observed<bool> {
        if let Some((at, known)) = self.snapshots.get(id)
            && now.saturating_duration_since(*at) < SNAPSHOT_AGE
        {
            return known.clone();
        }
        let state = verify();
        // What could not be read is tried again.
        if state.present().is_some() {
            self.snapshots.insert(id.to_owned(), (now, state.clone()));
        }
        state
    }
}

/// Stamps everything that the verdict on a member depends on; `None` when that cannot be listed.
pub(super) fn member_stamps(data_dir: &Path, wal_dir: Option<&Path>) -> Option<Vec<Stamp>> {
    let member = data_dir.join("member");
    let wal = wal_dir.map_or_else(|| member.join("wal"), Path::to_owned);
    let mut stamps = vec![stamp(data_dir)?];
    for folder in [member.join("snap"), wal] {
        stamps.push(stamp(&folder)?);
        for entry in std::fs::read_dir(&folder).ok()? {
            if stamps.len() > MAX_FILES {
                return None;
            }
            stamps.push(stamp(&entry.ok()?.path())?);
        }
    }
    stamps.sort();
    Some(stamps)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    // A file that was put in another's place may keep the time of its last write, but not this one.
    Some((path.to_owned(), [meta.dev(), meta.ino(), meta.len()], [meta.ctime(), meta.ctime_nsec()]))
}
