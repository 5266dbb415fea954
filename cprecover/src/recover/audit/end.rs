//! Where the log ends, kept beside it: a chain of digests alone does not show that its last lines are gone.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::read_bounded;

/// Name of the file in the store that names the log's last line.
pub const AUDIT_END_FILE: &str = "audit.end.json";
const NEW_END_FILE: &str = ".audit.end.json.new";
const MAX_END_BYTES: usize = 4096;

/// The last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct End {
    pub(super) sequence: u64,
    /// Of the line, without its line feed.
    pub(super) sha256: Digest,
}

/// What is known of the place where an audit log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogEnd {
    /// The last line is the one that was written last.
    Matches,
    /// There is one line more than was noted: a crash, or power loss, came in between.
    OneMore,
    /// It was not noted, as by older versions: that lines were cut off would not be seen.
    NotKept,
}

/// Returns what the file says; `None` when there is none.
pub(super) fn read(store: &Path) -> Result<Option<End>> {
    let path = store.join(AUDIT_END_FILE);
    let bytes = match read_bounded(&path, MAX_END_BYTES) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let wrong = |source| Error::with_source(ErrorKind::Corrupt, format!("read {}", path.display()), source);
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}

/// Replaces the file at once, on stable storage when this returns.
pub(super) fn write(store: &Path, end: &End) -> Result<()> {
    let bytes = serde_json::to_vec(end)
        .map_err(|source| Error::with_source(ErrorKind::Internal, "serialise the audit log's end", source))?;
    let new = store.join(NEW_END_FILE);
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&new, store.join(AUDIT_END_FILE))?;
        // Without this the name may be the old file's after a power loss, and two lines unknown to it.
        File::open(store)?.sync_all()
    };
    written().map_err(|source| Error::path("write", store.join(AUDIT_END_FILE), source))
}

/// Removes the file, on stable storage when this returns.
pub(super) fn forget(store: &Path) -> Result<()> {
    let path = store.join(AUDIT_END_FILE);
    std::fs::remove_file(&path)
        .and_then(|()| File::open(store)?.sync_all())
        .map_err(|source| Error::path("remove", &path, source))
}

/// Compares the log with what was noted of its end.
pub(super) fn compare(
    kept: Option<End>,
    entries: &[Entry],
    last: Option<Digest>,
    log: &Path,
) -> Result<LogEnd> {
    let Some(kept) = kept else {
        return Ok(if entries.is_empty() { LogEnd::Matches } else { LogEnd::NotKept });
    };
    if last == Some(kept.sha256) {
        return Ok(LogEnd::Matches);
    }
    match entries.last() {
        Some(entry) if entry.previous == Some(kept.sha256) => Ok(LogEnd::OneMore),
        Some(entry) => {
            let (sequence, noted) = (entry.sequence, kept.sequence);
            let text =
                format!("its last entry is {sequence}, and {noted} of another digest was written last");
            Err(differs(log, &text))
        }
        None => Err(differs(log, &format!("it is empty, and had {} entries", kept.sequence))),
    }
}

pub(super) fn differs(log: &Path, what: &str) -> Error {
    let message = format!(
        "{} does not end where it did: {what}; when that is meant to be so, as after an older version wrote on, \
         remove {AUDIT_END_FILE} beside it",
        log.display()
    );
    Error::new(ErrorKind::Corrupt, message)
}
