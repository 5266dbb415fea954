//! `healthz parse` and `healthz probe`.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cprecover::healthz::{self, CheckState, Report, Verdict};
use cprecover::model::Component;
use cprecover::probe::{Limits, Outcome, Target, Trust, probe, target_of};
use cprecover::sys::Deadline;
use cprecover::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::{Context, Exit};

/// Arguments of `healthz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Explains a recorded or pasted answer of a health endpoint.
    Parse {
        /// The file with the answer; `-` is standard input.
        #[arg(value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// Asks health endpoints of this node.
    Probe {
        /// A component (etcd, apiserver, …) or `http[s]://ADDRESS:PORT/PATH`; all components when not given.
        #[arg(value_name = "COMPONENT|URL")]
        target: Option<String>,
        /// Do not verify the server's certificate; no client certificate is sent then.
        #[arg(long)]
        insecure: bool,
        /// Longest wait for each answer, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 8)]
        timeout: u64,
    },
}

/// One answer, as it is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    source: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// A component that was not asked.
#[derive(Serialize)]
struct NotAsked {
    component: Component,
    reason: String,
    /// Whether `--insecure` is all that is missing.
    #[serde(skip)]
    by_choice: bool,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Answers {
    answers: Vec<Answer>,
    not_asked: Vec<NotAsked>,
}

impl Answers {
    fn of(source: String, outcome: Outcome) -> Self {
        Self { answers: vec![Answer { source, outcome }], not_asked: Vec::new() }
    }

    /// Health is what was answered; nobody asked is nothing proven.
    fn are_healthy(&self) -> bool {
        let healthy = |answer: &Answer| is_healthy(&answer.outcome);
        !self.answers.is_empty()
            && self.answers.iter().all(healthy)
            && self.not_asked.iter().all(|skipped| skipped.by_choice)
    }
}

/// Runs the verb.
pub(crate) fn run(ctx: &Context, args: Args) -> Result<Exit> {
    let answers = match args.verb {
        Verb::Parse { file } => {
            let report = healthz::parse(&read(&file)?);
            Answers::of(file.display().to_string(), Outcome::answered(report))
        }
        Verb::Probe { target, insecure, timeout } => probe_all(ctx, target.as_deref(), insecure, timeout)?,
    };
    ctx.emit("cprecover.dev/healthz/v1", &answers, || table(&answers))?;
    Ok(if answers.are_healthy() { Exit::Done } else { Exit::Unhealthy })
}

fn is_healthy(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered { report } if report.verdict == Verdict::Healthy)
}

/// Reads at most one byte more than the parser takes, so that it sees what was cut.
fn read(file: &Path) -> Result<Vec<u8>> {
    let limit = healthz::MAX_BODY_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        let read = std::io::stdin().lock().take(limit).read_to_end(&mut bytes);
        read.map_err(|source| Error::io("read standard input", source))?;
    } else {
        let opened = std::fs::File::open(file).map_err(|source| Error::path("open", file, source))?;
        opened.take(limit).read_to_end(&mut bytes).map_err(|source| Error::path("read", file, source))?;
    }
    Ok(bytes)
}

fn probe_all(ctx: &Context, target: Option<&str>, insecure: bool, timeout: u64) -> Result<Answers> {
    let mut limits = Limits::default();
    limits.whole = Duration::from_secs(timeout);
    limits.first_byte = limits.first_byte.min(limits.whole);
    let ask = |target: &Target| {
        probe(target, &limits, &Deadline::after(limits.whole).with_cancel(ctx.cancel.clone()))
    };
    match target {
        Some(url) if url.contains("://") => {
            let target = url_target(ctx, url, insecure)?;
            Ok(Answers::of(url.to_owned(), ask(&target)?))
        }
        Some(name) => {
            let component: Component = name.parse()?;
            let target = target_of(component, &ctx.node, insecure)?;
            Ok(Answers::of(component.to_string(), ask(&target)?))
        }
        None => {
            let mut all = Answers::default();
            for component in Component::ALL {
                match target_of(component, &ctx.node, insecure) {
                    Ok(target) => {
                        all.answers.push(Answer { source: component.to_string(), outcome: ask(&target)? });
                    }
                    Err(error) => all.not_asked.push(NotAsked {
                        component,
                        reason: error.to_string(),
                        by_choice: error.kind() == ErrorKind::Refused,
                    }),
                }
            }
            Ok(all)
        }
    }
}

/// Reads a URL with an address; names are not looked up, for a dead cluster resolves none.
fn url_target(ctx: &Context, url: &str, insecure: bool) -> Result<Target> {
    let invalid = |why: &str| Error::new(ErrorKind::Invalid, format!("url {url:?}: {why}"));
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("no scheme"))?;
    let (authority, path) = rest.find('/').map_or((rest, "/healthz?verbose"), |at| rest.split_at(at));
    let authority = authority.replace("localhost", "127.0.0.1");
    let address = authority.parse().map_err(|_| invalid("want ADDRESS:PORT"))?;
    let trust = match (scheme, insecure) {
        ("http", _) => Trust::PlainHttp,
        ("https", true) => Trust::Insecure,
        // The API server's CA and names; another endpoint is asked by its component's name.
        ("https", false) => target_of(Component::KubeApiserver, &ctx.node, false)?.trust,
        _ => return Err(invalid("want http or https")),
    };
    let mut target = Target::new(address, path, trust);
    if scheme == "https" && !insecure {
        target.identity = target_of(Component::KubeApiserver, &ctx.node, false)?.identity;
    }
    Ok(target)
}

fn table(all: &Answers) -> String {
    let mut text = String::new();
    for answer in &all.answers {
        let _ = match &answer.outcome {
            Outcome::Answered { report } => write!(text, "{}", describe(&answer.source, report)),
            Outcome::Refused => writeln!(text, "{}: down, nobody listens there", answer.source),
            Outcome::Timeout => writeln!(text, "{}: no connection in time", answer.source),
            Outcome::Hung { .. } => {
                writeln!(text, "{}: hangs, it takes the connection and stays silent", answer.source)
            }
            Outcome::Tls { reason } => writeln!(text, "{}: alive, but TLS failed: {reason}", answer.source),
            Outcome::Reset { .. } => {
                writeln!(text, "{}: closed the connection without an answer", answer.source)
            }
            Outcome::Unreachable { reason } => {
                writeln!(text, "{}: cannot be reached: {reason}", answer.source)
            }
            Outcome::NotHttp { reason } => writeln!(text, "{}: does not speak HTTP: {reason}", answer.source),
            other => writeln!(text, "{}: {other:?}", answer.source),
        };
    }
    for skipped in &all.not_asked {
        let _ = writeln!(text, "{}: not asked: {}", skipped.component, skipped.reason);
    }
    text
}

fn describe(source: &str, report: &Report) -> String {
    let count = |state| report.checks.iter().filter(|check| check.state == state).count();
    let mut text = format!("{source}: {}", report.verdict.as_str());
    if !report.checks.is_empty() {
        let _ = write!(text, ", {} of {} checks ok", count(CheckState::Ok), report.checks.len());
    }
    if let Some(message) = &report.message {
        let _ = write!(text, ", {message}");
    }
    text.push('\n');
    for check in report.failed() {
        let reason = check.reason.as_deref().unwrap_or("reason withheld");
        let meaning = healthz::meaning(&check.name).map_or("", |known| known.meaning);
        let _ = writeln!(text, "  failed  {}: {reason}\n          {meaning}", check.name);
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "  warning {warning}");
    }
    for line in &report.unknown_lines {
        let _ = writeln!(text, "  unknown {line}");
    }
    text
}
