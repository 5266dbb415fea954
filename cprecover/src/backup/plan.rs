//! Working out what a restore or an install changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::describe::{is_dot, pod_of};
use super::fs::place::{Place, absent_to_none, is_plain, split};
use super::fs::{Attributes, FileSystem, Kind, Parallel as _, Work};
use super::group::Group;
use super::journal::{FolderStep, Standing, below};
use super::restore::{InstallOptions, NewFile, RestoreOptions, RestoreReport, Selection};
use super::snapshot::{Entry, EntryKind, NodePath, Snapshot, SnapshotId};
use super::stage::{Fresh, Put};
use super::transaction::{Folders, Transaction};
use super::vault::{BUFFER, LOOKED_AT_ONCE, MAX_DEPTH, OURS, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Component;
use crate::parse::yaml::MAX_DOCUMENT_BYTES;
use crate::sys::Deadline;

/// What shall be where, before it is known what stands there.
#[derive(Default)]
struct Wish<'f, F: FileSystem> {
    /// New content by path on the node; none for removal.
    files: BTreeMap<PathBuf, Option<Put<'f, F>>>,
    /// Attributes of folders; none where a missing one gets those of a new folder.
    folders: BTreeMap<PathBuf, Option<Attributes>>,
    /// The pods of new manifests.
    pods: BTreeMap<PathBuf, String>,
}

/// The changes that a wish comes to.
pub(super) struct Plan<'f, F: FileSystem> {
    pub(super) changes: Vec<(PathBuf, Standing, Option<Put<'f, F>>)>,
    folders: Vec<FolderStep>,
    report: RestoreReport,
}

impl<'f, F: FileSystem> Vault<'f, F> {
    /// Puts files of a snapshot back.
    pub(super) fn restore(
        &self,
        id: &SnapshotId,
        selection: &Selection,
        options: &RestoreOptions,
        deadline: &Deadline,
    ) -> Result<RestoreReport> {
        let doing = |error: Error| error.context(format!("restore snapshot {id}"));
        let indexed = self.load(id)?;
        self.check_index(&indexed).map_err(doing)?;
        self.check_node(&indexed.snapshot, options)?;
        self.check_cluster(&indexed.snapshot, options)?;
        if options.dry_run {
            // Staging checks each file that is put in place; here none is, and those that are right already
            // would hide what is wrong with the snapshot.
            self.check_stored(&indexed.snapshot, selection, deadline).map_err(doing)?;
        }
        let wish = self.wish(&indexed.snapshot, selection, options)?;
        self.carry_out("restore", wish, options.dry_run, options.replace_held, deadline).map_err(doing)
    }

    /// Fails when a chosen file of a snapshot does not have its digest.
    fn check_stored(&self, snapshot: &Snapshot, selection: &Selection, deadline: &Deadline) -> Result<()> {
        let top = self.folder_of(&snapshot.id)?;
        for entry in choose(snapshot, selection)?.iter().filter(|entry| entry.kind == EntryKind::File) {
            deadline.check("check stored files")?;
            self.stored_bytes(&top, entry).map_err(|error| damaged(&snapshot.id, error))?;
        }
        Ok(())
    }

    /// Puts new files in place.
    pub(super) fn install(
        &self,
        files: &[NewFile],
        options: &InstallOptions,
        deadline: &Deadline,
    ) -> Result<RestoreReport> {
        let mut wish = Wish { files: BTreeMap::new(), folders: BTreeMap::new(), pods: BTreeMap::new() };
        for file in files {
            let attributes = self.attributes_for(file)?;
            if file.bytes.len() <= MAX_DOCUMENT_BYTES
                && let Some(pod) = pod_of(&file.bytes)?
            {
                wish.pods.insert(file.path.clone(), pod);
            }
            let put = Put { fresh: Fresh::Bytes(file.bytes.clone()), attributes };
            if wish.files.insert(file.path.clone(), Some(put)).is_some() {
                let path = file.path.display();
                return Err(Error::new(ErrorKind::Invalid, format!("{path} is to be installed twice")));
            }
        }
        let what = if options.reason.is_empty() { "install" } else { options.reason.as_str() };
        self.carry_out(what, wish, options.dry_run, options.replace_held, deadline)
            .map_err(|error| error.context(what))
    }

