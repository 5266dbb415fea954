//! Making a snapshot: staged under a dot-name, synced, renamed.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::dedup::Earlier;
use super::describe::manifest_of;
use super::fs::place::Place;
use super::fs::{FileSystem, Rename};
use super::gather::Gathered;
use super::group::{Group, Source};
use super::number::counted;
use super::snapshot::{CreateOptions, Entry, Skipped, Snapshot, SnapshotId, rfc3339};
use super::vault::{
    GONE, INDEX, Indexed, MAX_STORED_DEPTH, NEW, SNAPSHOT_SCHEMA, SNAPSHOTS, SUMS, Vault, sums_of,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Digest};
use crate::sys::Deadline;

/// How often a set of files that changes while it is read is read again.
const ATTEMPTS: usize = 4;

#[allow(clippy::unused_self, reason = "the steps of one protocol are methods alike")]
impl<'f, F: FileSystem> Vault<'f, F> {
    /// Makes a snapshot; the store must be locked. `other` are the files of [`Group::Other`].
    pub(super) fn create(
        &self,
        options: &CreateOptions,
        other: &[PathBuf],
        deadline: &Deadline,
    ) -> Result<Snapshot> {
        self.ensure_format()?;
        let sources = self.sources(options, other);
        for attempt in 1.. {
            match self.try_create(options, &sources, deadline) {
                Err(error) if error.kind() == ErrorKind::Changed && attempt < ATTEMPTS => {
                    tracing::info!(%error, "read again");
                }
                Err(error) => return Err(error.context("make a snapshot")),
                Ok(snapshot) => return Ok(snapshot),
            }
        }
        Err(Error::new(ErrorKind::Internal, "no attempt was made"))
    }

    /// Takes a snapshot of `groups` before a change, unless the newest one shows the same.
    pub(super) fn create_before(
        &self,
        groups: Vec<Group>,
        other: &[PathBuf],
        reason: &str,
        deadline: &Deadline,
    ) -> Result<Snapshot> {
        let options = CreateOptions {
            groups,
            reason: reason.to_owned(),
            only_if_changed: true,
            ..CreateOptions::default()
        };
        self.create(&options, other, deadline)
    }

