//! The streaming matcher.
//!
//! Blocks of whole lines are searched for all needles at once; only a line with a hit is taken apart.
//! A line whose text (without its head, the timestamp) was seen before is counted without that.

use std::borrow::Cow;
use std::collections::HashMap;

use super::line;
use super::needles::{self, Hits};
use super::params;
use super::seen::Seen;
use super::table::SIGNATURES;
use super::{LogMatch, Scan, ScanOptions, Signature};

/// Takes a log in pieces and collects its matches.
#[derive(Debug)]
pub struct Scanner {
    options: ScanOptions,
    source: String,
    scan: Scan,
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
    /// Index of a match by its signature and parameters.
    index: HashMap<(usize, Vec<(String, String)>), usize>,
    /// For each row of the table the match that was counted last: mostly the next one, too.
    latest: Vec<Option<usize>>,
    seen: Seen,
    /// Parts of a container's line that was cut by the runtime.
    joined: Joined,
}

#[derive(Debug, Default)]
struct Joined {
    /// Whether this log is in CRI format; `None` before its first line.
    is_cri: Option<bool>,
    /// Per stream (stdout, stderr): the content so far and the head of its first part.
    parts: [Vec<u8>; 2],
}

impl Scanner {
    /// Starts a scan of the log called `source`.
    #[must_use]
    pub fn new(source: &str, options: &ScanOptions) -> Self {
        Self {
            options: *options,
            source: source.to_owned(),
            scan: Scan::default(),
            carry: Vec::new(),
            index: HashMap::new(),
            latest: vec![None; SIGNATURES.len()],
            seen: Seen::default(),
            joined: Joined::default(),
        }
    }

