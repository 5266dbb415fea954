//! `logs scan`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cprecover::Result;
use cprecover::logs::{LogMatch, Nature, Scan, ScanOptions, Signature, scan_file, scan_reader};
use cprecover::sys::Deadline;
use serde::Serialize;

use crate::{Context, Exit};

/// Arguments of `logs`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Looks for known failures in logs of kubelet, the static pods and the kernel.
    Scan {
        /// Log files, gzipped or not; `-` is standard input, as in `journalctl -u kubelet | cprecover logs scan -`.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Longest time for all of them, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        timeout: u64,
    },
}

#[derive(Serialize)]
struct Scanned<'a> {
    files: Vec<&'a Scan>,
    matches: Vec<Explained<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained<'a> {
    #[serde(flatten)]
    found: &'a LogMatch,
    meaning: &'static str,
    nature: Nature,
    remedy: &'static str,
    reference: &'static str,
}

/// Scans logs one after the other.
pub(crate) fn scan_all(ctx: &Context, files: &[PathBuf], timeout: Duration) -> Result<Vec<Scan>> {
    let deadline = Deadline::after(timeout).with_cancel(ctx.cancel.clone());
    let options = ScanOptions::default();
    files
        .iter()
        .map(|file| {
            if file.as_os_str() == "-" {
                scan_reader("standard input", std::io::stdin().lock(), &options, &deadline)
            } else {
                scan_file(file, &options, &deadline)
            }
        })
        .collect()
}

/// Runs the verb.
pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let Verb::Scan { files, timeout } = &args.verb;
    let scans = scan_all(ctx, files, Duration::from_secs(*timeout))?;
    let matches = scans.iter().flat_map(|scan| &scan.matches).map(explain).collect();
    let scanned = Scanned { files: scans.iter().collect(), matches };
    ctx.emit("cprecover.dev/log-scan/v1", &scanned, || table(&scanned))?;
    let has_cause = scanned.matches.iter().any(|explained| explained.nature == Nature::Cause);
    Ok(if has_cause { Exit::Unhealthy } else { Exit::Done })
}

fn explain(found: &LogMatch) -> Explained<'_> {
    let row = Signature::of(found.signature);
    Explained { found, meaning: row.meaning, nature: row.nature, remedy: row.remedy, reference: row.source }
}

fn table(scanned: &Scanned<'_>) -> String {
    let mut text = String::new();
    // Causes first: effects are never acted on alone.
    for nature in [Nature::Cause, Nature::Effect] {
        let mut title =
            Some(if nature == Nature::Cause { "CAUSES" } else { "EFFECTS (heal what causes them)" });
        for explained in scanned.matches.iter().filter(|explained| explained.nature == nature) {
            if let Some(title) = title.take() {
                let _ = writeln!(text, "{title}");
            }
            let found = explained.found;
            let _ = writeln!(text, "  {}: {}", found.signature.as_str(), explained.meaning);
            let when = found.time.as_deref().map_or(String::new(), |time| format!(", last at {time}"));
            let times = if found.count == 1 { "once".to_owned() } else { format!("{} times", found.count) };
            let _ = writeln!(text, "    {} line {}: {times}{when}", found.source, found.last_line);
            let _ = writeln!(text, "    | {}", found.text);
            if nature == Nature::Cause {
                let _ = writeln!(text, "    > {}", explained.remedy);
            }
        }
    }
    let lines: u64 = scanned.files.iter().map(|scan| scan.lines).sum();
    if text.is_empty() {
        text.push_str("no known failure\n");
    }
    let _ = writeln!(text, "{lines} lines read");
    if scanned.files.iter().any(|scan| scan.truncated) {
        text.push_str(
            "not everything was kept: a log is longer, or has more kinds of failures, than the limit\n",
        );
    }
    text
}
