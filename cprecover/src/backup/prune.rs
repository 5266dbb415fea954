//! Which snapshots are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::fs::{FileSystem, Rename};
use super::number::newest_first;
use super::snapshot::{Snapshot, SnapshotId};
use super::vault::{GONE, MAX_STORED_DEPTH, PRUNED, SNAPSHOTS, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Digest};
use crate::sys::Deadline;

/// How many snapshots are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// The newest so many; at least one is always kept.
    pub keep_last: usize,
    /// The last one of each of so many days (UTC) that have one.
    pub keep_daily: usize,
}

impl Retention {
    /// Keeps the newest `keep_last`, and the last of each of `keep_daily` days.
    #[must_use]
    pub const fn new(keep_last: usize, keep_daily: usize) -> Self {
        Self { keep_last, keep_daily }
    }
}

/// Tells whether a restore from a snapshot would give the right files.
type IsIntact<'a> = &'a mut dyn FnMut(&SnapshotId) -> bool;

/// What pruning did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PruneReport {
    /// Removed snapshots.
    pub removed: Vec<SnapshotId>,
    /// Kept ones, with the reason.
    pub kept: Vec<Kept>,
}

/// A snapshot that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Kept {
    /// The snapshot.
    pub id: SnapshotId,
    /// Why it stays, for people.
    pub reason: String,
}

/// Decides which snapshots stay; an unreadable one has no index, `now_s` is this machine's time.
///
/// An unreadable snapshot always stays: what it holds may be all that is left. Each node's snapshots are
/// counted alone, since another node's replace none of them; those that name none are of the node `own`.
fn keep(
    snapshots: &[(SnapshotId, Option<Snapshot>)],
    own: Option<&str>,
    pinned: &BTreeMap<SnapshotId, String>,
    retention: &Retention,
    now_s: u64,
    is_intact: IsIntact<'_>,
) -> BTreeMap<SnapshotId, String> {
    let mut kept = BTreeMap::new();
    let mut by_node: BTreeMap<Option<String>, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in newest_first(snapshots.iter().filter_map(|(_, snapshot)| snapshot.as_ref()), now_s) {
        let node = snapshot.node.as_deref().or(own).map(str::to_ascii_lowercase);
        by_node.entry(node).or_default().push(snapshot);
    }
    for (id, _) in snapshots.iter().filter(|(_, snapshot)| snapshot.is_none()) {
        kept.insert(id.clone(), "its index cannot be read".to_owned());
    }
    for newest_first in by_node.values() {
        keep_of_node(newest_first, retention, &mut kept);
        keep_intact(newest_first, is_intact, &mut kept);
    }
    for (id, why) in pinned.iter().filter(|(id, _)| snapshots.iter().any(|(known, _)| known == *id)) {
        kept.entry(id.clone()).or_insert_with(|| why.clone());
    }
    kept
}

/// Returns what a restore may fall back on, by its role, the newest of each first.
fn roles<'s>(newest_first: &[&'s Snapshot]) -> Vec<(String, Vec<&'s Snapshot>)> {
    let whole: Vec<&Snapshot> =
        newest_first.iter().copied().filter(|snapshot| !snapshot.is_before_change()).collect();
    let of = |has: &dyn Fn(&Snapshot) -> bool| whole.iter().copied().filter(|one| has(one)).collect();
    let mut roles = vec![
        ("one of the newest".to_owned(), newest_first.to_vec()),
        ("last known good".to_owned(), of(&|snapshot| snapshot.health_verified)),
        ("the newest that was not made before a change".to_owned(), whole.clone()),
    ];
    for component in Component::ALL {
        let with = of(&|snapshot| snapshot.manifest(component).is_some());
        roles.push((format!("the last with a manifest of {component}"), with));
    }
    roles
}

/// Decides which snapshots of one node stay.
fn keep_of_node(newest_first: &[&Snapshot], retention: &Retention, kept: &mut BTreeMap<SnapshotId, String>) {
    let mut keep = |snapshot: &Snapshot, why: &str| {
        kept.entry(snapshot.id.clone()).or_insert_with(|| why.to_owned());
    };
    for snapshot in newest_first.iter().take(retention.keep_last.max(1)) {
        keep(snapshot, "one of the newest");
    }
    for (why, candidates) in roles(newest_first) {
        candidates.first().iter().for_each(|first| keep(first, &why));
    }
    let day = |snapshot: &Snapshot| snapshot.created_unix_s / 86_400;
    let mut days = BTreeSet::new();
    for snapshot in newest_first {
        if days.len() < retention.keep_daily && days.insert(day(snapshot)) {
            let of_day = newest_first.iter().filter(|other| day(other) == day(snapshot));
            let last = of_day.into_iter().find(|other| !other.is_before_change());
            keep(last.unwrap_or(snapshot), "last of its day");
        }
    }
}

