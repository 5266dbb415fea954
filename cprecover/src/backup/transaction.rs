//! Changing several files of the node, all or nothing.
//!
//! 1. New files are staged under dot-names next to their targets and synced; where kubelet looks, the old
//!    ones get a second name beside them ([`super::keep`]).
//! 2. A journal record of the intent is synced: from here on a crash is followed by the rest.
//! 3. Targets and staged files swap names (`RENAME_EXCHANGE`), and where the old file is kept by a second name
//!    the new one is renamed over it, each after its precondition was checked again; where the bytes are right,
//!    attributes are set on the file itself. The folders are synced and the targets read back.
//! 4. The old files, which a snapshot holds, and the record are removed.
//!
//! An error in 1 to 3 is followed by the way back; only when that fails too does the record stay, and
//! the next open ends the change.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::fs::place::{Place, split};
use super::fs::{FileSystem, Parallel as _, Work};
use super::journal::{FolderStep, Phase, Record, Standing, Step};
use super::keep::{keep_new, put_over};
use super::snapshot::{NodePath, Snapshot};
use super::stage::{Put, remove_made, remove_staged, stage, sweep, unswap};
use super::vault::{BUFFER, LOOKED_AT_ONCE, OURS, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::Deadline;

/// A prepared change of several files.
pub(super) struct Transaction<'v, 'f, F: FileSystem> {
    vault: &'v Vault<'f, F>,
    /// The record's name in the journal.
    name: String,
    record: Record,
    /// What is put, one for each step; none where a file is removed.
    puts: Vec<Option<Put<'f, F>>>,
    deadline: &'v Deadline,
    buffer: Vec<u8>,
}

impl<'v, 'f, F: FileSystem> Transaction<'v, 'f, F> {
    pub(super) fn new(
        vault: &'v Vault<'f, F>,
        what: &str,
        folders: Vec<FolderStep>,
        changes: Vec<(PathBuf, Standing, Option<Put<'f, F>>)>,
        deadline: &'v Deadline,
    ) -> Self {
        let id = format!("{:016x}", vault.now.as_nanos() & u128::from(u64::MAX));
        let mut steps = Vec::with_capacity(changes.len());
        let mut puts = Vec::with_capacity(changes.len());
        for (number, (path, old, put)) in changes.into_iter().enumerate() {
            let new = put.as_ref().map_or(Standing::Absent, |put| put.fresh.standing());
            let attributes = put.as_ref().filter(|_| old == new).map(|put| put.attributes.clone());
            let staged = format!("{OURS}{id}-{number}");
            let path = NodePath::new(&path);
            steps.push(Step { path, staged, kept: None, old, new, attributes, old_attributes: None });
            puts.push(put);
        }
        let record = Record::new(what, folders, steps);
        Self { vault, name: format!("{id}.json"), record, puts, deadline, buffer: vec![0; BUFFER] }
    }

    /// Carries the change out; `before` is the snapshot of what stands there.
    pub(super) fn run(mut self, before: Option<&Snapshot>) -> Result<()> {
        if let Some(before) = before {
            self.check_covered(before)?;
            self.record.before = Some(before.id.clone());
        }
        if let Err(error) = self.prepare() {
            return Err(self.take_back(&[], error));
        }
        let done: Vec<AtomicBool> = self.record.steps.iter().map(|_| AtomicBool::new(false)).collect();
        if let Err(error) = self.swap_all(&done) {
            return Err(self.take_back(&done, error));
        }
        // From here on the new files are in place, durably and proven.
        if let Err(error) = self.clean() {
            tracing::warn!(%error, "left-over of a finished change; the next open removes it");
        }
        Ok(())
    }

    /// Fails unless the snapshot holds exactly what is about to be replaced.
    fn check_covered(&self, before: &Snapshot) -> Result<()> {
        let entries: std::collections::HashMap<&NodePath, &super::Entry> =
            before.entries.iter().map(|entry| (&entry.path, entry)).collect();
        for step in self.record.steps.iter().filter(|step| step.old != Standing::Absent) {
            let kept = entries.get(&step.path).map(|entry| match (&entry.sha256, &entry.target) {
                (Some(sha256), _) => Standing::File { sha256: *sha256 },
                (None, Some(target)) => Standing::Symlink { target: target.clone() },
                (None, None) => Standing::Absent,
            });
            if kept.as_ref() != Some(&step.old) {
                return Err(changed(&step.path));
            }
        }
        Ok(())
    }

    /// Stages the new files and writes the intent.
    fn prepare(&mut self) -> Result<()> {
        self.vault.note_attributes(&mut self.record.steps)?;
        let manifests = &self.vault.layout.manifests;
        let elsewhere = self.record.folders.iter().any(|folder| folder.is_new)
            || self.record.steps.iter().any(|step| step.path.as_path().parent() != Some(manifests));
        if elsewhere {
            // The next open looks for left-overs in the manifests folder anyway, in others by this.
            self.vault.write_record(&self.name, &self.record)?;
        }
        self.make_folders()?;
        self.sweep()?;
        self.vault.keep_old(&mut self.record.steps)?;
        self.stage_all()?;
        self.record.phase = Phase::Committed;
        self.vault.write_record(&self.name, &self.record)
    }

    fn make_folders(&self) -> Result<()> {
        for folder in self.record.folders.iter().filter(|folder| folder.is_new) {
            let (parent, name) = split(folder.path.as_path())?;
            let made = self.vault.root.folder(parent)?.make_folder(name)?;
            if let Some(attributes) = &folder.attributes {
                made.set_attributes(attributes)?;
            }
        }
        Ok(())
    }

    /// Returns the folders whose names change, and those in which folders were made.
    fn touched(&self) -> BTreeSet<PathBuf> {
        let parent = |path: &NodePath| path.as_path().parent().map(Path::to_owned);
        let made = self.record.folders.iter().filter(|folder| folder.is_new);
        let mut touched: BTreeSet<PathBuf> = made
            .flat_map(|folder| [parent(&folder.path), Some(folder.path.as_path().to_owned())])
            .flatten()
            .collect();
        touched.extend(self.record.steps.iter().filter_map(|step| parent(&step.path)));
        touched
    }

    fn sweep(&self) -> Result<()> {
        let mut folders = Folders::new(self.vault);
        self.touched().into_iter().try_for_each(|path| sweep(&folders.get(&path)?).map(drop))
    }

    fn stage_all(&self) -> Result<()> {
        let few = self.is_few();
        let steps: Vec<(&Step, &Put<'f, F>)> = self
            .record
            .steps
            .iter()
            .zip(&self.puts)
            .filter(|(step, _)| !step.is_in_place())
            .filter_map(|(step, put)| put.as_ref().map(|put| (step, put)))
            .collect();
        let parts: Vec<_> = steps.chunks(if few { 1 } else { LOOKED_AT_ONCE }).collect();
        let staged = self.vault.fs.each_of(Work::Compute, &parts, |part| {
            let mut folders = Folders::new(self.vault);
            let mut buffer = vec![0; BUFFER];
            let mut handles = Vec::new();
            for (step, put) in *part {
                self.deadline.check("stage files")?;
                let (parent, _) = split(step.path.as_path())?;
                let handle = stage(&folders.get(parent)?, &step.staged, put, &mut buffer)?;
                handles.extend(handle.filter(|_| few));
            }
            Ok(handles)
        });
        let handles = staged.map_err(|(_, error)| error)?;
        if few { self.sync_few(handles.concat()) } else { self.sync_content() }
    }

    fn is_few(&self) -> bool {
        self.record.steps.len() + self.record.folders.len() <= self.vault.sync_each_up_to
    }

    /// Syncs these files and the names in all folders concerned, in any order.
    fn sync_few(&self, mut handles: Vec<F::Handle>) -> Result<()> {
        let (files, touched) = (handles.len(), self.touched());
        for path in &touched {
            handles.push(self.vault.root.folder(path)?.handle);
        }
        let name = |number: usize| {
            number
                .checked_sub(files)
                .and_then(|folder| touched.iter().nth(folder))
                .cloned()
                .unwrap_or_default()
        };
        self.vault.root.sync_all(&handles, |number| {
            name(number).strip_prefix("/").map(Path::to_owned).unwrap_or_default()
        })
    }

    /// Syncs the names in all folders concerned.
    fn sync_folders(&self) -> Result<()> {
        let touched: Vec<PathBuf> = self.touched().into_iter().collect();
        // Each fsync of many would wait for a flush of the disk's cache of its own.
        if touched.len() > self.vault.sync_each_up_to {
            return self.sync_file_systems(|place, _| place.sync());
        }
        for part in touched.chunks(LOOKED_AT_ONCE) {
            let synced = self.vault.fs.each_of(Work::Wait, part, |path| self.vault.root.folder(path)?.sync());
            synced.map_err(|(_, error)| error)?;
        }
        Ok(())
    }

    /// Syncs the staged files and the names in all folders concerned.
    fn sync_content(&self) -> Result<()> {
        self.sync_file_systems(|place, path| {
            self.sync_staged(place, path)?;
            place.sync()
        })
    }

    /// Syncs the file systems of all folders concerned; `single` syncs what is in one folder, where a file
    /// system cannot be synced as a whole.
    fn sync_file_systems(&self, single: impl Fn(&Place<'f, F>, &Path) -> Result<()>) -> Result<()> {
        let mut devices = BTreeSet::new();
        for path in self.touched() {
            let place = self.vault.root.folder(&path)?;
            let device = place.told("stat", "", self.vault.fs.describe(&place.handle))?.device;
            if !devices.insert(device) {
                continue;
            }
            if !place.told("sync", "", self.vault.fs.sync_everything(&place.handle))? {
                devices.remove(&device);
                single(&place, &path)?;
            }
        }
        Ok(())
    }

    fn sync_staged(&self, place: &Place<'f, F>, path: &Path) -> Result<()> {
        let here = self.record.steps.iter().filter(|step| step.path.as_path().parent() == Some(path));
        for step in here.filter(|step| matches!(step.new, Standing::File { .. }) && !step.is_in_place()) {
            let (file, _) = place.open_file(&step.staged)?;
            place.told("sync", &step.staged, self.vault.fs.sync(&file))?;
        }
        Ok(())
    }

    /// Swaps every target with its staged file; `done` notes those that were.
    ///
    /// In any order: the record says what a crash in between is followed by.
    fn swap_all(&self, done: &[AtomicBool]) -> Result<()> {
        let steps: Vec<(&Step, &AtomicBool)> = self.record.steps.iter().zip(done).collect();
        let parts: Vec<_> = steps.chunks(LOOKED_AT_ONCE).collect();
        let swapped = self.vault.fs.each_of(Work::Compute, &parts, |part| {
            let mut folders = Folders::new(self.vault);
            let mut buffer = vec![0; BUFFER];
            for (step, done) in *part {
                let (parent, name) = split(step.path.as_path())?;
                let place = folders.get(parent)?;
                if place.standing(name, &mut buffer)? != step.old {
                    return Err(changed(&step.path));
                }
                // What is set on the file itself may fail when half of it is done.
                done.store(step.is_in_place(), Ordering::Relaxed);
                put_over(&place, step, name)?;
                done.store(true, Ordering::Relaxed);
            }
            Ok(())
        });
        swapped.map_err(|(_, error)| error)?;
        self.read_back()?;
        self.set_folder_attributes()?;
        self.sync_folders()
    }

    fn read_back(&self) -> Result<()> {
        let parts: Vec<&[Step]> = self.record.steps.chunks(LOOKED_AT_ONCE).collect();
        let read = self.vault.fs.each_of(Work::Compute, &parts, |part| {
            let mut folders = Folders::new(self.vault);
            let mut buffer = vec![0; BUFFER];
            for step in *part {
                let (parent, name) = split(step.path.as_path())?;
                let place = folders.get(parent)?;
                if place.standing(name, &mut buffer)? != step.new {
                    return Err(changed(&step.path).context("read back"));
                }
                // What was taken out has to be what the snapshot holds, not a write that came between.
                for out in step.names().map(OsStr::new).filter(|_| step.old != Standing::Absent) {
                    if place.stat(out)?.is_some() && place.standing(out, &mut buffer)? != step.old {
                        return Err(changed(&step.path));
                    }
                }
            }
            Ok(())
        });
        read.map(drop).map_err(|(_, error)| error)
    }

    fn set_folder_attributes(&self) -> Result<()> {
        for folder in self.record.folders.iter().rev() {
            if let Some(attributes) = &folder.attributes {
                self.vault.root.folder(folder.path.as_path())?.set_attributes(attributes)?;
            }
        }
        Ok(())
    }

    /// Removes the old files and the record.
    fn clean(&mut self) -> Result<()> {
        remove_staged(self.vault, &self.record, &mut self.buffer)?;
        // Removing changed the folders' times.
        self.set_folder_attributes()?;
        self.vault.remove_record(&self.name, false)
    }

    /// Undoes the steps that are `done` and returns the error that made it necessary.
    fn take_back(mut self, done: &[AtomicBool], error: Error) -> Error {
        let undone = self.undo(done).and_then(|left| {
            if self.record.phase == Phase::Committed {
                // Durably, before the staged files go: a record that came back would finish the change.
                self.vault.remove_record(&self.name, true)?;
            }
            remove_staged(self.vault, &self.record, &mut self.buffer)?;
            remove_made(self.vault, &self.record);
            self.vault.remove_record(&self.name, false)?;
            Ok(left)
        });
        match undone {
            Ok(left) if left.is_empty() => error,
            Ok(left) => error.context(self.stays(&left)),
            Err(second) => {
                tracing::error!(%second, "the way back failed; the next open ends the change");
                error.context("half done, ended by the next open of the store")
            }
        }
    }

    /// Returns the files that someone else has changed since and that stay so.
    fn undo(&mut self, done: &[AtomicBool]) -> Result<Vec<NodePath>> {
        let mut left = Vec::new();
        let steps = self.record.steps.iter().zip(done);
        let steps: Vec<&Step> =
            steps.filter(|(_, done)| done.load(Ordering::Relaxed)).map(|(step, _)| step).collect();
        if steps.is_empty() {
            return Ok(left);
        }
        let mut folders = Folders::new(self.vault);
        let mut kept = false;
        for step in &steps {
            let (parent, name) = split(step.path.as_path())?;
            kept |= keep_new(&folders.get(parent)?, step, name, &mut self.buffer)?;
        }
        if kept {
            // Before any goes: what a crash then finds can still be finished.
            self.sync_folders()?;
        }
        for step in steps.into_iter().rev() {
            let (parent, name) = split(step.path.as_path())?;
            if !unswap(&folders.get(parent)?, step, name, &mut self.buffer)? {
                left.push(step.path.clone());
            }
        }
        self.sync_folders()?;
        Ok(left)
    }

    fn stays(&self, left: &[NodePath]) -> String {
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        let before = match &self.record.before {
            Some(before) => format!("what stood there before is in snapshot {before}"),
            None => "nothing stood there before".to_owned(),
        };
        format!("{} stays as someone else left it ({before})", left.join(", "))
    }
}

/// Keeps the folder that was used last open: steps come folder by folder.
pub(super) struct Folders<'v, 'f, F: FileSystem> {
    vault: &'v Vault<'f, F>,
    last: Option<(PathBuf, Place<'f, F>)>,
}

impl<'v, 'f, F: FileSystem> Folders<'v, 'f, F> {
    pub(super) fn new(vault: &'v Vault<'f, F>) -> Self {
        Self { vault, last: None }
    }

    pub(super) fn get(&mut self, path: &Path) -> Result<Place<'f, F>> {
        if let Some((last, place)) = &self.last
            && last == path
        {
            return Ok(place.clone());
        }
        let place = self.vault.root.folder(path)?;
        self.last = Some((path.to_owned(), place.clone()));
        Ok(place)
    }
}

fn changed(path: &NodePath) -> Error {
    Error::new(ErrorKind::Changed, format!("{} changed meanwhile", path.as_path().display()))
}
