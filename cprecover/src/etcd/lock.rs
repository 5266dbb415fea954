//! Who holds a member's database.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::Pid;

/// Whether a process holds the lock on `member/snap/db`.
///
/// bbolt takes an exclusive `flock(2)` for as long as the database is open (bbolt `bolt_unix.go`), so the
/// lock is the authority on "nobody else has it": a second listener can be hidden by
/// `--socket-reuse-port`, the lock cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DataLock {
    /// Nobody holds it.
    Free,
    /// A process holds it.
    Held {
        /// Those that can be named; empty when the holder lives in a pid namespace that we cannot see.
        holders: Vec<LockHolder>,
    },
    /// There is no file to lock.
    NoFile,
    /// It could not be found out.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// A process that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LockHolder {
    /// The process.
    pub pid: Pid,
    /// Its short name, `/proc/PID/comm`, where it can be read.
    pub comm: Option<String>,
    /// The locked file.
    pub file: PathBuf,
}
