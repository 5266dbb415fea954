//! Answers in text, and the texts in which people and kubectl quote them.

use memchr::memmem;

use super::{Check, CheckState, Report};

/// What the answer says about itself, apart from its checks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    /// A trailer or `ok` says that all is well.
    pub(super) passed: bool,
    /// A trailer or an error text says that it is not.
    pub(super) failed: bool,
    /// A text that only a living server gives, but that says nothing about health.
    pub(super) alive: bool,
}

/// Texts of Go's HTTP server and the API server's filters that only prove life.
const ALIVE: [&str; 6] = [
    "Unauthorized",
    "Forbidden",
    "forbidden: User",
    "404 page not found",
    "Client sent an HTTP request to an HTTPS server",
    "Too many requests",
];

/// The endpoints that a trailer at the end of a line can name.
const ENDPOINTS: [&str; 4] = ["healthz", "livez", "readyz", "statusz"];

/// Reads an answer line by line; every line that it does not understand is kept.
pub(super) fn read(text: &str, report: &mut Report, said: &mut Said) {
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        if let Some(name) = passed(line) {
            keep_check(Check { name: name.to_owned(), state: CheckState::Ok, reason: None }, report);
            continue;
        }
        // `>` and `|` quote, in mails and in write-ups of incidents.
        let line = line.trim_start_matches(|c: char| c.is_whitespace() || c == '>' || c == '|').trim_end();
        if !line.is_empty() {
            read_line(line, report, said);
        }
    }
}

/// Reads one line, which may hold a whole answer.
fn read_line(line: &str, report: &mut Report, said: &mut Said) {
    let mut rest = line;
    match next_mark(rest, 0) {
        Some(start) => {
            let (before, marked) = rest.split_at(start);
            if !before.trim().is_empty() {
                read_plain(before.trim(), report, said);
            }
            rest = marked;
        }
        None => return read_plain(line, report, said),
    }
    while !rest.is_empty() {
        let end = next_mark(rest, MARK).unwrap_or(rest.len());
        let (segment, after) = rest.split_at(end);
        read_check(segment.trim_end(), report, said);
        rest = after;
    }
}

/// kube-apiserver has about 40.
const USUAL_CHECKS: usize = 48;

/// Length of `[+]`.
const MARK: usize = 3;

/// Finds the next `[+]` or `[-]` at the start of a word, from byte `from` on.
fn next_mark(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(found) = memchr::memchr(b'[', bytes.get(at..)?) {
        let start = at + found;
        let is_mark = matches!(bytes.get(start..start + MARK), Some(b"[+]" | b"[-]"));
        let starts_word = start == 0 || bytes.get(start - 1).is_some_and(u8::is_ascii_whitespace);
        if is_mark && starts_word {
            return Some(start);
        }
        at = start + 1;
    }
    None
}

/// Reads `[+]name ok` and its kin; the last one of a line may carry what follows the checks.
fn read_check(segment: &str, report: &mut Report, said: &mut Said) {
    let (mark, text) = segment.split_at(MARK.min(segment.len()));
    let (name, tail) = text.split_once(|c: char| c.is_whitespace()).unwrap_or((text, ""));
    if name.is_empty() {
        return keep_unknown(segment, report);
    }
    let tail = split_trailer(tail.trim(), report, said);
    let (state, reason) = if mark == "[-]" {
        (CheckState::Failed, failure_reason(tail))
    } else if let Some(with) = tail.strip_prefix("excluded") {
        let with = with.trim_start().strip_prefix("with").unwrap_or("").trim();
        (CheckState::Excluded, some_text(with.trim_end_matches("ok").trim_end_matches([':', ' '])))
    } else if tail.starts_with("failed") {
        (CheckState::Failed, failure_reason(tail))
    } else {
        (CheckState::Ok, some_text(tail.strip_prefix("ok").unwrap_or(tail).trim()))
    };
    keep_check(Check { name: name.to_owned(), state, reason }, report);
}

fn keep_check(check: Check, report: &mut Report) {
    if report.checks.capacity() == 0 {
        report.checks.reserve(USUAL_CHECKS);
    }
    if report.checks.len() < Report::MAX_CHECKS {
        report.checks.push(check);
    } else {
        report.truncated = true;
    }
}

