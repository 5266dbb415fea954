//! Finds known failure signatures in logs: one pass, bounded memory, any mixture of formats.
//!
//! Reads klog (kubelet, kube-apiserver), `journalctl -o json` and `-o short`, etcd's zap JSON and
//! 3.3's capnslog, and container log files in CRI format (partial lines are joined), also gzipped.

mod line;
mod needles;
mod params;
mod scanner;
mod seen;
mod signatures;
mod table;

use std::io::BufRead;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::Deadline;

pub use scanner::Scanner;
pub use signatures::{Nature, Signature, SignatureId};
pub use table::SIGNATURES;

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
    let mut scanner = Scanner::new(source, options);
    scanner.feed(bytes);
    scanner.finish()
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
    let mut reader = std::io::BufReader::with_capacity(PIECE_BYTES, reader);
    let doing = || format!("read {source}");
    let head = reader.fill_buf().map_err(|error| Error::io(doing(), error))?;
    if head.starts_with(&[0x1f, 0x8b]) {
        let unpacked = flate2::bufread::MultiGzDecoder::new(reader);
        read_pieces(source, std::io::BufReader::with_capacity(PIECE_BYTES, unpacked), options, deadline)
            .map_err(|error| match error.kind() {
                ErrorKind::Io | ErrorKind::Invalid => {
                    Error::with_source(ErrorKind::Corrupt, format!("{source} is not sound gzip data"), error)
                }
                _ => error,
            })
    } else {
        read_pieces(source, reader, options, deadline)
    }
}

/// Size of the pieces that are read and searched.
const PIECE_BYTES: usize = 256 << 10;

fn read_pieces(
    source: &str,
    mut reader: impl BufRead,
    options: &ScanOptions,
    deadline: &Deadline,
) -> Result<Scan> {
    let mut scanner = Scanner::new(source, options);
    let mut total: u64 = 0;
    loop {
        deadline.check(&format!("read {source}"))?;
        let piece = match reader.fill_buf() {
            Ok(piece) => piece,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(format!("read {source}"), error)),
        };
        // One piece past the limit lets the scanner see that something was dropped.
        if piece.is_empty() || total > options.input_bytes {
            return Ok(scanner.finish());
        }
        scanner.feed(piece);
        let length = piece.len();
        total = total.saturating_add(length as u64);
        reader.consume(length);
    }
}

/// Scans a file, gzipped or not.
///
/// # Errors
/// As [`scan_reader`], and the kinds of a failed open.
pub fn scan_file(path: &Path, options: &ScanOptions, deadline: &Deadline) -> Result<Scan> {
    let file = std::fs::File::open(path).map_err(|source| Error::path("open", path, source))?;
    scan_reader(&path.display().to_string(), file, options, deadline)
}

#[cfg(test)]
mod tests;
