//! The running numbers of snapshots, and their times where numbers do not tell.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::fs::FileSystem;
use super::snapshot::{Snapshot, SnapshotId};
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};

/// How far above all others a number may be: more snapshots than one a second makes in 115 days.
const MAX_LEAP: u32 = 10_000_000;
/// How far ahead of this machine's clock a snapshot's time may be.
pub(super) const CLOCK_SLACK_S: u64 = 86_400;

impl SnapshotId {
    /// Returns the time, which sorts as text.
    pub(super) fn time(&self) -> &str {
        self.as_str().split_once('-').map_or("", |(_, time)| time)
    }
}

/// Sorts snapshots by age, the newest first; `now_s` is this machine's time.
///
/// Their times tell it and not their numbers, which begin again where a node lost its store: one of its earlier life
/// that is taken in later has a higher number. Between equal times the number tells. None is older than the one that
/// it was made after, so that a clock that was set back makes none old; a time that lies ahead is that of a wrong
/// clock and comes last.
pub(super) fn newest_first<'a>(
    snapshots: impl IntoIterator<Item = &'a Snapshot>,
    now_s: u64,
) -> Vec<&'a Snapshot> {
    let mut sorted: Vec<&Snapshot> = snapshots.into_iter().collect();
    sorted.sort_by_key(|snapshot| &snapshot.id);
    let latest = now_s.saturating_add(CLOCK_SLACK_S);
    let mut times = BTreeMap::new();
    for snapshot in &sorted {
        let after = snapshot.previous.as_ref().and_then(|previous| times.get(previous)).copied();
        let after = after.filter(|time| *time <= latest).unwrap_or_default();
        times.insert(&snapshot.id, snapshot.created_unix_s.max(after));
    }
    sorted.sort_by_cached_key(|snapshot| {
        let time = times.get(&snapshot.id).copied().unwrap_or_default();
        Reverse((time <= latest, time, snapshot.id.sequence()))
    });
    sorted
}

/// Leaves out those that are numbered far above all others, so that one with the last number there is does not
/// end the numbering; `ids` are oldest first.
pub(super) fn counted(mut ids: Vec<SnapshotId>) -> Vec<SnapshotId> {
    let mut newest = 0;
    ids.retain(|id| {
        let counts = id.sequence().saturating_sub(newest) <= MAX_LEAP;
        if counts {
            newest = id.sequence();
        }
        counts
    });
    ids
}

/// Returns the snapshot of a number, if there is one; two of it come about where a store was begun anew.
pub(super) fn of_number(
    ids: impl IntoIterator<Item = SnapshotId>,
    number: u32,
) -> Result<Option<SnapshotId>> {
    let mut found: Vec<SnapshotId> = ids.into_iter().filter(|id| id.sequence() == number).collect();
    found.dedup();
    if found.len() < 2 {
        return Ok(found.pop());
    }
    let named: Vec<&str> = found.iter().map(SnapshotId::as_str).collect();
    let text =
        format!("there are several snapshots with the number {number}; name one: {}", named.join(", "));
    Err(Error::new(ErrorKind::Missing, text))
}

impl<F: FileSystem> Vault<'_, F> {
    /// Reports whether any of `ids` was made after `id`, by times that this machine's clock has reached.
    pub(super) fn is_outdated(&self, id: &SnapshotId, ids: &[SnapshotId]) -> bool {
        let now = SnapshotId::new(0, self.now.as_secs());
        ids.iter().any(|other| other.time() > id.time() && other.time() <= now.time())
    }

    /// Refuses a snapshot from elsewhere whose number would use up those that the store has left.
    pub(super) fn check_number(&self, id: &SnapshotId) -> Result<()> {
        let newest = counted(self.ids()?).last().map_or(0, SnapshotId::sequence);
        if id.sequence().saturating_sub(newest) <= MAX_LEAP {
            return Ok(());
        }
        let text = format!("snapshot {id} is numbered far above {newest}, the newest in the store");
        Err(Error::new(ErrorKind::Limit, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u32]) -> Vec<SnapshotId> {
        numbers.iter().map(|number| SnapshotId::new(*number, u64::from(*number))).collect()
    }

    #[test]
    fn a_leap_does_not_count() {
        assert_eq!(counted(ids(&[1, 2, 9_000_000, u32::MAX])), ids(&[1, 2, 9_000_000]));
        assert_eq!(counted(ids(&[u32::MAX - 1, u32::MAX])), []);
    }

    fn made(number: u32, time_s: u64, after: Option<(u32, u64)>) -> Snapshot {
        let id = SnapshotId::new(number, time_s);
        let previous = after.map(|(number, time_s)| SnapshotId::new(number, time_s));
        let text = format!(
            r#"{{"schema":"x","id":"{id}","created":"","createdUnixS":{time_s},"healthVerified":false,
            "reason":"","groups":[],"entries":[],"previous":{}}}"#,
            serde_json::to_string(&previous).expect("an id")
        );
        serde_json::from_str(&text).expect("a snapshot")
    }

    fn numbers(snapshots: &[Snapshot], now_s: u64) -> Vec<u32> {
        newest_first(snapshots, now_s).iter().map(|snapshot| snapshot.id.sequence()).collect()
    }

    #[test]
    fn age_is_told_by_time_unless_the_clock_was_wrong() {
        const DAY: u64 = 86_400;
        let now = 1_000 * DAY;
        // 4 is of an earlier life of the store, 5 was made after it was taken in.
        let lives = [made(1, now - 60, None), made(4, now - 90, Some((3, now - 95)))];
        assert_eq!(numbers(&lives, now), [1, 4]);
        assert_eq!(numbers(&[made(1, now, None), made(2, now, None)], now), [2, 1]);
        // The clock was set back by an hour between 2 and 3.
        let back = [
            made(2, now, Some((1, now - 60))),
            made(3, now - 3_600, Some((2, now))),
            made(4, now - 3_000, Some((3, now - 3_600))),
        ];
        assert_eq!(numbers(&back, now - 2_000), [4, 3, 2]);
        // It was a year ahead once, when 2 was made.
        let ahead = now + 365 * DAY;
        let ahead =
            [made(1, now - 5, None), made(2, ahead, Some((1, now - 5))), made(3, now, Some((2, ahead)))];
        assert_eq!(numbers(&ahead, now), [3, 1, 2]);
        // One that names itself, or a later one, gains nothing by it.
        let odd = [made(1, now - 5, Some((2, now))), made(2, now, Some((2, now))), made(3, now - 1, None)];
        assert_eq!(numbers(&odd, now), [2, 3, 1]);
    }

    #[test]
    fn a_number_that_two_have_names_none() {
        let mut two = ids(&[1, 2]);
        two.push(SnapshotId::new(2, 86_400));
        assert_eq!(of_number(two.clone(), 1).expect("one"), Some(SnapshotId::new(1, 1)));
        assert_eq!(of_number(two.clone(), 3).expect("none"), None);
        let error = of_number(two.clone(), 2).expect_err("two").to_string();
        assert!(two.iter().skip(1).all(|id| error.contains(id.as_str())), "{error}");
    }
}
