//! Finds known failure signatures in logs: one pass, bounded memory, any mixture of formats.
//!
//! Reads klog (kubelet, kube-apiserver), `journalctl -o json` and `-o short`, etcd's zap JSON and
//! 3.3's capnslog, and container log files in CRI format (partial lines are joined), also gzipped.

mod line;
mod scanner;
mod signatures;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::sys::Deadline;

pub use scanner::Scanner;
pub use signatures::{Nature, SIGNATURES, Signature, SignatureId};

/// One kind of event that a log reports, with where it was seen.
///
/// Lines with the same signature and the same parameters are one match with a count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LogMatch {
    /// Which signature.
    pub signature: SignatureId,
    /// File name or other name of the log.
    pub source: String,
    /// Line number of the first such line, from 1.
    pub first_line: u64,
    /// Line number of the last such line.
    pub last_line: u64,
    /// How many lines.
    pub count: u64,
    /// The last such line's message, at most [`ScanOptions::text_bytes`] bytes.
    pub text: String,
    /// The timestamp of the last such line, as the log writes it.
    pub time: Option<String>,
    /// What the line says, by name: `address`, `port`, `container`, `pod`, `backOff`, `volumes`, `path`, ….
    pub params: Vec<(String, String)>,
}

impl LogMatch {
    /// Returns a parameter by name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What was found in one log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Scan {
    /// The matches in the order of their first line.
    pub matches: Vec<LogMatch>,
    /// How many lines were read.
    pub lines: u64,
    /// How many (uncompressed) bytes were read.
    pub bytes: u64,
    /// Whether something was dropped: input beyond the limit, or more distinct matches than kept.
    pub truncated: bool,
}

/// Bounds of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanOptions {
    /// How many uncompressed bytes are read of one log.
    pub input_bytes: u64,
    /// How many distinct matches are kept.
    pub matches: usize,
    /// How many bytes of a line are looked at as one; the rest is scanned as a line of its own.
    pub line_bytes: usize,
    /// How many bytes of a line are kept as a match's text.
    pub text_bytes: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { input_bytes: 8 << 30, matches: 1000, line_bytes: 256 << 10, text_bytes: 1000 }
    }
}

/// Scans bytes that are in memory (not gzipped).
#[must_use]
pub fn scan_bytes(source: &str, bytes: &[u8], options: &ScanOptions) -> Scan {
    let _ = (source, bytes, options);
    todo!()
}

/// Scans a stream, gzipped or not.
///
/// # Errors
/// The kinds of a failed read, [`crate::ErrorKind::Corrupt`] for broken gzip data,
/// [`crate::ErrorKind::Timeout`] and [`crate::ErrorKind::Cancelled`].
pub fn scan_reader(
    source: &str,
    reader: impl std::io::Read,
    options: &ScanOptions,
    deadline: &Deadline,
) -> Result<Scan> {
    let _ = (source, reader, options, deadline);
    todo!()
}

/// Scans a file, gzipped or not.
///
/// # Errors
/// As [`scan_reader`], and the kinds of a failed open.
pub fn scan_file(path: &Path, options: &ScanOptions, deadline: &Deadline) -> Result<Scan> {
    let _ = (path, options, deadline);
    todo!()
}
