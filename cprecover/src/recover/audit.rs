//! The append-only record of everything that was done, and the engine's memory between runs.
//!
//! One JSON object a line; each names the SHA-256 of the line before it, so that a line that was
//! changed or removed is found. A line is on stable storage before its effect begins and again after it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::undo::{Undo, UndoOutcome};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::policy::Action;
use crate::policy::contract::{self, PastAction};

/// Name of the log in the store.
pub const AUDIT_FILE: &str = "audit.jsonl";
/// The largest log that is read, in bytes; one effect is two lines of under 4 KiB.
const MAX_LOG_BYTES: u64 = 256 << 20;

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
        /// What was saved and where, or why nothing could be.
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

/// The log, open for appending.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
    last: Option<Digest>,
}

impl AuditLog {
    /// Opens the log in `store`, makes it (0600) where it is missing, and cuts off a torn last line.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the chain is broken: nothing is written then.
    pub fn open(store: &Path, now_unix_ms: u64) -> Result<Self> {
        let path = store.join(AUDIT_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::path("open", &path, source))?;
        let bytes = read_all(&mut file, &path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (lines, torn) = bytes.split_at_checked(whole).unwrap_or((&bytes, &[]));
        let (entries, last) = replay(lines, &path)?;
        let mut log = Self { path, file, entries, last };
        if !torn.is_empty() {
            let length = u64::try_from(whole).unwrap_or(u64::MAX);
            log.file.set_len(length).map_err(|source| Error::path("truncate", &log.path, source))?;
            let bytes = u64::try_from(torn.len()).unwrap_or(u64::MAX);
            log.append(now_unix_ms, Event::TornTail { bytes })?;
        }
        Ok(log)
    }

    /// Reads and checks the log of `store`; writes nothing. A torn last line is not part of the result.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] naming the line where the chain breaks; [`ErrorKind::NotFound`] when there is
    /// no log.
    pub fn read(store: &Path) -> Result<Vec<Entry>> {
        let path = store.join(AUDIT_FILE);
        let mut file = File::open(&path).map_err(|source| Error::path("open", &path, source))?;
        let bytes = read_all(&mut file, &path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        replay(bytes.get(..whole).unwrap_or_default(), &path).map(|(entries, _)| entries)
    }

    /// As [`AuditLog::read`]; a store without a log, on which nothing was done yet, has no entries.
    ///
    /// # Errors
    /// As [`AuditLog::read`].
    pub fn read_if_any(store: &Path) -> Result<Vec<Entry>> {
        match Self::read(store) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
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
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Error::path("append to", &self.path, source))?;
        self.last = Some(digest);
        self.entries.push(entry);
        Ok(sequence)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path) -> AuditLog {
        AuditLog::open(dir, 5).expect("opens")
    }

    fn begin() -> Event {
        Event::Begin {
            action: Action::RestartKubelet,
            rule: "r".into(),
            reason: "because".into(),
            policy: "default 1.0.0".into(),
            undo: None,
        }
    }

    #[test]
    fn an_interrupted_effect_is_remembered_as_running() {
        let dir = tempfile::tempdir().expect("temp dir");
        let begun = log(dir.path()).append(1, begin()).expect("append");
        let history = log(dir.path()).history(9);
        assert_eq!(history.first().map(|past| past.outcome), Some(contract::Outcome::Running));
        let end = Event::End { begun, outcome: contract::Outcome::Done, detail: String::new() };
        log(dir.path()).append(9, end).expect("append");
        let history = log(dir.path()).history(9);
        assert_eq!(
            history.first().map(|past| (past.outcome, past.ended_ms)),
            Some((contract::Outcome::Done, Some(9)))
        );
    }

    #[test]
    fn a_long_history_is_read_from_its_end() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut log = log(dir.path());
        let entries = 4000_u64;
        for at in 0..entries {
            // Without the file: only the reading is looked at here.
            let event = if at % 2 == 0 {
                begin()
            } else {
                Event::End { begun: at, outcome: contract::Outcome::Done, detail: String::new() }
            };
            log.entries.push(Entry { sequence: at + 1, at_unix_ms: at, previous: None, event });
        }
        assert_eq!(log.history(usize::MAX).len(), 2000);
        let last = log.history(3);
        assert_eq!(last.iter().map(|past| past.started_ms).collect::<Vec<_>>(), [3994, 3996, 3998]);
        assert!(last.iter().all(|past| past.outcome == contract::Outcome::Done));
        assert_eq!(log.history(0), []);
    }

    #[test]
    fn a_torn_line_is_cut_off_and_said_so() {
        let dir = tempfile::tempdir().expect("temp dir");
        log(dir.path()).append(1, begin()).expect("append");
        let path = dir.path().join(AUDIT_FILE);
        let whole = std::fs::read(&path).expect("read");
        for cut in 1..whole.len() - 1 {
            let mut torn = whole.clone();
            torn.extend(whole.iter().take(cut));
            std::fs::write(&path, torn).expect("write");
            let log = log(dir.path());
            assert_eq!(log.entries().len(), 2);
            assert!(matches!(log.entries().last().map(|e| &e.event), Some(Event::TornTail { .. })));
        }
    }

    #[test]
    fn a_changed_or_removed_line_is_found() {
        let dir = tempfile::tempdir().expect("temp dir");
        for _ in 0..3 {
            log(dir.path()).append(1, begin()).expect("append");
        }
        assert_eq!(AuditLog::read(dir.path()).expect("intact").len(), 3);
        let path = dir.path().join(AUDIT_FILE);
        let text = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, text.replacen("because", "becausE", 1)).expect("write");
        let error = AuditLog::read(dir.path()).expect_err("changed");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("line 2"), "{error}");
        let without_second: Vec<&str> =
            text.lines().enumerate().filter(|(i, _)| *i != 1).map(|(_, l)| l).collect();
        std::fs::write(&path, without_second.join("\n") + "\n").expect("write");
        assert!(AuditLog::open(dir.path(), 1).is_err());
    }
}