    fn sources(&self, options: &CreateOptions, other: &[PathBuf]) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for group in sorted(&options.groups) {
            let extra = if group == Group::Other { other } else { &options.kubeadm_paths };
            for source in self.layout.sources(group, extra) {
                if !sources.iter().any(|known| known.path == source.path && known.shape == source.shape) {
                    sources.push(source);
                }
            }
        }
        sources
    }

    fn try_create(
        &self,
        options: &CreateOptions,
        sources: &[Source],
        deadline: &Deadline,
    ) -> Result<Snapshot> {
        let snapshots = self.own(SNAPSHOTS)?;
        let ids = counted(self.ids()?);
        let newest = ids.iter().rev().find_map(|id| self.load(id).ok());
        let last_id = ids.last().cloned();
        let sequence = last_id.as_ref().map_or(Some(1), |id| id.sequence().checked_add(1));
        let sequence = sequence
            .ok_or_else(|| Error::new(ErrorKind::Limit, "the store has used up its snapshot numbers"))?;
        let id = SnapshotId::new(sequence, self.now.as_secs());
        let staged = format!("{NEW}{id}");
        self.remove_staged(&snapshots, &staged)?;
        // What was taken in from an earlier life of the node has a higher number and shows what was then.
        let outdated = newest.as_ref().is_some_and(|newest| self.is_outdated(&newest.snapshot.id, &ids));
        let earlier = Earlier::collect(self, ids, newest.as_ref().map(|indexed| &indexed.snapshot))?;
        let top = snapshots.make_folder(&staged)?;
        let result = self.fill(&top, sources, &earlier, deadline).and_then(|mut gathered| {
            gathered.skipped.extend(absent(&options.kubeadm_paths, &gathered));
            let mut snapshot = self.describe(options, id, &gathered.entries, gathered.skipped.clone());
            // A group of which nothing could be taken is not covered.
            snapshot.groups.retain(|group| {
                let skipped =
                    |source: &Source| gathered.skipped.iter().any(|s| s.path.as_path() == source.path);
                gathered.entries.iter().any(|entry| entry.group == *group)
                    || !sources.iter().any(|source| source.group == *group && skipped(source))
            });
            let stands = |newest: &&Indexed| {
                // What the change would be undone from has to be whole.
                !outdated && can_stand_for(newest, &snapshot, options) && self.check_index(newest).is_ok()
            };
            if let Some(newest) = newest.as_ref().filter(stands) {
                self.remove_staged(&snapshots, &staged)?;
                return Ok(newest.snapshot.clone());
            }
            self.chain(&mut snapshot, newest.as_ref(), last_id)?;
            self.seal(&snapshots, &top, &staged, &snapshot, &gathered)?;
            Ok(snapshot)
        });
        if result.is_err() {
            // The next call and the next open try again; the first error is the one to tell.
            let _ = self.remove_staged(&snapshots, &staged);
        }
        result
    }

    fn remove_staged(&self, snapshots: &Place<'f, F>, staged: &str) -> Result<()> {
        if snapshots.stat(staged)?.is_some() {
            snapshots.remove_tree(OsStr::new(staged), MAX_STORED_DEPTH + 1)?;
        }
        Ok(())
    }

    /// Copies the sources into the staged folder.
    fn fill<'d>(
        &self,
        top: &Place<'f, F>,
        sources: &[Source],
        earlier: &'d Earlier<'f, F>,
        deadline: &'d Deadline,
    ) -> Result<Gathered<'d, 'f, F>> {
        let mut gathered = Gathered::new(earlier, deadline);
        for source in sources {
            let alone = sources.iter().all(|other| other.group == source.group);
            gathered.take(&self.root, top, source, alone)?;
        }
        gathered.copy_pending()?;
        gathered.skipped.extend(self.held_as_skipped()?);
        gathered.check_untouched(&self.root)?;
        Ok(gathered)
    }

    /// Notes held manifests, since a snapshot made meanwhile does not have them.
    fn held_as_skipped(&self) -> Result<Vec<Skipped>> {
        let held = self.holds()?;
        let skipped = |file: &str, reason: String| Skipped {
            path: super::NodePath::new(self.layout.manifests.join(file)),
            reason,
        };
        let known = held.known.iter().map(|record| {
            let (since, snapshot) = (rfc3339(record.since_unix_s), &record.snapshot);
            skipped(&record.file, format!("held since {since}; snapshot {snapshot} has it"))
        });
        let unreadable = held.unreadable.iter();
        let unreadable =
            unreadable.map(|hold| skipped(&hold.file, "held; the record of that cannot be read".to_owned()));
        Ok(known.chain(unreadable).collect())
    }

    pub(super) fn describe(
        &self,
        options: &CreateOptions,
        id: SnapshotId,
        entries: &[Entry],
        skipped: Vec<Skipped>,
    ) -> Snapshot {
        let of = |component| manifest_of(entries, component).and_then(|entry| entry.view.as_ref());
        let version = of(Component::KubeApiserver).and_then(|view| view.image.rsplit_once(':'));
        // kubeadm gives the etcd member the node's name (kubernetes cmd/kubeadm/app/phases/etcd/local.go).
        let member = of(Component::Etcd).and_then(|view| view.flags.iter().find(|(flag, _)| flag == "name"));
        Snapshot {
            schema: SNAPSHOT_SCHEMA.to_owned(),
            id,
            created: rfc3339(self.now.as_secs()),
            created_unix_s: self.now.as_secs(),
            node: self.node_name.clone().or_else(|| member.map(|(_, name)| name.clone())),
            kubernetes_version: version.map(|(_, tag)| tag.to_owned()),
            health_verified: options.health_verified,
            labels: options.labels.clone(),
            reason: options.reason.clone(),
            groups: sorted(&options.groups),
            previous: None,
            previous_sha256: None,
            entries: entries.to_vec(),
            skipped,
        }
    }

    /// Names the previous snapshot, and the node where only the others know it; a previous one whose index
    /// cannot be read is named without its digest.
    fn chain(
        &self,
        snapshot: &mut Snapshot,
        newest: Option<&Indexed>,
        last_id: Option<SnapshotId>,
    ) -> Result<()> {
        let readable = newest.filter(|newest| Some(&newest.snapshot.id) == last_id.as_ref());
        if snapshot.node.is_none() {
            // A snapshot of a node whose etcd manifest is lost or broken is still one of that node; the newest
            // may have been taken in from another.
            snapshot.node = self.only_node()?;
        }
        snapshot.previous_sha256 = readable.map(|newest| newest.sha256);
        snapshot.previous = last_id;
        Ok(())
    }

    /// Writes index and sums, puts everything on stable storage and gives the folder its name.
    fn seal(
        &self,
        snapshots: &Place<'f, F>,
        top: &Place<'f, F>,
        staged: &str,
        snapshot: &Snapshot,
        gathered: &Gathered<'_, 'f, F>,
    ) -> Result<()> {
        let mut index = serde_json::to_vec_pretty(snapshot).map_err(|source| {
            Error::with_source(ErrorKind::Internal, "snapshot index does not serialise", source)
        })?;
        index.push(b'\n');
        let sums = sums_of(snapshot, &Digest::of(&index));
        let index = top.create(INDEX, &index)?;
        self.fs.start_writeback(&index);
        let sums = top.create(SUMS, &sums)?;
        self.fs.start_writeback(&sums);
        let few = gathered.written + gathered.folder_count <= self.sync_each_up_to;
        if few || !top.told("sync", "", self.fs.sync_everything(&top.handle))? {
            if few {
                // In any order: until the folder has its name, nothing of it counts.
                let mut all = gathered.unsynced.clone();
                all.extend(gathered.folders.iter().map(|folder| folder.handle.clone()));
                all.extend([index, sums, top.handle.clone()]);
                top.sync_all(&all, |_| PathBuf::new())?;
            } else {
                self.sync_tree(top, MAX_STORED_DEPTH)?;
            }
        }
        snapshots.rename(staged, snapshots, snapshot.id.as_str(), Rename::NoReplace)?;
        snapshots.sync()
    }

    /// Syncs every file and folder of a tree one by one.
    pub(super) fn sync_tree(&self, top: &Place<'f, F>, depth: usize) -> Result<()> {
        for name in top.list()? {
            match top.stat(&name)?.map(|stat| stat.kind) {
                Some(super::fs::Kind::File) => {
                    let (file, _) = top.open_file(&name)?;
                    top.told("sync", &name, self.fs.sync(&file))?;
                }
                Some(super::fs::Kind::Folder) if depth > 0 => {
                    self.sync_tree(&top.folder(&name)?, depth - 1)?;
                }
                _ => {}
            }
        }
        top.sync()
    }

    /// Removes snapshots that a crash left half made or half removed; one that cannot be removed takes room, and
    /// must not keep anything else from being mended.
    pub(super) fn sweep_snapshots(&self) -> Result<Vec<PathBuf>> {
        let Some(snapshots) = self.part(SNAPSHOTS)? else { return Ok(Vec::new()) };
        let mut swept = Vec::new();
        let is_ours = |name: &OsString| {
            let name = name.to_str().unwrap_or_default();
            let rest = name.strip_prefix(NEW).or_else(|| name.strip_prefix(GONE));
            rest.is_some_and(|id| id.parse::<SnapshotId>().is_ok())
        };
        let names: Vec<OsString> = snapshots.list()?.into_iter().filter(is_ours).collect();
        // Whoever was killed may not have waited for the rename; after a crash what is removed here would have its
        // snapshot's name again.
        if !names.is_empty()
            && let Err(error) = snapshots.sync()
        {
            tracing::warn!(%error, "half-made snapshots stay for now");
            return Ok(swept);
        }
        for name in names {
            match snapshots.remove_tree(&name, MAX_STORED_DEPTH + 1) {
                Ok(()) => swept.push(snapshots.path.join(&name)),
                Err(error) => tracing::warn!(%error, "a half-made snapshot stays; remove it by hand"),
            }
        }
        Ok(swept)
    }
}

