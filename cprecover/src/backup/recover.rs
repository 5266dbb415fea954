//! Ending what a crash has left half done.

use super::fs::FileSystem;
use super::fs::place::{absent_to_none, split};
use super::journal::{Phase, Record, Standing, Step};
use super::restore::{Recovered, RecoveredOutcome};
use super::snapshot::NodePath;
use super::stage::{give_back, is_staged, remove_made, remove_staged, swap, sweep};
use super::transaction::Folders;
use super::vault::{BUFFER, HELD, JOURNAL, NEW, SNAPSHOTS, Vault};
use crate::error::{ErrorKind, Result};

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The old file is in place and the new one is staged.
    ToDo,
    /// The new file is in place.
    Done,
    /// The old file is in place and nothing is staged.
    Never,
    /// Something else stands there.
    Foreign,
}

#[allow(clippy::unused_self, reason = "the steps of one protocol are methods alike")]
impl<F: FileSystem> Vault<'_, F> {
    /// Reports whether [`Vault::recover`] might have something to do; reads only.
    pub(super) fn has_pending(&self) -> Result<bool> {
        if self.is_pending_in_store()? {
            return Ok(true);
        }
        self.is_pending_beside_manifests().or_else(|error| {
            // Snapshots must stay readable when the manifests folder is not; every change tells why.
            tracing::warn!(%error, "cannot look for left-overs");
            Ok(false)
        })
    }

    fn is_pending_in_store(&self) -> Result<bool> {
        for name in [JOURNAL, HELD, SNAPSHOTS] {
            let Some(part) = self.part(name)? else { continue };
            let dot_only = name == SNAPSHOTS;
            if part.list()?.iter().any(|name| !dot_only || name.as_encoded_bytes().starts_with(b".")) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_pending_beside_manifests(&self) -> Result<bool> {
        let Some(manifests) = self.root.folder_if_any(&self.layout.manifests)? else { return Ok(false) };
        Ok(manifests.list()?.iter().any(|name| is_staged(name)))
    }

    /// Ends everything that is half done; the store must be locked.
    pub(super) fn recover(&self) -> Result<Vec<Recovered>> {
        if !self.check_format()? || !(self.is_pending_in_store()? || self.is_pending_beside_manifests()?) {
            return Ok(Vec::new());
        }
        let mut recovered = Vec::new();
        for (name, record) in self.records()? {
            recovered.push(self.end(&name, record).map_err(|error| error.context("end a half-done change"))?);
        }
        recovered.extend(self.recover_holds()?);
        self.sweep_staged(&mut recovered)?;
        for path in self.sweep_snapshots()? {
            recovered.push(Recovered {
                what: "snapshot".into(),
                outcome: RecoveredOutcome::TakenBack,
                paths: vec![NodePath::new(path)],
                detail: "a snapshot that was half made or half removed".into(),
            });
        }
        Ok(recovered)
    }

    fn sweep_staged(&self, recovered: &mut Vec<Recovered>) -> Result<()> {
        for part in [JOURNAL, HELD] {
            let Some(place) = self.part(part)? else { continue };
            for name in
                place.list()?.iter().filter(|name| name.as_encoded_bytes().starts_with(NEW.as_bytes()))
            {
                place.remove_if_any(name)?;
            }
        }
        let Some(manifests) = self.root.folder_if_any(&self.layout.manifests)? else { return Ok(()) };
        let swept = sweep(&manifests)?;
        if swept > 0 {
            recovered.push(Recovered {
                what: "staged files".into(),
                outcome: RecoveredOutcome::TakenBack,
                paths: vec![NodePath::new(&self.layout.manifests)],
                detail: format!("{swept} staged files of a change that was not begun"),
            });
        }
        Ok(())
    }

    fn end(&self, name: &str, record: Record) -> Result<Recovered> {
        let mut buffer = vec![0; BUFFER];
        let outcome = match record.phase {
            Phase::Staging => RecoveredOutcome::TakenBack,
            Phase::Committed => self.go_on(&record, &mut buffer)?,
        };
        if outcome == RecoveredOutcome::TakenBack && record.phase == Phase::Committed {
            self.remove_record(name, true)?;
        }
        remove_staged(self, &record, &mut buffer)?;
        if outcome == RecoveredOutcome::TakenBack {
            remove_made(self, &record);
        } else {
            self.set_folders(&record)?;
        }
        self.remove_record(name, true)?;
        Ok(Recovered {
            what: record.what,
            outcome,
            paths: record.steps.into_iter().map(|step| step.path).collect(),
            detail: match &record.before {
                Some(before) => format!("what stood there before is snapshot {before}"),
                None => "nothing stood there before".into(),
            },
        })
    }

    /// Finishes a committed change, where nobody else has changed the files since.
    fn go_on(&self, record: &Record, buffer: &mut [u8]) -> Result<RecoveredOutcome> {
        let mut folders = Folders::new(self);
        let mut progress = Vec::with_capacity(record.steps.len());
        for step in &record.steps {
            progress.push(self.progress(&mut folders, step, buffer)?);
        }
        let any = |wanted| progress.contains(&wanted);
        let steps = || record.steps.iter().zip(&progress);
        let replaced = steps().any(|(step, progress)| *progress == Progress::Done && !step.is_in_place());
        if any(Progress::Never) && !replaced {
            for (step, progress) in steps() {
                let (parent, name) = split(step.path.as_path())?;
                if let Some(old) = step.old_attributes.as_ref().filter(|_| *progress != Progress::Foreign) {
                    folders.get(parent)?.set_in_place(name, old)?;
                }
            }
            return Ok(RecoveredOutcome::TakenBack);
        }
        let mut clean = !any(Progress::Foreign) && !any(Progress::Never);
        for (step, progress) in steps() {
            if !matches!(progress, Progress::ToDo | Progress::Done) {
                continue;
            }
            let (parent, name) = split(step.path.as_path())?;
            let place = folders.get(parent)?;
            if *progress == Progress::ToDo {
                swap(&place, step, name)?;
            }
            // The sweep that follows removes whatever has one of our names.
            clean &= !give_back(&place, step, name, buffer)?;
            place.sync()?;
        }
        Ok(if clean { RecoveredOutcome::Finished } else { RecoveredOutcome::LeftAlone })
    }

    fn progress(&self, folders: &mut Folders<'_, '_, F>, step: &Step, buffer: &mut [u8]) -> Result<Progress> {
        let (parent, name) = split(step.path.as_path())?;
        let Some(place) = absent_to_none(folders.get(parent))? else { return Ok(Progress::Foreign) };
        let target = match place.standing(name, buffer) {
            // A folder that someone has put there is foreign; an unreadable file is an error.
            Err(error) if error.kind() == ErrorKind::Refused => return Ok(Progress::Foreign),
            other => other?,
        };
        let staged = place.standing(step.staged.as_ref(), buffer)?;
        if let Some(attributes) = &step.attributes {
            // The bytes are the same before and after, so the attributes have to tell.
            if step.is_in_place() && target != step.new {
                return Ok(Progress::Foreign);
            }
            let replaced = staged == Standing::Absent && !step.is_in_place();
            let swapped = replaced || place.has_attributes(name, attributes)?;
            return Ok(if swapped { Progress::Done } else { Progress::ToDo });
        }
        if target == step.new {
            return Ok(Progress::Done);
        }
        Ok(match (target == step.old, &step.new) {
            (true, Standing::Absent) => Progress::ToDo,
            (true, _) if staged == step.new => Progress::ToDo,
            (true, _) => Progress::Never,
            (false, _) => Progress::Foreign,
        })
    }

    fn set_folders(&self, record: &Record) -> Result<()> {
        for folder in record.folders.iter().rev() {
            if let Some(attributes) = &folder.attributes
                && let Some(place) = self.root.folder_if_any(folder.path.as_path())?
            {
                place.set_attributes(attributes)?;
            }
        }
        Ok(())
    }
}
