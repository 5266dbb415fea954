//! One line: when it was written, and what it says without the wrapping of its format.

use std::borrow::Cow;

use serde_json::Value;

/// A line without its wrapping.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Line<'a> {
    /// When, as the innermost format writes it.
    pub(super) time: Option<String>,
    /// What; backslashes of quoting are gone.
    pub(super) message: Cow<'a, str>,
}

/// Formats nest: a journal entry or a container log line holds a line of klog.
const MAX_NESTING: u8 = 4;

/// Takes a line apart; a line of unknown format is its own message.
pub(super) fn parse(text: &str) -> Line<'_> {
    let mut line = unwrap(text.trim(), MAX_NESTING);
    if memchr::memchr(b'\\', line.message.as_bytes()).is_some() {
        line.message = Cow::Owned(without_backslashes(&line.message));
    }
    line
}

fn unwrap(text: &str, nesting: u8) -> Line<'_> {
    if nesting == 0 {
        return Line { time: None, message: Cow::Borrowed(text) };
    }
    if text.starts_with('{')
        && let Some(line) = json(text, nesting)
    {
        return line;
    }
    let (time, rest) = if let Some(cri) = cri(text) {
        (cri.time, cri.content)
    } else if let Some(found) = klog(text).or_else(|| capnslog(text)).or_else(|| syslog(text)) {
        found
    } else {
        return Line { time: None, message: Cow::Borrowed(text) };
    };
    let inner = unwrap(rest, nesting - 1);
    Line { time: inner.time.or_else(|| Some(time.to_owned())), message: inner.message }
}

/// A line of a container log file (kubernetes `pkg/kubelet/kuberuntime/logs`, format "cri").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CriLine<'a> {
    pub(super) time: &'a str,
    /// Whether the line goes on in the next entry of the same stream.
    pub(super) partial: bool,
    /// `stdout` or `stderr`.
    pub(super) stream: &'a str,
    pub(super) content: &'a str,
}

/// Reads `2016-10-06T00:17:09.669794202Z stdout P content`.
pub(super) fn cri(text: &str) -> Option<CriLine<'_>> {
    if text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let (time, rest) = text.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    let (tag, content) = rest.split_once(' ').unwrap_or((rest, ""));
    if time.len() < 20 || !matches!(stream, "stdout" | "stderr") {
        return None;
    }
    // Tags are separated by colons; the first one says partial or full.
    let partial = match tag.split(':').next()? {
        "P" => true,
        "F" => false,
        _ => return None,
    };
    Some(CriLine { time, partial, stream, content })
}

/// Reads klog's `E0618 00:17:04.062975    9199 file.go:108] message` (k8s.io/klog/v2).
fn klog(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let is_head = matches!(bytes.first()?, b'I' | b'W' | b'E' | b'F')
        && bytes.get(1..5)?.iter().all(u8::is_ascii_digit)
        && bytes.get(5) == Some(&b' ')
        && bytes.get(8) == Some(&b':');
    if !is_head {
        return None;
    }
    let (date, rest) = text.split_once(' ')?;
    let clock = rest.split(' ').next()?;
    let time = text.get(1..date.len() + 1 + clock.len())?;
    let rest = rest.get(clock.len()..)?.trim_start();
    // Write-ups of incidents leave the source position out: `… kubelet[3255090]: message`.
    let message =
        split_at_mark(rest, "] ").or_else(|| split_at_mark(rest, "]: ")).map_or(rest, |(_, message)| message);
    Some((time, message))
}

/// Splits at the first `mark`; for marks of few bytes, whose first is rare.
fn split_at_mark<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let (first, bytes) = (*mark.as_bytes().first()?, text.as_bytes());
    let starts = |at: &usize| bytes.get(*at..).is_some_and(|rest| rest.starts_with(mark.as_bytes()));
    let at = memchr::memchr_iter(first, bytes).find(starts)?;
    Some((text.get(..at)?, text.get(at + mark.len()..)?))
}

/// Reads etcd 3.3's `2021-05-19 19:39:19.537896 C | etcdmain: message`.
fn capnslog(text: &str) -> Option<(&str, &str)> {
    if text.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    let (head, message) = text.split_once(" | ")?;
    let (time, level) = head.rsplit_once(' ')?;
    (level.len() == 1 && time.len() >= 19).then_some((time, message))
}

/// Reads `journalctl -o short`, `short-precise` and `short-iso`, and syslog: `Jun 10 14:06:40 host unit[pid]: …`.
fn syslog(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let time_length = if bytes.get(3) == Some(&b' ') && bytes.get(9) == Some(&b':') {
        // `Jun 10 14:06:40`, with microseconds in short-precise.
        text.get(7..)?.find(' ')? + 7
    } else if bytes.get(4) == Some(&b'-') && bytes.get(10) == Some(&b'T') {
        text.find(' ')?
    } else {
        return None;
    };
    let (time, rest) = text.split_at_checked(time_length)?;
    let (head, message) = split_at_mark(rest, ": ")?;
    // host and identifier, nothing else
    (head.split_whitespace().count() == 2).then_some((time, message))
}

