//! The readers of what a store or a remote holds, for fuzzing: bytes that a disk or a stranger may have
//! changed. No part of the API.

use super::held::HeldRecord;
use super::journal::Record;
use super::remote::pointer::Pointer;
use super::vault::parse_index;
use super::{RemoteSnapshot, Snapshot, SnapshotId};
use crate::error::Result;

/// Reads the index of snapshot `id`.
///
/// # Errors
/// As [`super::Store::load`].
pub fn snapshot_index(id: &SnapshotId, bytes: &[u8]) -> Result<Snapshot> {
    parse_index(id, bytes)
}

/// Reads a record of the journal; returns the paths that a recovery would work on.
///
/// # Errors
/// [`crate::ErrorKind::Corrupt`] or [`crate::ErrorKind::Unsupported`].
pub fn journal_record(bytes: &[u8]) -> Result<Vec<std::path::PathBuf>> {
    let record = Record::parse("fuzz", bytes)?;
    let staged = |step: &super::journal::Step| {
        [step.path.clone().into(), step.path.as_path().with_file_name(&step.staged)]
    };
    let folders = record.folders.iter().map(|folder| folder.path.clone().into());
    Ok(record.steps.iter().flat_map(staged).chain(folders).collect())
}

/// Reads the record of a held manifest; returns the names that a release would work on.
///
/// # Errors
/// As [`journal_record`].
pub fn held_record(bytes: &[u8]) -> Result<[String; 2]> {
    HeldRecord::parse("fuzz", bytes).map(|record| [record.file, record.held_as])
}

/// Reads what a remote says about snapshot `of`.
///
/// # Errors
/// As [`journal_record`].
pub fn remote_snapshot(of: &RemoteSnapshot, bytes: &[u8]) -> Result<()> {
    Pointer::parse(of, bytes).map(|_| ())
}
