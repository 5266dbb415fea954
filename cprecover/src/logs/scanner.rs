//! The streaming matcher.
//!
//! Blocks of whole lines are searched for all needles at once; only a line with a hit is taken apart.
//! A line whose text (without its head, the timestamp) was seen before is counted without that.

use std::collections::HashMap;
use std::sync::OnceLock;

use aho_corasick::packed;
use aho_corasick::{AhoCorasick, MatchKind, Span};

use super::line;
use super::params;
use super::seen::Seen;
use super::table::SIGNATURES;
use super::{LogMatch, Scan, ScanOptions, Signature};

/// The automata, built once.
struct Automata {
    /// Finds any needle, fast; `None` on processors without the vector instructions.
    any: Option<packed::Searcher>,
    /// Finds all needles.
    all: AhoCorasick,
    /// For each needle its row of the table.
    rows: Vec<usize>,
}

fn automata() -> &'static Automata {
    static AUTOMATA: OnceLock<Automata> = OnceLock::new();
    AUTOMATA.get_or_init(|| {
        let needles: Vec<&str> = SIGNATURES.iter().flat_map(|row| row.needles).copied().collect();
        let rows =
            SIGNATURES.iter().enumerate().flat_map(|(at, row)| row.needles.iter().map(move |_| at)).collect();
        let any = packed::Config::new()
            .heuristic_pattern_limits(false)
            .builder()
            .extend(needles.iter().copied())
            .build();
        let all = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&needles);
        Automata {
            any,
            // The patterns are constants; that they build is proven by every test of this module.
            all: all.expect("constant needles build"),
            rows,
        }
    })
}

impl Automata {
    /// Returns where the next needle begins in `haystack`, from `from` on.
    fn find(&self, haystack: &[u8], from: usize) -> Option<usize> {
        let span = Span { start: from, end: haystack.len() };
        match &self.any {
            Some(searcher) => searcher.find_in(haystack, span).map(|found| found.start()),
            None => self.all.find(aho_corasick::Input::new(haystack).span(span)).map(|found| found.start()),
        }
    }
}

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
        if is_cri {
            return self.cri_block(block);
        }
        let automata = automata();
        let mut at = 0;
        let mut counted = 0;
        while let Some(hit) = automata.find(block, at) {
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
        if automata().find(raw, 0).is_some() {
            self.line(raw, number);
        }
    }

    /// Looks closely at a line that contains a needle.
    fn line(&mut self, raw: &[u8], number: u64) {
        if self.seen.count(raw, number, &mut self.scan.matches) {
            return;
        }
        let text = String::from_utf8_lossy(raw);
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
        let key = (row, params);
        let index = match self.index.get(&key) {
            Some(index) => *index,
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
    let automata = automata();
    let mut rows: Vec<usize> = Vec::new();
    for found in automata.all.find_overlapping_iter(message) {
        if let Some(row) = automata.rows.get(found.pattern().as_usize())
            && !rows.contains(row)
        {
            rows.push(*row);
        }
    }
    rows.retain(|row| {
        SIGNATURES.get(*row).is_some_and(|signature| {
            (signature.also.is_empty() || signature.also.iter().any(|text| message.contains(text)))
                && !signature.never.iter().any(|text| message.contains(text))
        })
    });
    rows
}

fn line_feeds(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(0, |bytes| memchr::memchr_iter(b'\n', bytes).count() as u64)
}