/// Keeps what stands in for a damaged snapshot: where the first of a role is damaged, the next that is intact.
fn keep_intact(newest_first: &[&Snapshot], is_intact: IsIntact<'_>, kept: &mut BTreeMap<SnapshotId, String>) {
    for (why, candidates) in roles(newest_first) {
        let Some(first) = candidates.first() else { continue };
        let intact = candidates.iter().find(|snapshot| is_intact(&snapshot.id));
        if let Some(intact) = intact.filter(|intact| intact.id != first.id) {
            let why = format!("{why} that is intact; {} is damaged", first.id);
            kept.entry(intact.id.clone()).or_insert(why);
        }
    }
}

impl<F: FileSystem> Vault<'_, F> {
    /// Removes what the retention does not keep; the store must be locked.
    pub(super) fn prune(&self, retention: &Retention, dry_run: bool) -> Result<PruneReport> {
        if !self.check_format()? {
            return Ok(PruneReport::default());
        }
        let mut digests = BTreeMap::new();
        let mut snapshots = Vec::new();
        for id in self.ids()? {
            let indexed = self.load(&id).ok();
            if let Some(indexed) = &indexed {
                digests.insert(id.clone(), indexed.sha256);
            }
            snapshots.push((id, indexed.map(|indexed| indexed.snapshot)));
        }
        let pinned = self.pinned()?;
        let own = self.node_name.as_deref();
        let keep = |is_intact: IsIntact<'_>| {
            let kept = keep(&snapshots, own, &pinned, retention, self.now.as_secs(), is_intact);
            let ids = snapshots.iter().map(|(id, _)| id);
            let removed: Vec<SnapshotId> = ids.filter(|id| !kept.contains_key(id)).cloned().collect();
            (kept, removed)
        };
        let (mut kept, mut removed) = keep(&mut |_| true);
        if !removed.is_empty() {
            // All of a snapshot's files are read for it: not where nothing would be removed, and each once.
            let mut looked = BTreeMap::new();
            (kept, removed) =
                keep(&mut |id| *looked.entry(id.clone()).or_insert_with(|| self.is_restorable(id)));
        }
        if !dry_run && !removed.is_empty() {
            self.remove_remembered(&removed, || self.remember_pruned(&snapshots, &kept, &digests))?;
        }
        let kept = kept.into_iter().map(|(id, reason)| Kept { id, reason }).collect();
        Ok(PruneReport { removed, kept })
    }

    /// Reports whether a restore from a snapshot would give the right files, as far as it can be looked through.
    pub(super) fn is_restorable(&self, id: &SnapshotId) -> bool {
        match self.verify(id, &Deadline::after(Duration::MAX)) {
            Ok(report) => report.is_usable(),
            Err(error) => {
                tracing::warn!(%error, "snapshot {id} cannot be verified");
                false
            }
        }
    }

    /// Returns snapshots that something else needs.
    fn pinned(&self) -> Result<BTreeMap<SnapshotId, String>> {
        let held = self.held_records()?.into_iter();
        let mut pinned: BTreeMap<SnapshotId, String> =
            held.map(|record| (record.snapshot, format!("{} is held", record.file))).collect();
        for (_, record) in self.records()? {
            pinned.extend(record.before.map(|id| (id, format!("a {} is half done", record.what))));
        }
        Ok(pinned)
    }

    /// Keeps the digests of removed indexes that another snapshot names, so that its chain can be told
    /// from one that somebody broke.
    fn remember_pruned(
        &self,
        snapshots: &[(SnapshotId, Option<Snapshot>)],
        kept: &BTreeMap<SnapshotId, String>,
        digests: &BTreeMap<SnapshotId, Digest>,
    ) -> Result<()> {
        let mut pruned = self.pruned()?;
        pruned
            .extend(digests.iter().filter(|(id, _)| !kept.contains_key(id)).map(|(id, d)| (id.clone(), *d)));
        // Named by any, not only by those that stay: a crash may remove some and leave others.
        let named: BTreeSet<&SnapshotId> =
            snapshots.iter().filter_map(|(_, snapshot)| snapshot.as_ref()?.previous.as_ref()).collect();
        // One whose index cannot be read now may name any.
        if snapshots.iter().all(|(_, snapshot)| snapshot.is_some()) {
            pruned.retain(|id, _| named.contains(id));
        }
        self.write_pruned(&pruned)
    }

    /// Keeps the digest of the index that a snapshot from elsewhere names and this store does not have:
    /// here its chain begins.
    pub(super) fn remember_absent(&self, taken_in: &Snapshot) -> Result<()> {
        let (Some(previous), Some(digest)) = (&taken_in.previous, taken_in.previous_sha256) else {
            return Ok(());
        };
        if self.ids()?.contains(previous) {
            return Ok(());
        }
        let mut pruned = self.pruned()?;
        pruned.insert(previous.clone(), digest);
        self.write_pruned(&pruned)
    }

    fn write_pruned(&self, pruned: &BTreeMap<SnapshotId, Digest>) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(pruned).map_err(|source| {
            Error::with_source(ErrorKind::Internal, "pruned ids do not serialise", source)
        })?;
        self.store.replace(PRUNED, &bytes)
    }

    /// Notes what is removed, then removes it; on a full disk the room for the note is made by removing first.
    fn remove_remembered(&self, removed: &[SnapshotId], remember: impl Fn() -> Result<()>) -> Result<()> {
        let mut rest = removed;
        loop {
            match (remember(), rest.split_first()) {
                // A crash right after this costs the next snapshot the proof of its chain, and nothing else.
                (Err(error), Some((first, others))) if error.kind() == ErrorKind::NoSpace => {
                    tracing::warn!(%error, "snapshot {first} is removed first");
                    self.remove_snapshots(std::slice::from_ref(first))?;
                    rest = others;
                }
                (remembered, _) => return remembered.and_then(|()| self.remove_snapshots(rest)),
            }
        }
    }

    /// Renames first, durably, so that no crash leaves half a snapshot under its name.
    fn remove_snapshots(&self, removed: &[SnapshotId]) -> Result<()> {
        let snapshots = self.own(SNAPSHOTS)?;
        for id in removed {
            snapshots.rename(id.as_str(), &snapshots, format!("{GONE}{id}"), Rename::NoReplace)?;
        }
        snapshots.sync()?;
        removed
            .iter()
            .try_for_each(|id| snapshots.remove_tree(format!("{GONE}{id}").as_ref(), MAX_STORED_DEPTH + 1))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::super::crash_test::{minute, scenarios, vault};
    use super::*;

    #[test]
    fn a_full_disk_is_freed() {
        let scenario = scenarios().into_iter().find(|scenario| scenario.name == "a prune").expect("known");
        let vault = vault(&scenario.fs, 1000, 64).expect("a store");
        scenario.fs.fill();
        let report = vault.prune(&Retention::new(1, 0), false).expect("what is removed makes room");
        assert_eq!(report.removed.len(), 2);
        let left = vault.ids().expect("list");
        assert_eq!(left.len(), 1);
        // What is left can still be told from one whose chain somebody broke.
        assert!(vault.verify(&left[0], &minute()).expect("verify").is_intact());
    }

    fn snapshot(sequence: u32, day: u64, good: bool) -> (SnapshotId, Option<Snapshot>) {
        let id = SnapshotId::new(sequence, day * 86_400);
        let text = format!(
            r#"{{"schema":"x","id":"{id}","created":"","createdUnixS":{},"healthVerified":{good},
            "reason":"","groups":[],"entries":[]}}"#,
            day * 86_400
        );
        (id, serde_json::from_str(&text).expect("a snapshot"))
    }

    #[test]
    fn the_newest_the_daily_the_good_and_the_unreadable_stay() {
        let mut all: Vec<_> = (1..=10).map(|n| snapshot(n, 100 + u64::from(n) / 3, n == 2)).collect();
        all[3].1 = None;
        let pinned = BTreeMap::from([(all[0].0.clone(), "held".to_owned())]);
        let kept = keep(&all, None, &pinned, &Retention::new(2, 2), 200 * 86_400, &mut |_| true);
        let numbers: Vec<u32> = kept.keys().map(SnapshotId::sequence).collect();
        // 10 and 9 are the newest; 10 and 8 the last of their days; 2 good; 4 unreadable; 1 pinned.
        assert_eq!(numbers, [1, 2, 4, 8, 9, 10]);
        let least =
            keep(&all[4..], None, &BTreeMap::new(), &Retention::new(0, 0), 200 * 86_400, &mut |_| true);
        assert_eq!(least.keys().map(SnapshotId::sequence).collect::<Vec<_>>(), [10]);
        // 10 and 9 have rotted, and so has the good one, which nothing can stand in for.
        let mut looked = Vec::new();
        let kept = keep(&all[..], None, &BTreeMap::new(), &Retention::new(1, 0), 200 * 86_400, &mut |id| {
            looked.push(id.sequence());
            !matches!(id.sequence(), 2 | 9 | 10)
        });
        assert_eq!(kept.keys().map(SnapshotId::sequence).collect::<Vec<_>>(), [2, 4, 8, 10]);
        assert!(kept[&all[7].0].contains("is intact"), "{kept:?}");
        looked.sort_unstable();
        looked.dedup();
        assert_eq!(looked, [2, 8, 9, 10], "no more are looked through than must be");
    }
}
