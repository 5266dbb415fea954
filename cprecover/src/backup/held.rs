//! The store's records of held manifests; of one that cannot be read its name still tells which manifest is held.

use std::path::PathBuf;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::fs::FileSystem;
use super::hold::{Held, HeldState};
use super::prune::{Kept, PruneReport};
use super::snapshot::{SnapshotId, is_plain_name};
use super::vault::{HELD, HELD_PREFIX, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

const SCHEMA: &str = "cprecover.dev/held-manifest/v1";
/// The largest record that is read.
const MAX_RECORD_BYTES: usize = 64 * 1024;
/// What follows the manifest's name in the record's.
const SUFFIX: &str = ".json";

/// A manifest that is held by a record that cannot be read.
///
/// Nothing of it is touched, and no snapshot is pruned, until somebody has moved the record away.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadableHold {
    /// Its name in the manifests folder.
    pub file: String,
    /// The record.
    pub record: PathBuf,
    /// Whether a file of its name stands in the manifests folder.
    pub is_in_place: bool,
    /// Which record cannot be read, why, and what to do about it, for people.
    pub message: String,
}

impl UnreadableHold {
    pub(super) fn refusal(self) -> Error {
        Error::new(ErrorKind::Refused, self.message)
    }
}

/// What the store keeps about the held manifests.
#[derive(Default)]
pub(super) struct HeldRecords {
    pub(super) known: Vec<HeldRecord>,
    pub(super) unreadable: Vec<UnreadableHold>,
}

/// What the store keeps about a held manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeldRecord {
    schema: String,
    pub(super) file: String,
    pub(super) held_as: String,
    pub(super) sha256: Digest,
    pub(super) snapshot: SnapshotId,
    pub(super) since_unix_s: u64,
    pub(super) reason: String,
    /// Whether it was set aside: kubelet ran its pod from another file too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_twin: bool,
}

impl HeldRecord {
    pub(super) fn new(file: &str, sha256: Digest, snapshot: SnapshotId, since: u64, reason: &str) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            file: file.to_owned(),
            held_as: held_name(file),
            sha256,
            snapshot,
            since_unix_s: since,
            reason: reason.to_owned(),
            is_twin: false,
        }
    }

    pub(super) fn with_state(self, state: HeldState) -> Held {
        Held {
            file: self.file,
            held_as: self.held_as,
            sha256: self.sha256,
            snapshot: self.snapshot,
            since_unix_s: self.since_unix_s,
            reason: self.reason,
            state,
        }
    }

    /// Says whether kubelet ran its pod from another file too.
    pub(super) fn of_twin(self, is_twin: bool) -> Self {
        Self { is_twin, ..self }
    }

    /// Fails when it is the record of another manifest than its name says.
    fn of(self, file: &str) -> Result<Self> {
        if self.file == file {
            return Ok(self);
        }
        Err(Error::new(ErrorKind::Corrupt, format!("it is the record of {:?}", self.file)))
    }

    pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let record: Self = serde_json::from_slice(bytes).map_err(|source| {
            Error::with_source(
                ErrorKind::Corrupt,
                format!("record of held manifest {name} is malformed"),
                source,
            )
        })?;
        if record.schema != SCHEMA {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("record {name} has schema {:?}, this version reads {SCHEMA:?}", record.schema),
            ));
        }
        check_name(&record.file)?;
        if record.held_as != held_name(&record.file) {
            return Err(Error::new(ErrorKind::Corrupt, format!("record {name} holds {:?}", record.held_as)));
        }
        Ok(record)
    }
}

pub(super) fn held_name(file: &str) -> String {
    format!("{HELD_PREFIX}{file}")
}

/// Returns the name of a manifest's record.
pub(super) fn record_name(file: &str) -> String {
    format!("{file}{SUFFIX}")
}

pub(super) fn check_name(file: &str) -> Result<()> {
    if !is_plain_name(file.as_ref()) || file.starts_with('.') || file.len() > 200 {
        return Err(Error::new(ErrorKind::Invalid, format!("{file:?} is not the name of a manifest")));
    }
    Ok(())
}

impl<F: FileSystem> Vault<'_, F> {
    /// Reads the records of held manifests, all of which must be readable.
    pub(super) fn held_records(&self) -> Result<Vec<HeldRecord>> {
        let records = self.holds()?;
        records.unreadable.into_iter().next().map_or(Ok(records.known), |hold| Err(hold.refusal()))
    }

    /// Reads the record of a held manifest; `None` when it is not held.
    pub(super) fn record_of(&self, file: &str) -> Result<Option<HeldRecord>> {
        // At one look: what cannot be read a moment later must not pass for what is not held.
        let records = self.holds()?;
        match records.unreadable.into_iter().find(|hold| hold.file == file) {
            Some(hold) => Err(hold.refusal()),
            None => Ok(records.known.into_iter().find(|record| record.file == file)),
        }
    }

    /// Reads the records of held manifests.
    pub(super) fn holds(&self) -> Result<HeldRecords> {
        let mut records = HeldRecords::default();
        let Some(held) = self.part(HELD)? else { return Ok(records) };
        for name in held.list()? {
            // Only a record's name says that a manifest is held.
            let file = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            let Some(file) = file.filter(|file| check_name(file).is_ok()) else { continue };
            let name = record_name(file);
            let record = match held.read_if_any(&name, MAX_RECORD_BYTES) {
                Ok(None) => continue,
                Ok(Some(bytes)) => HeldRecord::parse(&name, &bytes).and_then(|record| record.of(file)),
                Err(error) => Err(error),
            };
            match record {
                Ok(record) => records.known.push(record),
                Err(error) if is_of_machine(&error) => return Err(error),
                Err(error) => records.unreadable.push(self.unreadable(file, held.path.join(name), &error)?),
            }
        }
        Ok(records)
    }

    fn unreadable(&self, file: &str, record: PathBuf, error: &Error) -> Result<UnreadableHold> {
        let manifests = self.root.folder_if_any(&self.layout.manifests)?;
        let is_in_place = match &manifests {
            Some(manifests) => manifests.stat(file)?.is_some(),
            None => false,
        };
        let copy = self.layout.manifests.join(held_name(file));
        let message = format!(
            "the record {} of the held {file} cannot be read ({error}); move it away to hold {file} no longer: \
             what was held stays as {}, and in the snapshot that was taken before",
            record.display(),
            copy.display()
        );
        Ok(UnreadableHold { file: file.to_owned(), record, is_in_place, message })
    }

    /// What a pruning comes to while a record cannot be read: any snapshot may be the one that it needs.
    pub(super) fn nothing_pruned(&self) -> Result<Option<PruneReport>> {
        let Some(hold) = self.holds()?.unreadable.into_iter().next() else { return Ok(None) };
        let record = hold.record.display();
        let reason = format!("the record {record} of the held {} cannot be read; move it away", hold.file);
        let kept = self.ids()?.into_iter().map(|id| Kept { id, reason: reason.clone() }).collect();
        Ok(Some(PruneReport { removed: Vec::new(), kept }))
    }
}

/// Reports whether a reading failed for a reason that has nothing to do with what was read.
pub(super) fn is_of_machine(error: &Error) -> bool {
    let codes = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    error.os_error().is_some_and(|code| codes.contains(&code))
}