    /// Checks a new file's precondition and returns the attributes that it gets.
    fn attributes_for(&self, file: &NewFile) -> Result<Attributes> {
        let (parent, name) = split(&file.path)?;
        let now = (i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX), self.now.subsec_nanos());
        let (uid, gid) = self.owner;
        let new = Attributes {
            mode: file.mode & 0o7777,
            uid,
            gid,
            modified: now,
            xattrs: super::fs::Xattrs::new(),
        };
        let place = self.root.folder_if_any(parent)?;
        let stat = match &place {
            Some(place) => place.stat(name)?,
            None => None,
        };
        if let Some(expected) = &file.expects {
            let standing = match &place {
                Some(place) => place.standing(name, &mut vec![0; BUFFER])?,
                None => Standing::Absent,
            };
            let wanted = expected.map_or(Standing::Absent, |sha256| Standing::File { sha256 });
            if standing != wanted {
                let path = file.path.display();
                return Err(Error::new(ErrorKind::Changed, format!("{path} is not what was expected there")));
            }
        }
        match (place, stat) {
            (Some(place), Some(stat)) if stat.kind == Kind::File => {
                let (handle, stat) = place.open_file(name)?;
                let xattrs = place.told("read extended attributes of", name, place.fs.xattrs(&handle))?;
                Ok(Attributes { uid: stat.uid, gid: stat.gid, xattrs, ..new })
            }
            _ => Ok(new),
        }
    }

    /// Turns the chosen part of a snapshot into a wish.
    fn wish(
        &self,
        snapshot: &Snapshot,
        selection: &Selection,
        options: &RestoreOptions,
    ) -> Result<Wish<'f, F>> {
        let mut wish = Wish { files: BTreeMap::new(), folders: BTreeMap::new(), pods: BTreeMap::new() };
        if let Some(below) = options.below.as_deref().filter(|below| !is_plain(below)) {
            let why = format!("{} is not an absolute path without . and ..", below.display());
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        let chosen = choose(snapshot, selection)?;
        let top = self.folder_of(&snapshot.id)?;
        let mut last: Option<(PathBuf, Place<'f, F>)> = None;
        for entry in &chosen {
            let path = below(options.below.as_deref(), entry.path.as_path());
            let attributes = entry.attributes();
            let fresh = match (entry.kind, &entry.sha256, &entry.target) {
                (EntryKind::Folder, ..) => {
                    wish.folders.insert(path, Some(attributes));
                    continue;
                }
                (EntryKind::Symlink, _, Some(target)) => Fresh::Symlink { target: target.clone() },
                (EntryKind::File, Some(sha256), _) => {
                    let stored = entry.stored.as_path();
                    let (Some(parent), Some(name)) = (stored.parent(), stored.file_name()) else { continue };
                    let folder = match last.take() {
                        Some((path, place)) if path == parent => place,
                        _ => top.folder(parent).map_err(|error| damaged(&snapshot.id, error))?,
                    };
                    last = Some((parent.to_owned(), folder.clone()));
                    Fresh::Stored { folder, name: name.to_owned(), sha256: *sha256 }
                }
                _ => continue,
            };
            if let Some(pod) = self.pod_in(&top, entry).map_err(|error| damaged(&snapshot.id, error))? {
                wish.pods.insert(path.clone(), pod);
            }
            wish.files.insert(path, Some(Put { fresh, attributes }));
        }
        if options.exact {
            let groups: Vec<Group> =
                snapshot.groups.iter().copied().filter(|group| *group != Group::Other).collect();
            let skipped = snapshot.skipped.iter();
            let unknown = skipped.map(|one| below(options.below.as_deref(), one.path.as_path())).collect();
            let whole = chosen.iter().any(|entry| entry.kind == EntryKind::Folder);
            for entry in
                chosen.iter().filter(|e| whole && e.kind == EntryKind::Folder && groups.contains(&e.group))
            {
                let path = below(options.below.as_deref(), entry.path.as_path());
                self.wish_away(&path, &unknown, &mut wish)?;
            }
        }
        Ok(wish)
    }

    /// Returns the pod of a snapshot's manifest. An index from before the views were kubelet's has none for a
    /// manifest that only kubelet can read.
    fn pod_in(&self, top: &Place<'f, F>, entry: &Entry) -> Result<Option<String>> {
        if let Some(view) = &entry.view {
            return Ok(Some(view.pod.clone()));
        }
        let runs = entry.group == Group::Manifests
            && entry.kind == EntryKind::File
            && entry.size <= MAX_DOCUMENT_BYTES as u64
            && !is_dot(entry.path.as_path());
        if runs { pod_of(&self.stored_bytes(top, entry)?) } else { Ok(None) }
    }

    /// Adds the removal of what stands in a folder and is not wished for; what was there and could not be
    /// taken along when the snapshot was made is not "not there".
    fn wish_away(&self, folder: &Path, unknown: &BTreeSet<PathBuf>, wish: &mut Wish<'f, F>) -> Result<()> {
        let Some(place) = self.root.folder_if_any(folder)? else { return Ok(()) };
        for name in place.list()? {
            let path = folder.join(&name);
            let ours = name.as_encoded_bytes().starts_with(OURS.as_bytes());
            let kind = place.stat(&name)?.map(|stat| stat.kind);
            if !ours && !unknown.contains(&path) && matches!(kind, Some(Kind::File | Kind::Symlink)) {
                wish.files.entry(path).or_insert(None);
            }
        }
        Ok(())
    }

    fn carry_out(
        &self,
        what: &str,
        wish: Wish<'f, F>,
        dry_run: bool,
        replace_held: bool,
        deadline: &Deadline,
    ) -> Result<RestoreReport> {
        let pods = wish.pods.clone();
        let plan = self.plan(wish, deadline)?;
        let held = self.check_held(&plan, replace_held)?;
        self.check_pods(&plan, &pods)?;
        let mut report = plan.report;
        let nothing = plan.changes.is_empty() && plan.folders.iter().all(|folder| !folder.is_new);
        if dry_run || nothing {
            return Ok(report);
        }
        self.ensure_format()?;
        let before = self.before(&plan.changes, what, deadline)?;
        report.before = before.as_ref().map(|snapshot| snapshot.id.clone());
        Transaction::new(self, what, plan.folders, plan.changes, deadline).run(before.as_ref())?;
        for (held_as, file) in held {
            if let Err(error) = self.end_hold(&held_as, &file) {
                tracing::warn!(%error, "{file} is in place, but still counts as held");
            }
        }
        Ok(report)
    }

    /// Forgets a held manifest that was replaced; the snapshot of the hold still has it.
    fn end_hold(&self, held_as: &str, file: &str) -> Result<()> {
        self.root.folder(&self.layout.manifests)?.remove_if_any(held_as)?;
        self.drop_held(file, false)
    }

    /// Takes the snapshot of what is about to be replaced.
    fn before(
        &self,
        changes: &[(PathBuf, Standing, Option<Put<'f, F>>)],
        what: &str,
        deadline: &Deadline,
    ) -> Result<Option<Snapshot>> {
        let replaced = || changes.iter().filter(|(_, old, _)| *old != Standing::Absent);
        let mut groups: Vec<Group> = replaced().map(|(path, ..)| self.layout.group_of(path)).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() {
            return Ok(None);
        }
        let other: Vec<PathBuf> = replaced()
            .filter(|(path, ..)| self.layout.group_of(path) == Group::Other)
            .map(|(path, ..)| path.clone())
            .collect();
        self.create_before(groups, &other, &format!("before-{what}"), deadline).map(Some)
    }

    /// Compares the wish with what stands there.
    fn plan(&self, wish: Wish<'f, F>, deadline: &Deadline) -> Result<Plan<'f, F>> {
        let mut plan = Plan {
            changes: Vec::new(),
            folders: self.plan_folders(&wish)?,
            report: RestoreReport::default(),
        };
        let files: Vec<(PathBuf, Option<Put<'f, F>>)> = wish.files.into_iter().collect();
        let parts: Vec<_> = files.chunks(LOOKED_AT_ONCE).collect();
        let compared = self.fs.each_of(Work::Compute, &parts, |part| self.compare(part, deadline));
        let compared = compared.map_err(|(_, error)| error)?.into_iter().flatten();
        for ((path, put), (old, same)) in files.into_iter().zip(compared) {
            let shown = NodePath::new(&path);
            match (&old, &put) {
                (Standing::Absent, None) => continue,
                (Standing::Absent, Some(_)) => plan.report.created.push(shown),
                (_, None) => plan.report.removed.push(shown),
                (_, Some(_)) if same => {
                    plan.report.unchanged.push(shown);
                    continue;
                }
                (_, Some(_)) => plan.report.replaced.push(shown),
            }
            plan.changes.push((path, old, put));
        }
        Ok(plan)
    }

    /// Tells of each path what stands there, and whether that is what is wished for.
    fn compare(
        &self,
        files: &[(PathBuf, Option<Put<'f, F>>)],
        deadline: &Deadline,
    ) -> Result<Vec<(Standing, bool)>> {
        let mut folders = Folders::new(self);
        let mut buffer = vec![0; BUFFER];
        let mut compared = Vec::with_capacity(files.len());
        for (path, put) in files {
            deadline.check("compare files")?;
            let (parent, name) = split(path)?;
            let Some(place) = absent_to_none(folders.get(parent))? else {
                compared.push((Standing::Absent, false));
                continue;
            };
            let old = place.standing(name, &mut buffer)?;
            let same = match put {
                Some(put) if put.fresh.standing() == old => {
                    same_attributes(&place, name, put, parent == self.layout.manifests)?
                }
                _ => false,
            };
            compared.push((old, same));
        }
        Ok(compared)
    }

    /// Returns the folders that are to be made or to get attributes, outer ones first.
    fn plan_folders(&self, wish: &Wish<'f, F>) -> Result<Vec<FolderStep>> {
        let mut wanted = wish.folders.clone();
        let put = wish.files.iter().filter(|(_, put)| put.is_some()).map(|(path, _)| path);
        let parents: Vec<PathBuf> = put.chain(wish.folders.keys()).map(PathBuf::clone).collect();
        for path in parents {
            for parent in path.ancestors().skip(1).take_while(|parent| *parent != Path::new("/")) {
                if wanted.contains_key(parent) {
                    break;
                }
                wanted.insert(parent.to_owned(), None);
            }
        }
        let mut steps = Vec::new();
        for (path, attributes) in wanted {
            if path.components().count() > 2 * MAX_DEPTH {
                return Err(Error::new(ErrorKind::Limit, format!("{} is nested too deep", path.display())));
            }
            let is_new = self.root.folder_if_any(&path)?.is_none();
            if is_new || attributes.is_some() {
                steps.push(FolderStep { path: NodePath::new(&path), is_new, attributes });
            }
        }
        Ok(steps)
    }
}

fn damaged(id: &SnapshotId, error: Error) -> Error {
    let kind = if error.kind() == ErrorKind::NotFound { ErrorKind::Corrupt } else { error.kind() };
    Error::with_source(kind, format!("snapshot {id} is damaged"), error)
}

/// Reports whether the file has the wished attributes; `watched` where kubelet looks.
fn same_attributes<F: FileSystem>(
    place: &Place<'_, F>,
    name: &std::ffi::OsStr,
    put: &Put<'_, F>,
    watched: bool,
) -> Result<bool> {
    // Those of a link do not matter, and another link in its place would be another pod to kubelet.
    if watched && matches!(put.fresh, Fresh::Symlink { .. }) {
        return Ok(true);
    }
    let mut wanted = put.attributes.clone();
    // A file from a caller has no time of its own.
    if matches!(put.fresh, Fresh::Bytes(_))
        && let Some(stat) = place.stat(name)?
    {
        wanted.modified = stat.modified;
    }
    place.has_attributes(name, &wanted)
}

/// Returns the chosen entries; a choice that the snapshot does not hold is an error.
fn choose<'s>(snapshot: &'s Snapshot, selection: &Selection) -> Result<Vec<&'s Entry>> {
    let missing = |what: String| {
        Error::new(ErrorKind::NotFound, format!("snapshot {} does not hold {what}", snapshot.id))
    };
    let manifest = |component: &Component| {
        snapshot.manifest(*component).ok_or_else(|| missing(format!("a manifest of {component}")))
    };
    match selection {
        Selection::All => Ok(snapshot.entries.iter().collect()),
        Selection::Groups(groups) => {
            if let Some(group) = groups.iter().find(|group| !snapshot.groups.contains(group)) {
                return Err(missing(format!("group {group}")));
            }
            Ok(snapshot.entries.iter().filter(|entry| groups.contains(&entry.group)).collect())
        }
        Selection::Components(components) => components.iter().map(manifest).collect(),
        Selection::Files(files) => files
            .iter()
            .map(|file| {
                let found = snapshot
                    .entries
                    .iter()
                    .find(|entry| entry.path.as_path() == file && entry.kind != EntryKind::Folder);
                found.ok_or_else(|| missing(file.display().to_string()))
            })
            .collect(),
    }
}