    /// Takes the next piece; lines may be cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        let room = self.options.input_bytes.saturating_sub(self.scan.bytes);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let mut rest = bytes.get(..room).unwrap_or(bytes);
        self.scan.truncated |= rest.len() < bytes.len();
        self.scan.bytes = self.scan.bytes.saturating_add(rest.len() as u64);
        if !self.carry.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (head, tail) = rest.split_at(end);
            self.carry.extend_from_slice(head);
            rest = tail;
            let is_whole = self.carry.last() == Some(&b'\n');
            if is_whole || self.carry.len() >= self.options.line_bytes {
                let line = std::mem::take(&mut self.carry);
                self.block(&line);
                self.carry = line;
                self.carry.clear();
            }
            if !is_whole && rest.is_empty() {
                return;
            }
        }
        let end = memchr::memrchr(b'\n', rest).map_or(0, |at| at + 1);
        let (block, tail) = rest.split_at(end);
        self.block(block);
        for piece in tail.chunks(self.options.line_bytes.max(1)) {
            if piece.len() >= self.options.line_bytes {
                self.block(piece);
            } else {
                self.carry.extend_from_slice(piece);
            }
        }
    }

    /// Ends the scan; a last line without a line feed counts.
    #[must_use]
    pub fn finish(mut self) -> Scan {
        if !self.carry.is_empty() {
            let mut line = std::mem::take(&mut self.carry);
            line.push(b'\n');
            self.block(&line);
        }
        for stream in 0..2 {
            self.end_joined(stream);
        }
        self.seen.write_times(&mut self.scan.matches);
        self.scan.matches.sort_by_key(|found| found.first_line);
        self.scan
    }

    /// Searches whole lines (or a piece of one that is too long).
    fn block(&mut self, block: &[u8]) {
        if block.is_empty() {
            return;
        }
        let is_cri = *self.joined.is_cri.get_or_insert_with(|| {
            let first = block.split(|byte| *byte == b'\n').next().unwrap_or(block);
            line::cri(&String::from_utf8_lossy(first)).is_some()
        });
        if is_cri && (self.joined.parts.iter().any(|parts| !parts.is_empty()) || has_cut_lines(block)) {
            return self.cri_block(block);
        }
        let mut hits = Hits::new(block);
        let mut at = 0;
        let mut counted = 0;
        while let Some(hit) = hits.next(at) {
            let start = block.get(at..hit).and_then(|b| memchr::memrchr(b'\n', b)).map_or(at, |n| at + n + 1);
            let end =
                block.get(hit..).and_then(|b| memchr::memchr(b'\n', b)).map_or(block.len(), |n| hit + n);
            self.scan.lines += line_feeds(block.get(counted..start));
            counted = start;
            let number = self.scan.lines + 1;
            self.line(block.get(start..end).unwrap_or_default(), number);
            at = (end + 1).min(block.len());
        }
        self.scan.lines += line_feeds(block.get(counted..));
    }

    /// Takes a container log line by line, so that the runtime's cuts can be undone.
    fn cri_block(&mut self, block: &[u8]) {
        for raw in block.split_inclusive(|byte| *byte == b'\n') {
            let number = self.scan.lines + 1;
            self.scan.lines += u64::from(raw.last() == Some(&b'\n'));
            let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
            let text = String::from_utf8_lossy(raw);
            let Some(entry) = line::cri(&text) else {
                self.search_line(raw, number);
                continue;
            };
            let stream = usize::from(entry.stream == "stderr");
            let [out, err] = &mut self.joined.parts;
            let parts = if stream == 0 { out } else { err };
            if parts.is_empty() && !entry.partial {
                self.search_line(raw, number);
                continue;
            }
            if parts.is_empty() {
                // The head of the first part becomes the head of the whole.
                parts.extend_from_slice(format!("{} {} F ", entry.time, entry.stream).as_bytes());
            }
            parts.extend_from_slice(entry.content.as_bytes());
            if !entry.partial || parts.len() >= self.options.line_bytes {
                self.end_joined(stream);
            }
        }
    }

    fn end_joined(&mut self, stream: usize) {
        let Some(parts) = self.joined.parts.get_mut(stream) else { return };
        let whole = std::mem::take(parts);
        if !whole.is_empty() {
            self.search_line(&whole, self.scan.lines);
        }
    }

    fn search_line(&mut self, raw: &[u8], number: u64) {
        if needles::may_be_in(raw) {
            self.line(raw, number);
        }
    }

    /// Looks closely at a line that contains a needle.
    fn line(&mut self, raw: &[u8], number: u64) {
        if self.seen.count(raw, number, &mut self.scan.matches) {
            return;
        }
        // Nearly every line is UTF-8, and the check alone is faster than the repair.
        let text = std::str::from_utf8(raw).map_or_else(|_| String::from_utf8_lossy(raw), Cow::Borrowed);
        let parsed = line::parse(&text);
        let mut found = Vec::new();
        for row in rows_in(&parsed.message) {
            let Some(signature) = SIGNATURES.get(row) else { continue };
            if let Some(index) = self.record(row, signature, &parsed, number) {
                found.push(index);
            }
        }
        self.seen.remember(raw, found);
    }

    /// Counts one match; returns its index, or `None` when no more are kept.
    fn record(
        &mut self,
        row: usize,
        signature: &Signature,
        line: &line::Line<'_>,
        number: u64,
    ) -> Option<usize> {
        let params = params::read(signature.params, &line.message);
        let latest = self.latest.get(row).copied().flatten();
        let same = |index: &usize| self.scan.matches.get(*index).is_some_and(|found| found.params == params);
        let known = latest.filter(same);
        let key = (row, params);
        let index = match known.or_else(|| self.index.get(&key).copied()) {
            Some(index) => index,
            None if self.scan.matches.len() >= self.options.matches => {
                self.scan.truncated = true;
                return None;
            }
            None => {
                let index = self.scan.matches.len();
                self.scan.matches.push(LogMatch {
                    signature: signature.id,
                    source: self.source.clone(),
                    first_line: number,
                    last_line: number,
                    count: 0,
                    text: String::new(),
                    time: None,
                    params: key.1.clone(),
                });
                self.index.insert(key, index);
                index
            }
        };
        if let Some(latest) = self.latest.get_mut(row) {
            *latest = Some(index);
        }
        let found = self.scan.matches.get_mut(index)?;
        found.count += 1;
        found.last_line = number;
        found.text.clear();
        found.text.push_str(params::clip(line.message.trim(), self.options.text_bytes));
        found.time.clone_from(&line.time);
        self.seen.forget_time(index);
        Some(index)
    }
}

/// Returns the rows of the table that a message belongs to, each once.
fn rows_in(message: &str) -> Vec<usize> {
    let has = |text: &&'static str| memchr::memmem::find(message.as_bytes(), text.as_bytes()).is_some();
    let mut rows = needles::rows_in(message);
    rows.retain(|row| {
        SIGNATURES.get(*row).is_some_and(|signature| {
            (signature.also.is_empty() || signature.also.iter().any(has)) && !signature.never.iter().any(has)
        })
    });
    rows
}

/// Reports whether a line of a container log may be cut: its tag says `P`.
fn has_cut_lines(block: &[u8]) -> bool {
    memchr::memmem::find_iter(block, b" P").any(|at| matches!(block.get(at + 2), Some(b' ' | b':' | b'\n')))
}

fn line_feeds(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(0, |bytes| memchr::memchr_iter(b'\n', bytes).count() as u64)
}
