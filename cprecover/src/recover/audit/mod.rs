//! The append-only record of everything that was done, and the engine's memory between runs.
//!
//! One JSON object a line; each names the SHA-256 of the line before it, and a [file beside the log](AUDIT_END_FILE)
//! that of the last one, so that a line that was changed, removed or cut off the end is found. Whoever
//! rewrites both is not: they are no signature. A log that is gone as a whole is said so, and begun anew by the
//! next run. A line is on stable storage before its effect begins and again
//! after it.

mod end;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::end::End;
pub use self::end::{AUDIT_END_FILE, LogEnd};
use super::undo::{Undo, UndoOutcome};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::policy::Action;
use crate::policy::contract::{self, PastAction};

/// Name of the log in the store.
pub const AUDIT_FILE: &str = "audit.jsonl";
/// The largest log that is read, in bytes; one effect is two lines of under 4 KiB.
const MAX_LOG_BYTES: u64 = 256 << 20;
/// How often a log is read that somebody else writes on meanwhile.
const MAX_LOOKS: u32 = 8;

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// An effect is about to begin.
    Begin {
        /// What is done.
        action: Action,
        /// The policy's rule that wanted it.
        rule: String,
        /// The policy's reason.
        reason: String,
        /// The policy: name, version and digest.
        policy: String,
        /// How it is taken back, should its run fail; none where it cannot or need not be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        undo: Option<Undo>,
    },
    /// Before the effect something was saved, so that it can be taken back.
    Saved {
        /// The sequence number of the effect's beginning.
        begun: u64,
        /// What was saved and where.
        detail: String,
    },
    /// Before the effect nothing could be saved.
    NotSaved {
        /// The sequence number of the effect's beginning.
        begun: u64,
        /// Why.
        detail: String,
    },
    /// An effect has ended.
    End {
        /// The sequence number of its beginning.
        begun: u64,
        /// How it ended.
        outcome: contract::Outcome,
        /// What changed, with digests before and after where files changed.
        detail: String,
    },
    /// A run has failed, and these effects of it are about to be taken back, in this order.
    Undoing {
        /// The sequence numbers of their beginnings.
        effects: Vec<u64>,
    },
    /// What came of taking one effect back.
    Undone {
        /// The sequence number of the effect's beginning.
        begun: u64,
        /// How the undo ended.
        outcome: UndoOutcome,
        /// What changed, or why nothing was.
        detail: String,
    },
    /// The node was verified healthy.
    Healthy,
    /// A person was called.
    Escalated {
        /// Why.
        summary: String,
    },
    /// The last line was torn by a crash and was cut off.
    TornTail {
        /// How many bytes were cut off.
        bytes: u64,
    },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Entry {
    /// 1 for the first line, one more for each.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The digest of the line before, without its line feed; none for the first.
    pub previous: Option<Digest>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A log that was read and checked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CheckedLog {
    /// Every whole line, oldest first.
    pub entries: Vec<Entry>,
    /// How many bytes of a torn last line were passed over; the next run cuts them off.
    pub torn_bytes: u64,
    /// What is known of where it ends.
    pub end: LogEnd,
}

/// The log, open for appending.
#[derive(Debug)]
pub struct AuditLog {
    store: PathBuf,
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
    last: Option<Digest>,
    /// Whether the file beside the log names the last line.
    end_is_kept: bool,
}

impl AuditLog {
    /// Opens the log in `store`, makes it (0600) where it is missing, and cuts off a torn last line.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the chain is broken, or the log does not end where it did: nothing is
    /// written then.
    pub fn open(store: &Path, now_unix_ms: u64) -> Result<Self> {
        let path = store.join(AUDIT_FILE);
        let mut kept = end::read(store)?;
        // A recovery does not wait for a log that somebody moved away as a whole.
        if kept.is_some_and(|kept| is_gone(&path, &kept)) {
            // Else the new log, as long as it is empty, would not end where the old one did.
            end::forget(store)?;
            kept = None;
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path).map_err(|source| Error::path("open", &path, source))?;
        let bytes = read_all(&mut file, &path)?;
        let (lines, torn) = whole_lines(&bytes);
        let (entries, last) = replay(lines, &path)?;
        let end = end::compare(kept, &entries, last, &path)?;
        if end == LogEnd::NotKept {
            tracing::warn!(path = %path.display(), "where the audit log ends was not kept until now");
        }
        let (whole, cut) = (length(lines), length(torn));
        let store = store.to_owned();
        let mut log = Self { store, path, file, entries, last, end_is_kept: end == LogEnd::Matches };
        log.keep_end()?;
        if cut > 0 {
            log.file.set_len(whole).map_err(|source| Error::path("truncate", &log.path, source))?;
            log.append(now_unix_ms, Event::TornTail { bytes: cut })?;
        }
        Ok(log)
    }

    /// Reads and checks the log of `store`; writes nothing. A torn last line is not part of the result.
    ///
    /// # Errors
    /// As [`AuditLog::check`].
    pub fn read(store: &Path) -> Result<Vec<Entry>> {
        Self::check(store).map(|checked| checked.entries)
    }

    /// Reads and checks the log of `store`, and says what is known of its end; writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] naming the line where the chain breaks, or when the log does not end where it
    /// did; [`ErrorKind::NotFound`] when there is no log.
    pub fn check(store: &Path) -> Result<CheckedLog> {
        let path = store.join(AUDIT_FILE);
        let mut looks = 0;
        loop {
            let kept = end::read(store)?;
            let mut file = File::open(&path).map_err(|source| missing(kept, &path, source))?;
            let bytes = read_all(&mut file, &path)?;
            let (lines, torn) = whole_lines(&bytes);
            let (entries, last) = replay(lines, &path)?;
            looks += 1;
            match end::compare(kept, &entries, last, &path) {
                Ok(end) => return Ok(CheckedLog { entries, torn_bytes: length(torn), end }),
                // Somebody wrote on between the two reads.
                Err(_) if looks < MAX_LOOKS && end::read(store)? != kept => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`AuditLog::read`]; a store without a log, on which nothing was done yet, has no entries.
    ///
    /// # Errors
    /// As [`AuditLog::read`].
    pub fn read_if_any(store: &Path) -> Result<Vec<Entry>> {
        let exists = std::fs::symlink_metadata(store.join(AUDIT_FILE));
        match exists.map_err(|error| error.kind()) {
            Err(std::io::ErrorKind::NotFound) => Ok(Vec::new()),
            _ => Self::read(store),
        }
    }

    /// Appends one line and returns its sequence number once it is on stable storage.
    ///
    /// # Errors
    /// The kinds of a failed write; then the effect must not begin.
    pub fn append(&mut self, now_unix_ms: u64, event: Event) -> Result<u64> {
        let sequence = self.entries.last().map_or(1, |entry| entry.sequence + 1);
        let entry = Entry { sequence, at_unix_ms: now_unix_ms, previous: self.last, event };
        let mut line = serde_json::to_vec(&entry)
            .map_err(|source| Error::with_source(ErrorKind::Internal, "serialise audit entry", source))?;
        let digest = Digest::of(&line);
        line.push(b'\n');
        // Else this line would be the second one that the file beside the log does not know.
        self.keep_end()?;
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Error::path("append to", &self.path, source))?;
        self.last = Some(digest);
        self.entries.push(entry);
        self.end_is_kept = false;
        self.keep_end()?;
        Ok(sequence)
    }

    fn keep_end(&mut self) -> Result<()> {
        if let (false, Some(entry), Some(sha256)) = (self.end_is_kept, self.entries.last(), self.last) {
            end::write(&self.store, &End { sequence: entry.sequence, sha256 })?;
            self.end_is_kept = true;
        }
        Ok(())
    }

    /// Returns all entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the last `limit` effects, oldest first; one that a crash interrupted is `running`.
    #[must_use]
    pub fn history(&self, limit: usize) -> Vec<PastAction> {
        let begins = self.entries.iter().enumerate().rev();
        let mut begins = begins.filter(|(_, entry)| matches!(entry.event, Event::Begin { .. }));
        // An effect's end comes after its beginning, so that the tail holds all that is needed.
        let first = begins.by_ref().take(limit).last().map_or(self.entries.len(), |(place, _)| place);
        history(self.entries.get(first..).unwrap_or_default())
    }
}

/// Returns the effects that the entries tell of, oldest first.
#[must_use]
pub fn history(entries: &[Entry]) -> Vec<PastAction> {
    let ends: BTreeMap<u64, (u64, contract::Outcome)> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::End { begun, outcome, .. } => Some((*begun, (entry.at_unix_ms, *outcome))),
            _ => None,
        })
        .collect();
    entries
        .iter()
        .filter_map(|entry| {
            let Event::Begin { action, rule, .. } = &entry.event else { return None };
            let end = ends.get(&entry.sequence);
            Some(PastAction {
                kind: action.kind(),
                target: action.target(),
                rule_id: rule.clone(),
                started_ms: entry.at_unix_ms,
                ended_ms: end.map(|(at, _)| *at),
                outcome: end.map_or(contract::Outcome::Running, |(_, outcome)| *outcome),
            })
        })
        .collect()
}