/// Reports whether the newest snapshot says all that the new one would.
fn can_stand_for(newest: &Indexed, new: &Snapshot, options: &CreateOptions) -> bool {
    let old = &newest.snapshot;
    options.only_if_changed
        // A restore takes one that was made before a change by its id alone.
        && (!old.is_before_change() || new.is_before_change())
        && !old.is_of_another_node(new.node.as_deref())
        && (old.health_verified || !new.health_verified)
        && new.groups.iter().all(|group| old.groups.contains(group))
        && new.labels.iter().all(|(key, value)| old.labels.get(key) == Some(value))
        && new.skipped == old.skipped
        && same_entries(old, new)
        // Every file was just compared, byte by byte, with the newest snapshot's own copy.
        && new.entries.iter().filter(|entry| entry.sha256.is_some()).all(|entry| {
            entry.link.as_ref().is_some_and(|link| link.snapshot == old.id)
        })
}

/// Notes what a caller has named and is not there; of what is only looked for that is no news.
fn absent<F: FileSystem>(named: &[PathBuf], gathered: &Gathered<'_, '_, F>) -> Vec<Skipped> {
    let taken = |path: &PathBuf| gathered.entries.iter().any(|entry| entry.path.as_path().starts_with(path));
    let told = |path: &PathBuf| gathered.skipped.iter().any(|skipped| skipped.path.as_path() == path);
    let absent = named.iter().filter(|path| !taken(path) && !told(path));
    absent
        .map(|path| Skipped { path: super::NodePath::new(path), reason: "it is not there".into() })
        .collect()
}

fn sorted(groups: &[Group]) -> Vec<Group> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn same_entries(old: &Snapshot, new: &Snapshot) -> bool {
    let covered = |entry: &&Entry| new.groups.contains(&entry.group);
    let plain = |entry: &Entry| Entry { link: None, ..entry.clone() };
    let old: Vec<Entry> = old.entries.iter().filter(covered).map(plain).collect();
    old.len() == new.entries.len() && new.entries.iter().zip(&old).all(|(new, old)| plain(new) == *old)
}
