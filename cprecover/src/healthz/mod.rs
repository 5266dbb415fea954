//! What a health endpoint answered: a total parser, from any bytes to a [`Report`].
//!
//! Formats: `/healthz`, `/livez`, `/readyz` of kube-apiserver, kube-controller-manager,
//! kube-scheduler and kubelet (kubernetes `staging/src/k8s.io/apiserver/pkg/server/healthz/healthz.go`);
//! `/health`, `/livez`, `/readyz` of etcd (etcd `server/etcdserver/api/etcdhttp/health.go`); the
//! API's `Status` JSON; and what people paste of them (kubectl's quoted form, one line, CRLF).

mod json;
mod meaning;
mod text;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use meaning::{CheckMeaning, meaning};

/// Bodies longer than this many bytes are cut before parsing (see [`Report::truncated`]).
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// What the answer says about the process that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verdict {
    /// It says that it is healthy.
    Healthy,
    /// It says that it is not.
    Unhealthy,
    /// It answered, so it is alive, but the answer says nothing about health (401, 403, 404, …).
    AliveUndetermined,
    /// Nothing in the bytes could be read as an answer of a health endpoint.
    Unknown,
}

impl Verdict {
    /// Returns the verdict's name in JSON output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::AliveUndetermined => "alive-undetermined",
            Self::Unknown => "unknown",
        }
    }
}

/// The state of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CheckState {
    /// `[+]name ok`.
    Ok,
    /// `[-]name failed: why`.
    Failed,
    /// `[+]name excluded: ok` or `[+]name excluded with other: ok`; it was not run.
    Excluded,
}

/// One check that the endpoint reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Check {
    /// Its name, as in `etcd` or `poststarthook/rbac/bootstrap-roles`.
    pub name: String,
    /// Its state.
    pub state: CheckState,
    /// Why it failed, or with what it was excluded; `None` where the server withholds it.
    pub reason: Option<String>,
}

/// What a health endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// What the answer says as a whole.
    pub verdict: Verdict,
    /// The endpoint that the trailer names: `healthz`, `livez`, `readyz`, or `health` for etcd's JSON.
    pub endpoint: Option<String>,
    /// The checks in the order of the answer.
    pub checks: Vec<Check>,
    /// `warn:` lines, without the prefix.
    pub warnings: Vec<String>,
    /// A message that comes with the answer: of a Status, of etcd's `reason`, of a sub-path error.
    pub message: Option<String>,
    /// The HTTP status code, from the response or from a Status object.
    pub code: Option<u16>,
    /// Lines that belong to no known form, at most [`Report::MAX_UNKNOWN_LINES`].
    pub unknown_lines: Vec<String>,
    /// Whether bytes, checks or unknown lines were dropped because there were too many.
    pub truncated: bool,
}

impl Report {
    /// Returns a report of nothing.
    const fn empty() -> Self {
        Self {
            verdict: Verdict::Unknown,
            endpoint: None,
            checks: Vec::new(),
            warnings: Vec::new(),
            message: None,
            code: None,
            unknown_lines: Vec::new(),
            truncated: false,
        }
    }

    /// How many lines of unknown form are kept.
    pub const MAX_UNKNOWN_LINES: usize = 256;
    /// How many checks are kept; kube-apiserver has about 40.
    pub const MAX_CHECKS: usize = 4096;

    /// Returns the checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.state == CheckState::Failed)
    }

    /// Returns what failed, with what that means where this crate knows it.
    #[must_use]
    pub fn meanings(&self) -> Vec<(String, Option<&'static CheckMeaning>)> {
        let mut found: Vec<_> =
            self.failed().map(|check| (check.name.clone(), meaning(&check.name))).collect();
        if self.verdict == Verdict::Unhealthy
            && let Some(message) = &self.message
            && let Some(known) = meaning(message)
        {
            found.push((message.clone(), Some(known)));
        }
        found
    }

    /// Reports whether a check of this name failed.
    #[must_use]
    pub fn has_failed(&self, name: &str) -> bool {
        self.failed().any(|check| check.name == name)
    }
}

/// Parses a body whose HTTP status is not known, such as a file or a pasted text.
#[must_use]
pub fn parse(body: &[u8]) -> Report {
    parse_response(None, body)
}

/// Parses the body of a response with HTTP status `code`.
///
/// 401 and 403 are an answer of a living server that says nothing about its health.
#[must_use]
pub fn parse_response(code: Option<u16>, body: &[u8]) -> Report {
    let cut = body.get(..MAX_BODY_BYTES).unwrap_or(body);
    let mut report = Report { truncated: cut.len() < body.len(), ..Report::empty() };
    let text = std::str::from_utf8(cut).map_or_else(|_| String::from_utf8_lossy(cut), Cow::Borrowed);
    let text = text.trim_start_matches('\u{feff}').trim();
    let mut said = text::Said::default();
    read(text, &mut report, &mut said, MAX_NESTING);
    // A Status carries its own code; the response's is the one that was really sent.
    report.code = code.or(report.code);
    report.verdict = verdict(&report, said, code.is_some());
    report
}

/// kubectl wraps a server's answer in an error, whose Status may quote it once more.
const MAX_NESTING: u8 = 3;

/// Reads one text, which may quote another.
fn read(text: &str, report: &mut Report, said: &mut text::Said, nesting: u8) {
    if text.starts_with('{') && json::read(text, report, said, nesting) {
        return;
    }
    if !text.starts_with('[')
        && nesting > 0
        && let Some(quoted) = text::quoted_answer(text)
    {
        return read(quoted.trim(), report, said, nesting - 1);
    }
    text::read(text, report, said);
}

/// Weighs what was said; doubt never makes an answer healthy.
fn verdict(report: &Report, said: text::Said, is_response: bool) -> Verdict {
    let code = report.code.unwrap_or(0);
    let refused = matches!(code, 401 | 403 | 404 | 429);
    if report.failed().next().is_some() || said.failed {
        Verdict::Unhealthy
    } else if said.passed && !refused {
        // A server that answers 5xx and "ok" contradicts itself.
        if code >= 500 { Verdict::Unhealthy } else { Verdict::Healthy }
    } else if code >= 500 {
        Verdict::Unhealthy
    } else if said.alive || is_response || code > 0 || !report.checks.is_empty() {
        // Checks without a trailer may be the beginning of a longer answer.
        Verdict::AliveUndetermined
    } else {
        Verdict::Unknown
    }
}

#[cfg(test)]
mod tests;
