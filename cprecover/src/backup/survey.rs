//! What stands on the node now, described as a snapshot would be, without writing anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::describe::{entry_of, view_of};
use super::fs::place::{MAX_NAMES, Place, split};
use super::fs::{FileSystem, Kind};
use super::group::{Group, Shape, Source};
use super::snapshot::{CreateOptions, Entry, EntryKind, NodePath, Snapshot, SnapshotId};
use super::source::find;
use super::vault::{MAX_DEPTH, OURS, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// The largest file whose bytes are read into memory.
const MAX_BYTES: usize = 64 << 20;

/// Content of manifests by path.
type Texts = BTreeMap<NodePath, Vec<u8>>;

impl<F: FileSystem> Vault<'_, F> {
    /// Describes the files as they are that a snapshot like `old` would hold; what it skipped behind a link is
    /// skipped again.
    pub(super) fn survey(&self, old: &Snapshot, deadline: &Deadline) -> Result<(Snapshot, Texts)> {
        let groups = &old.groups;
        let skipped = |source: &Source| old.skipped.iter().any(|one| one.path.as_path() == source.path);
        let mut entries = Vec::new();
        let mut texts = Texts::new();
        for source in groups.iter().flat_map(|group| self.layout.sources(*group, &self.named(old, *group))) {
            let found = match find(&self.root, &source) {
                Err(error) if error.kind() == ErrorKind::Refused && skipped(&source) => continue,
                other => other?,
            };
            let (Some(place), (_, name)) = (found.map(|found| found.parent), split(&source.path)?) else {
                continue;
            };
            if source.shape == Shape::Tree {
                let into = (&mut entries, &mut texts);
                look_at(&place, name, &source.path, source.group, MAX_DEPTH, deadline, into)?;
                continue;
            }
            let Some(folder) = place.folder_if_any(name)? else { continue };
            for name in folder.list()? {
                let path = source.path.join(&name);
                let is_folder = || Ok::<_, Error>(folder.stat(&name)?.is_none_or(|s| s.kind == Kind::Folder));
                if path.extension() == Some("conf".as_ref()) && !is_folder()? {
                    let into = (&mut entries, &mut texts);
                    look_at(&folder, &name, &path, source.group, 0, deadline, into)?;
                }
            }
        }
        let options = CreateOptions { groups: groups.clone(), ..CreateOptions::default() };
        let id = SnapshotId::new(0, self.now.as_secs());
        Ok((self.describe(&options, id, &entries, Vec::new()), texts))
    }

    /// The files and folders that a snapshot took because a caller named them, outermost ones alone.
    fn named(&self, old: &Snapshot, group: Group) -> Vec<PathBuf> {
        if !matches!(group, Group::Kubeadm | Group::Other) {
            return Vec::new();
        }
        let mut known: Vec<PathBuf> =
            self.layout.sources(group, &[]).into_iter().map(|source| source.path).collect();
        let usual = known.len();
        // Folders come before what they hold.
        for entry in old.entries.iter().filter(|entry| entry.group == group) {
            let path = entry.path.as_path();
            if !known.iter().any(|known| path.starts_with(known)) {
                known.push(path.to_owned());
            }
        }
        known.split_off(usual)
    }
}

fn look_at<F: FileSystem>(
    place: &Place<'_, F>,
    name: &std::ffi::OsStr,
    path: &Path,
    group: Group,
    depth: usize,
    deadline: &Deadline,
    into: (&mut Vec<Entry>, &mut Texts),
) -> Result<()> {
    deadline.check("look at files")?;
    let (entries, texts) = into;
    if name.as_encoded_bytes().starts_with(OURS.as_bytes()) {
        return Ok(());
    }
    if entries.len() >= MAX_NAMES {
        return Err(Error::new(ErrorKind::Limit, format!("more than {MAX_NAMES} files")));
    }
    let Some(stat) = place.stat(name)? else { return Ok(()) };
    match stat.kind {
        Kind::File => {
            let (file, stat) = place.open_file(name)?;
            let mut entry = entry_of(place, group, path, EntryKind::File, &stat, Some(&file))?;
            let bytes = place.read(name, MAX_BYTES)?;
            entry.size = bytes.len() as u64;
            entry.sha256 = Some(Digest::of(&bytes));
            if group == Group::Manifests {
                entry.view = view_of(&bytes);
            }
            if !group.is_secret() {
                texts.insert(entry.path.clone(), bytes);
            }
            entries.push(entry);
        }
        Kind::Folder if depth == 0 => {
            return Err(Error::new(ErrorKind::Limit, format!("{} is nested too deep", path.display())));
        }
        Kind::Folder => {
            let folder = place.folder(name)?;
            entries.push(entry_of(&folder, group, path, EntryKind::Folder, &stat, Some(&folder.handle))?);
            for name in folder.list()? {
                let inner = path.join(&name);
                look_at(&folder, &name, &inner, group, depth - 1, deadline, (&mut *entries, &mut *texts))?;
            }
        }
        Kind::Symlink => {
            let mut entry = entry_of(place, group, path, EntryKind::Symlink, &stat, None)?;
            entry.target = Some(place.read_link(name)?);
            entries.push(entry);
        }
        Kind::Other => {}
    }
    Ok(())
}
