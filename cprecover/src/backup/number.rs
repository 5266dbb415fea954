//! The running numbers of snapshots, and their times where numbers do not tell.

use super::fs::FileSystem;
use super::snapshot::SnapshotId;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};

/// How far above all others a number may be: more snapshots than one a second makes in 115 days.
const MAX_LEAP: u32 = 10_000_000;

impl SnapshotId {
    /// Returns the time, which sorts as text.
    pub(super) fn time(&self) -> &str {
        self.as_str().split_once('-').map_or("", |(_, time)| time)
    }
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
