//! The journal of intent: what a change is about to do, so that a crash in it can be ended.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::fs::place::{Place, split};
use super::fs::{Attributes, FileSystem, Kind};
use super::held::is_of_machine;
use super::snapshot::{NodePath, SnapshotId};
use super::vault::{JOURNAL, Vault};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

const SCHEMA: &str = "cprecover.dev/backup-journal/v1";
/// The largest record that is read: 100,000 steps of 600 bytes.
const MAX_RECORD_BYTES: usize = 64 << 20;

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    /// New files are being put next to the old ones; a crash takes everything back.
    Staging,
    /// Everything is staged durably; a crash is followed by the rest of the renames.
    Committed,
}

/// What stands, or shall stand, at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Standing {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// Its content.
        sha256: Digest,
    },
    /// A symbolic link.
    Symlink {
        /// Its target.
        target: NodePath,
    },
}

/// One path's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    /// The file, absolute on the node.
    pub(super) path: NodePath,
    /// The dot-name next to it: holds the new file before the change, and after it the old one unless that is
    /// kept by a name of its own.
    pub(super) staged: String,
    /// The second name of the old file, given to it before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<String>,
    pub(super) old: Standing,
    pub(super) new: Standing,
    /// The new attributes, only where old and new are the same but for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attributes: Option<Attributes>,
    /// The old attributes, only where the new ones are set on the file itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) old_attributes: Option<Attributes>,
}

/// A folder of the node whose attributes are set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FolderStep {
    pub(super) path: NodePath,
    /// Whether it did not exist.
    pub(super) is_new: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attributes: Option<Attributes>,
}

/// One change of several files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    schema: String,
    pub(super) what: String,
    pub(super) phase: Phase,
    /// The snapshot of what stood there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<SnapshotId>,
    pub(super) folders: Vec<FolderStep>,
    pub(super) steps: Vec<Step>,
}

impl Record {
    pub(super) fn new(what: &str, folders: Vec<FolderStep>, steps: Vec<Step>) -> Self {
        Self { schema: SCHEMA.into(), what: what.into(), phase: Phase::Staging, before: None, folders, steps }
    }

    /// Reads a record and checks what recovery relies on.
    pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let record: Self = serde_json::from_slice(bytes).map_err(|source| {
            Error::with_source(ErrorKind::Corrupt, format!("journal record {name} is malformed"), source)
        })?;
        if record.schema != SCHEMA {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "journal record {name} has schema {:?}, this version reads {SCHEMA:?}",
                    record.schema
                ),
            ));
        }
        let wrong =
            |what: String| Err(Error::new(ErrorKind::Corrupt, format!("journal record {name} {what}")));
        let paths = record.steps.iter().map(|step| &step.path);
        for path in paths.chain(record.folders.iter().map(|folder| &folder.path)) {
            if split(path.as_path()).is_err() {
                return wrong(format!("names {path}, which is not absolute and plain"));
            }
        }
        for step in &record.steps {
            // What is staged is removed in the end; a held manifest must never be taken for it.
            let ours = |name: &&str| {
                name.starts_with(super::vault::OURS)
                    && !name.starts_with(super::vault::HELD_PREFIX)
                    && super::snapshot::is_plain_name(name.as_ref())
            };
            if let Some(other) = step.names().find(|name| !ours(name)) {
                return wrong(format!("stages {other:?}"));
            }
        }
        Ok(record)
    }
}

impl<F: FileSystem> Vault<'_, F> {
    /// Writes a record durably.
    pub(super) fn write_record(&self, name: &str, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|source| {
            Error::with_source(ErrorKind::Internal, "journal record does not serialise", source)
        })?;
        self.own(JOURNAL)?.replace(name, &bytes)
    }

    /// Removes a record; durably only when `sync` says so.
    pub(super) fn remove_record(&self, name: &str, sync: bool) -> Result<()> {
        let journal = self.own(JOURNAL)?;
        journal.remove_if_any(name)?;
        if sync { journal.sync() } else { Ok(()) }
    }

    /// Reads all records, oldest first.
    pub(super) fn records(&self) -> Result<Vec<(String, Record)>> {
        let Some(journal) = self.part(JOURNAL)? else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        for name in journal.list()? {
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let record = journal.read(name, MAX_RECORD_BYTES).and_then(|bytes| Record::parse(name, &bytes));
            let record = record.map_err(|error| {
                if is_of_machine(&error) {
                    return error;
                }
                let path = journal.path.join(name);
                let what = format!(
                    "{} tells of a change that was cut short and cannot be read; move it away to go on: the \
                     files of that change then stay as they are, and the snapshot that was taken before has what \
                     they were",
                    path.display()
                );
                Error::with_source(error.kind(), what, error)
            })?;
            records.push((name.to_owned(), record));
        }
        Ok(records)
    }
}

impl<F: FileSystem> Place<'_, F> {
    /// Reports whether a file has owner, mode, time and extended attributes as given; of a link, owner
    /// and time.
    pub(super) fn has_attributes(&self, name: &std::ffi::OsStr, wanted: &Attributes) -> Result<bool> {
        let Some(stat) = self.stat(name)? else { return Ok(false) };
        if (stat.uid, stat.gid, stat.modified) != (wanted.uid, wanted.gid, wanted.modified) {
            return Ok(false);
        }
        if stat.kind != Kind::File {
            return Ok(true);
        }
        let (file, _) = self.open_file(name)?;
        let xattrs = self.told("read extended attributes of", name, self.fs.xattrs(&file))?;
        Ok(stat.mode == wanted.mode && xattrs == wanted.xattrs)
    }

    /// Reports whether exactly this stands under `name`; a folder or device is something else.
    pub(super) fn has(&self, name: &std::ffi::OsStr, wanted: &Standing, buffer: &mut [u8]) -> Result<bool> {
        match self.standing(name, buffer) {
            Err(error) if error.kind() == ErrorKind::Refused => Ok(false),
            other => other.map(|found| found == *wanted),
        }
    }

    /// Tells what stands under `name`; a folder or device is an error, since nothing replaces those.
    pub(super) fn standing(&self, name: &std::ffi::OsStr, buffer: &mut [u8]) -> Result<Standing> {
        match self.stat(name)?.map(|stat| stat.kind) {
            None => Ok(Standing::Absent),
            Some(Kind::Symlink) => Ok(Standing::Symlink { target: self.read_link(name)? }),
            Some(Kind::File) => {
                let (file, _) = self.open_file(name)?;
                let mut hash = sha2::Sha256::new();
                self.stream(name, &file, u64::MAX, buffer, |chunk| {
                    hash.update(chunk);
                    Ok(())
                })?;
                Ok(Standing::File { sha256: Digest::from_bytes(hash.finalize().into()) })
            }
            Some(_) => Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "{} is neither a file nor a link and is not replaced",
                    self.path.join(name).display()
                ),
            )),
        }
    }
}

/// Joins a path on the node to a prefix on the node.
pub(super) fn below(prefix: Option<&std::path::Path>, path: &std::path::Path) -> PathBuf {
    match prefix {
        Some(prefix) => prefix.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}
