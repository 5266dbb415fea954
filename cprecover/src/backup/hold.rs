//! Taking a manifest out of kubelet's sight and putting it back: the safe form of `mv … /tmp`.

use serde::{Deserialize, Serialize};

use super::fs::place::Place;
use super::fs::{FileSystem, Rename};
use super::group::Group;
use super::held::{HeldRecord, check_name, held_name, record_name};
use super::journal::Standing;
use super::restore::{Recovered, RecoveredOutcome, RestoreOptions, Selection};
use super::snapshot::{NodePath, SnapshotId, rfc3339};
use super::vault::{BUFFER, HELD, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// A manifest that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Held {
    /// Its name in the manifests folder.
    pub file: String,
    /// Its name while it is held: starts with a dot, so that kubelet does not run it.
    pub held_as: String,
    /// Its content's SHA-256.
    pub sha256: Digest,
    /// The snapshot that holds it too.
    pub snapshot: SnapshotId,
    /// Since when: whole seconds since 1970.
    pub since_unix_s: u64,
    /// Why.
    pub reason: String,
    /// What stands in the manifests folder now.
    pub state: HeldState,
}

/// What has become of a held manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HeldState {
    /// It is held.
    Held,
    /// The held file is gone from the folder; releasing takes it from the snapshot.
    OnlyInSnapshot,
    /// It is held, and a file of its name stands in the folder again.
    InPlaceToo,
    /// It is back in place.
    Released,
}

#[allow(clippy::unused_self, reason = "the steps of one protocol are methods alike")]
impl<'f, F: FileSystem> Vault<'f, F> {
    /// Tells what has become of each held manifest whose record can be read.
    pub(super) fn held(&self) -> Result<Vec<Held>> {
        self.with_states(self.holds()?.known)
    }

