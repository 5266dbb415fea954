//! A container's output in the format that kubelet reads.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::sync::{Arc, Mutex};

/// containerd's limit for one line before it is split (`internal/cri/io/logger.go`, `max_container_log_line_size`).
const MAX_LINE_BYTES: usize = 16 << 10;
/// Where a log stops growing; kubelet rotates at 10 MiB, nobody does here.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// Copies a stream to the log until it ends. Source of the format: kubernetes
/// `pkg/kubelet/kuberuntime/logs`: `<RFC 3339 with nanoseconds> <stream> <F|P> <text>`.
pub(super) fn copy(stream: impl Read, name: &str, log: &Arc<Mutex<File>>) {
    let mut reader = BufReader::with_capacity(MAX_LINE_BYTES, stream);
    let mut written = 0_u64;
    loop {
        let mut line = Vec::new();
        // `take` splits a long line, so that nothing grows without bound.
        let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
        match reader.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        let whole = line.last() == Some(&b'\n');
        if whole {
            line.pop();
        }
        let tag = if whole { 'F' } else { 'P' };
        let time = format!("{:.9}", jiff::Timestamp::now());
        let mut entry = format!("{time} {name} {tag} ").into_bytes();
        entry.extend_from_slice(&line);
        entry.push(b'\n');
        written = written.saturating_add(u64::try_from(entry.len()).unwrap_or(u64::MAX));
        if written > MAX_LOG_BYTES {
            continue;
        }
        if let Ok(mut log) = log.lock()
            && let Err(error) = log.write_all(&entry)
        {
            // A full disk loses log lines, never the container.
            tracing::debug!(%error, "a log line is lost");
        }
    }
}