/// Reads one JSON object: `journalctl -o json`, etcd's zap, docker's json-file.
fn json(text: &str, nesting: u8) -> Option<Line<'static>> {
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else { return None };
    let string = |key: &str| object.get(key).and_then(Value::as_str);
    if let Some(message) = object.get("MESSAGE") {
        let message = journal_text(message)?;
        let inner = unwrap(message.trim(), nesting - 1);
        let time = inner.time.or_else(|| string("__REALTIME_TIMESTAMP").and_then(micros));
        return Some(Line { time, message: Cow::Owned(inner.message.into_owned()) });
    }
    if let Some(log) = string("log") {
        let inner = unwrap(log.trim(), nesting - 1);
        let time = inner.time.or_else(|| string("time").map(str::to_owned));
        return Some(Line { time, message: Cow::Owned(inner.message.into_owned()) });
    }
    let mut message = string("msg").or_else(|| string("message"))?.to_owned();
    for (key, value) in &object {
        // The stack only repeats; the rest is what a person wants to read.
        if matches!(
            key.as_str(),
            "msg" | "message" | "level" | "ts" | "time" | "caller" | "stacktrace" | "logger"
        ) {
            continue;
        }
        message.push_str(", ");
        message.push_str(key);
        message.push('=');
        match value {
            Value::String(text) => message.push_str(text),
            other => message.push_str(&other.to_string()),
        }
    }
    let time = string("ts").or_else(|| string("time")).map(str::to_owned);
    Some(Line { time, message: Cow::Owned(message) })
}

/// Reads a journal field: text, or an array of bytes where it is no UTF-8 (systemd.journal-fields(7)).
fn journal_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(bytes) => {
            let bytes: Vec<u8> =
                bytes.iter().filter_map(Value::as_u64).filter_map(|byte| u8::try_from(byte).ok()).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => None,
    }
}

/// Writes the journal's microseconds since 1970 as a time that people can read.
fn micros(text: &str) -> Option<String> {
    Some(jiff::Timestamp::from_microsecond(text.parse().ok()?).ok()?.to_string())
}

/// Removes the backslashes of quoting, which nest in klog and in JSON; `\n` and `\t` become a space.
fn without_backslashes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let after = after.strip_prefix('\\').unwrap_or(after);
        rest = match after.strip_prefix(['n', 't']) {
            Some(after) => {
                out.push(' ');
                after
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, time: Option<&str>, message: &str) {
        let line = parse(text);
        assert_eq!((line.time.as_deref(), &*line.message), (time, message), "{text}");
    }

    #[test]
    fn every_format_gives_time_and_message() {
        let klog = r#"E0618 00:17:04.062975    9199 file.go:108] "Could not" err="node \"x\" not found""#;
        let message = r#""Could not" err="node "x" not found""#;
        check(klog, Some("0618 00:17:04.062975"), message);
        check(&format!("Jun 18 00:17:04 cp1 kubelet[9199]: {klog}"), Some("0618 00:17:04.062975"), message);
        check(
            &format!("2026-11-24T00:21:12.366940123Z stderr F {klog}"),
            Some("0618 00:17:04.062975"),
            message,
        );
        let journal = serde_json::json!({"__REALTIME_TIMESTAMP": "1750205824062975", "MESSAGE": "plain"});
        check(&journal.to_string(), Some("2025-06-18T00:17:04.062975Z"), "plain");
        check(&serde_json::json!({"MESSAGE": klog}).to_string(), Some("0618 00:17:04.062975"), message);
        check(r#"{"MESSAGE":[104,105,255]}"#, None, "hi\u{fffd}");
        check(
            r#"{"level":"fatal","ts":"2026-11-24T00:21:12Z","caller":"a.go:1","msg":"discovery failed","error":"listen tcp 10.0.0.1:2380: bind: x","stacktrace":"y"}"#,
            Some("2026-11-24T00:21:12Z"),
            "discovery failed, error=listen tcp 10.0.0.1:2380: bind: x",
        );
        check(
            "2021-05-19 19:39:19.537896 C | etcdmain: no",
            Some("2021-05-19 19:39:19.537896"),
            "etcdmain: no",
        );
        check(
            "E0610 14:06:40.564210 kubelet[3255090]: Error syncing",
            Some("0610 14:06:40.564210"),
            "Error syncing",
        );
        check(
            r#"{"log":"I0618 00:17:04.1 1 a.go:1] hi\n","stream":"stderr","time":"t"}"#,
            Some("0618 00:17:04.1"),
            "hi",
        );
        check("2026-11-24T00:21:12+0000 cp1 kernel: oom", Some("2026-11-24T00:21:12+0000"), "oom");
        check("no format: at all", None, "no format: at all");
        check("", None, "");
    }
}