    pub(super) fn with_states(&self, records: Vec<HeldRecord>) -> Result<Vec<Held>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let manifests = self.root.folder_if_any(&self.layout.manifests)?;
        let state = |record: &HeldRecord| match &manifests {
            Some(manifests) => state_of(manifests, record),
            None => Ok(HeldState::OnlyInSnapshot),
        };
        records
            .into_iter()
            .map(|record| {
                let state = state(&record)?;
                Ok(record.with_state(state))
            })
            .collect()
    }

    /// Takes a manifest out of kubelet's sight, so that its pod ends.
    pub(super) fn hold(&self, file: &str, reason: &str, deadline: &Deadline) -> Result<Held> {
        self.take_out(file, reason, false, deadline, |pod| {
            let Some(pod) = pod else { return Ok(()) };
            let Some(other) = self.other_manifest(file, pod)? else { return Ok(()) };
            let other = other.display();
            Err(Error::new(
                ErrorKind::Refused,
                format!("kubelet would go on running pod {pod} from {other}; move that file away first"),
            ))
        })
    }

    /// Takes a second manifest of a pod out of kubelet's sight, so that its pod runs from the other one.
    pub(super) fn set_aside(&self, file: &str, reason: &str, deadline: &Deadline) -> Result<Held> {
        self.take_out(file, reason, true, deadline, |pod| {
            let Some(pod) = pod else {
                let why =
                    format!("{file} cannot be read as a pod, so that no other file can be told to run it");
                return Err(Error::new(ErrorKind::Refused, why));
            };
            if self.other_manifest(file, pod)?.is_some() {
                return Ok(());
            }
            let why = format!("{file} is the only manifest of pod {pod} now; nothing else would run it");
            Err(Error::new(ErrorKind::Changed, why))
        })
    }

    /// Takes a file out: the record is durable before the name changes. `may` is asked with the file's pod,
    /// if kubelet could read one.
    fn take_out(
        &self,
        file: &str,
        reason: &str,
        is_twin: bool,
        deadline: &Deadline,
        may: impl Fn(Option<&str>) -> Result<()>,
    ) -> Result<Held> {
        check_name(file)?;
        self.ensure_format()?;
        if let Some(held) = self.record_of(file)? {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("{file} is held already, since {}", rfc3339(held.since_unix_s)),
            ));
        }
        let manifests = self.root.folder(&self.layout.manifests)?;
        let held_as = held_name(file);
        let path = manifests.path.join(file);
        if manifests.stat(&held_as)?.is_some() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("{} is there, but no record says since when", manifests.path.join(held_as).display()),
            ));
        }
        let Standing::File { sha256 } = manifests.standing(file.as_ref(), &mut vec![0; BUFFER])? else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{} is not a file that is there", path.display()),
            ));
        };
        let before = self.create_before(vec![Group::Manifests], &[], "before-hold", deadline)?;
        let on_node = self.layout.manifests.join(file);
        let kept = before.entries.iter().find(|entry| entry.path.as_path() == on_node);
        if kept.and_then(|entry| entry.sha256) != Some(sha256) {
            return Err(Error::new(ErrorKind::Changed, format!("{} changed meanwhile", path.display())));
        }
        may(kept.and_then(|entry| entry.view.as_ref()).map(|view| view.pod.as_str()))?;
        let record = HeldRecord::new(file, sha256, before.id, self.now.as_secs(), reason).of_twin(is_twin);
        self.write_held(&record)?;
        match self.rename_out(&manifests, &record) {
            Ok(()) => Ok(record.with_state(HeldState::Held)),
            Err(error) => {
                // Without the record the manifest counts as never held; where it cannot be removed,
                // the next open sees the file in place and removes it.
                if let Ok(HeldState::Released) = state_of(&manifests, &record) {
                    let _ = self.drop_held(file, true);
                }
                Err(error.context(format!("hold {file}")))
            }
        }
    }

    fn rename_out(&self, manifests: &Place<'f, F>, record: &HeldRecord) -> Result<()> {
        manifests.rename(&record.file, manifests, &record.held_as, Rename::NoReplace)?;
        let standing = manifests.standing(record.held_as.as_ref(), &mut vec![0; BUFFER]);
        let is_same = matches!(&standing, Ok(Standing::File { sha256 }) if *sha256 == record.sha256);
        let synced = if is_same { manifests.sync() } else { Ok(()) };
        if is_same && synced.is_ok() {
            return Ok(());
        }
        manifests.rename(&record.held_as, manifests, &record.file, Rename::NoReplace)?;
        manifests.sync()?;
        synced?;
        standing?;
        let path = manifests.path.join(&record.file);
        Err(Error::new(ErrorKind::Changed, format!("{} changed meanwhile", path.display())))
    }

    /// Puts a held manifest back; its record goes only after the file is durably in place.
    pub(super) fn release(&self, file: &str, deadline: &Deadline) -> Result<Held> {
        check_name(file)?;
        let record = self
            .record_of(file)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{file} is not held")))?;
        let manifests = self.root.folder_if_any(&self.layout.manifests)?;
        let state = match &manifests {
            Some(manifests) => state_of(manifests, &record)?,
            None => HeldState::OnlyInSnapshot,
        };
        match (state, &manifests) {
            (HeldState::Held, Some(manifests)) => self.rename_back(manifests, &record)?,
            (HeldState::InPlaceToo, Some(manifests)) => self.drop_copy(manifests, &record)?,
            (HeldState::Released, Some(manifests)) => manifests.sync()?,
            _ => self.release_from_snapshot(&record, deadline)?,
        }
        if let Err(error) = self.drop_held(file, false) {
            // The manifest is in place, durably: that is what was asked for.
            tracing::warn!(%error, "record of a released manifest stays; the next open removes it");
        }
        Ok(record.with_state(HeldState::Released))
    }

    fn rename_back(&self, manifests: &Place<'f, F>, record: &HeldRecord) -> Result<()> {
        self.check_held_copy(manifests, record)?;
        self.check_no_twin(record)?;
        manifests.rename(&record.held_as, manifests, &record.file, Rename::NoReplace)?;
        manifests.sync().inspect_err(|_| {
            // Back to what the record says; where that fails too, the next open sees the file in place.
            let _ = manifests.rename(&record.file, manifests, &record.held_as, Rename::NoReplace);
        })
    }

    /// Fails when another file has come for the pod meanwhile; one that was there before is the caller's will.
    fn check_no_twin(&self, record: &HeldRecord) -> Result<()> {
        if record.is_twin {
            return Ok(());
        }
        let Some(pod) = self.pod_at(&self.layout.manifests.join(&record.held_as))? else { return Ok(()) };
        let Some(other) = self.other_manifest(&record.file, &pod)? else { return Ok(()) };
        let (file, other) = (&record.file, other.display());
        Err(Error::new(
            ErrorKind::Refused,
            format!("kubelet would run pod {pod} twice: {other} and {file}; move that file away first"),
        ))
    }

    fn check_held_copy(&self, manifests: &Place<'f, F>, record: &HeldRecord) -> Result<()> {
        let standing = manifests.standing(record.held_as.as_ref(), &mut vec![0; BUFFER])?;
        if standing == (Standing::File { sha256: record.sha256 }) {
            return Ok(());
        }
        // It was there a moment ago; asking again takes it from the snapshot.
        let kind = if standing == Standing::Absent { ErrorKind::Changed } else { ErrorKind::Corrupt };
        Err(Error::new(
            kind,
            format!(
                "{} is no longer what was held; snapshot {} has that",
                manifests.path.join(&record.held_as).display(),
                record.snapshot
            ),
        ))
    }

    /// Ends a hold whose manifest someone has put back: the same bytes are there twice.
    fn drop_copy(&self, manifests: &Place<'f, F>, record: &HeldRecord) -> Result<()> {
        let standing = manifests.standing(record.file.as_ref(), &mut vec![0; BUFFER])?;
        if standing != (Standing::File { sha256: record.sha256 }) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!(
                    "another {} stands in place; the held one is {}, and both are kept",
                    record.file,
                    manifests.path.join(&record.held_as).display()
                ),
            ));
        }
        self.check_held_copy(manifests, record)?;
        manifests.sync()?;
        manifests.remove(&record.held_as, super::fs::Kind::File)?;
        manifests.sync()
    }

    fn release_from_snapshot(&self, record: &HeldRecord, deadline: &Deadline) -> Result<()> {
        let path = self.layout.manifests.join(&record.file);
        let selection = Selection::Files(vec![path]);
        // It was held on this node, whatever its name and its CA are since.
        let options = RestoreOptions { replace_held: true, other_node: true, ..RestoreOptions::default() };
        self.restore(&record.snapshot, &selection, &options, deadline).map(|_| ())
    }

    fn write_held(&self, record: &HeldRecord) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|source| Error::with_source(ErrorKind::Internal, "record does not serialise", source))?;
        self.own(HELD)?.replace(&record_name(&record.file), &bytes)
    }

    pub(super) fn drop_held(&self, file: &str, sync: bool) -> Result<()> {
        let held = self.own(HELD)?;
        held.remove_if_any(record_name(file))?;
        if sync { held.sync() } else { Ok(()) }
    }

    /// Drops the records of manifests that are back in place: a hold that a crash cut short, or a
    /// release that was all but done.
    pub(super) fn recover_holds(&self) -> Result<Vec<Recovered>> {
        let mut recovered = Vec::new();
        for held in self.held()?.into_iter().filter(|held| held.state == HeldState::Released) {
            self.root.folder(&self.layout.manifests)?.sync()?;
            self.drop_held(&held.file, true)?;
            recovered.push(Recovered {
                what: "hold".into(),
                outcome: RecoveredOutcome::TakenBack,
                paths: vec![NodePath::new(self.layout.manifests.join(&held.file))],
                detail: format!("{} is in place and no longer held", held.file),
            });
        }
        Ok(recovered)
    }
}

fn state_of<F: FileSystem>(manifests: &Place<'_, F>, record: &HeldRecord) -> Result<HeldState> {
    let in_place = manifests.stat(&record.file)?.is_some();
    let held = manifests.stat(&record.held_as)?.is_some();
    Ok(match (in_place, held) {
        (false, true) => HeldState::Held,
        (false, false) => HeldState::OnlyInSnapshot,
        (true, true) => HeldState::InPlaceToo,
        (true, false) => HeldState::Released,
    })
}