/// Takes `[+]name ok`, the line that a healthy server writes forty times, the short way.
fn passed(line: &str) -> Option<&str> {
    let name = line.strip_prefix("[+]")?.strip_suffix(" ok")?;
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())).then_some(name)
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns why a check failed; `reason withheld` is no reason.
fn failure_reason(tail: &str) -> Option<String> {
    let reason = tail.strip_prefix("failed").unwrap_or(tail).trim_start_matches(':').trim();
    if reason == "reason withheld" { None } else { some_text(reason) }
}

/// Takes what follows the checks off a line that holds a whole answer; returns what is the check's.
fn split_trailer<'a>(tail: &'a str, report: &mut Report, said: &mut Said) -> &'a str {
    let mut tail = tail;
    for (suffix, passed) in [(" check passed", true), (" check failed", false)] {
        if let Some(before) = tail.strip_suffix(suffix) {
            let (own, endpoint) = before.rsplit_once(' ').unwrap_or(("", before));
            if ENDPOINTS.contains(&endpoint) {
                trailer(endpoint, passed, report, said);
                tail = own.trim_end();
            }
        }
    }
    if let Some(at) = memmem::find(tail.as_bytes(), b" warn: ") {
        let (own, warning) = tail.split_at(at);
        keep_warning(warning.trim_start().trim_start_matches("warn:").trim(), report);
        tail = own;
    }
    if tail == "ok ok" {
        said.passed = true;
        tail = "ok";
    }
    tail
}

fn trailer(endpoint: &str, passed: bool, report: &mut Report, said: &mut Said) {
    report.endpoint = Some(endpoint.to_owned());
    said.passed |= passed;
    said.failed |= !passed;
}

/// Reads a line without checks.
fn read_plain(line: &str, report: &mut Report, said: &mut Said) {
    if line == "ok" {
        said.passed = true;
    } else if let Some(warning) = line.strip_prefix("warn:") {
        keep_warning(warning.trim(), report);
    } else if let Some(error) = line.strip_prefix("internal server error:") {
        said.failed = true;
        report.message = some_text(error.trim());
    } else if let Some(endpoint) = one_word(line.strip_suffix(" check passed")) {
        trailer(endpoint, true, report, said);
    } else if let Some(endpoint) = one_word(line.strip_suffix(" check failed")) {
        trailer(endpoint, false, report, said);
    } else if let Some((names, endpoint)) = line.rsplit_once(" check failed: ")
        && ENDPOINTS.contains(&endpoint)
    {
        // The server's own log: `… healthz.go:261] etcd,log check failed: healthz`.
        trailer(endpoint, false, report, said);
        let names = names.rsplit(' ').next().unwrap_or(names);
        report.message = some_text(names);
    } else if ALIVE.iter().any(|text| line.starts_with(text)) {
        said.alive = true;
        report.message = some_text(line);
    } else {
        keep_unknown(line, report);
    }
}

fn one_word(text: Option<&str>) -> Option<&str> {
    text.filter(|word| !word.is_empty() && !word.contains(char::is_whitespace))
}

fn keep_warning(warning: &str, report: &mut Report) {
    if report.warnings.len() < Report::MAX_UNKNOWN_LINES {
        report.warnings.push(warning.to_owned());
    } else {
        report.truncated = true;
    }
}

fn keep_unknown(line: &str, report: &mut Report) {
    if report.unknown_lines.len() < Report::MAX_UNKNOWN_LINES {
        report.unknown_lines.push(line.to_owned());
    } else {
        report.truncated = true;
    }
}

/// Takes the server's answer out of kubectl's error text.
///
/// Source: apimachinery `pkg/api/errors/errors.go` (`NewGenericServerResponse`): the answer stands in
/// `an error on the server (%q) has prevented the request from …`.
pub(super) fn quoted_answer(text: &str) -> Option<String> {
    const OPEN: &str = "an error on the server (";
    let start = memmem::find(text.as_bytes(), OPEN.as_bytes())? + OPEN.len();
    let inner = text.get(start..)?;
    let end = inner.rfind(") has prevented").unwrap_or(inner.len());
    let inner = inner.get(..end)?.trim().trim_matches('"');
    Some(unescape(inner))
}

/// Undoes the escapes of Go's `%q` that occur in health texts.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(other @ ('"' | '\\')) => out.push(other),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}