fn read_all(file: &mut File, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.take(MAX_LOG_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::path("read", path, source))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_LOG_BYTES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("{} is over {MAX_LOG_BYTES} bytes", path.display()),
        ));
    }
    Ok(bytes)
}

fn is_gone(path: &Path, kept: &End) -> bool {
    let found = std::fs::symlink_metadata(path);
    let gone = found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    if gone {
        tracing::warn!(path = %path.display(), entries = kept.sequence, "the audit log is gone; it is begun anew");
    }
    gone
}

/// Says that a log cannot be opened; one that is gone is not one that never was.
fn missing(kept: Option<End>, path: &Path, source: std::io::Error) -> Error {
    match kept {
        Some(kept) if source.kind() == std::io::ErrorKind::NotFound => {
            end::differs(path, &format!("it is gone, and had {} entries", kept.sequence))
        }
        _ => Error::path("open", path, source),
    }
}

/// Splits a torn last line off.
fn whole_lines(bytes: &[u8]) -> (&[u8], &[u8]) {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes.split_at_checked(whole).unwrap_or((bytes, &[]))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Reads bytes as an audit log, for fuzzing.
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = replay(bytes, Path::new("fuzz"));
}

fn replay(bytes: &[u8], path: &Path) -> Result<(Vec<Entry>, Option<Digest>)> {
    let mut entries = Vec::new();
    let mut last = None;
    for (index, line) in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let broken = |why: &str| {
            Error::new(ErrorKind::Corrupt, format!("{} line {}: {why}", path.display(), index + 1))
        };
        let entry: Entry = serde_json::from_slice(line).map_err(|error| broken(&error.to_string()))?;
        if entry.previous != last {
            return Err(broken(
                "does not follow from the line before it: a line was changed, added or removed",
            ));
        }
        last = Some(Digest::of(line));
        entries.push(entry);
    }
    Ok((entries, last))
}
