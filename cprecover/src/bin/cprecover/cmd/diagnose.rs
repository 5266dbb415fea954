//! `diagnose`: what is wrong, why, and what to do.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cprecover::diagnose::{
    Candidate, Confidence, Diagnosis, Facts, Finding, FindingId, RootCause, Severity, diagnose,
    from_recording,
};
use cprecover::policy::guard::{self, Guarded, Ruling};
use cprecover::policy::{Failure, Identity};
use cprecover::recover::{AuditLog, Host, Observation, history, observe, policy_view};
use cprecover::sys::Deadline;
use cprecover::{Error, ErrorKind, Result};
use serde::Serialize;

use super::policy_args::{LoadedPolicy, TrustArgs};
use crate::console::say;
use crate::{Context, Exit};

/// Arguments of `diagnose`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Logs to read, gzipped or not.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) logs: Vec<PathBuf>,
    /// Folder with recorded output of `crictl pods -o json` and `crictl ps -a -o json`; nothing of this
    /// node is looked at then. Recorded health answers and manifests in it are taken as well.
    #[arg(long, value_name = "DIR")]
    pub(crate) cri_dump: Option<PathBuf>,
    /// Longest time for reading logs, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) timeout: u64,
    /// Ask this policy what it would do about it: a shipped one's name, FILE.wasm or
    /// FILE.wasm@sha256:HEX. Given more than once, the first proposes and all others must agree.
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Vec<String>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
}

/// Largest recorded file that is not a log, in bytes, and how many of them are read.
const MAX_RECORDED: usize = 64 << 20;
const MAX_FILES: usize = 256;

impl Args {
    /// Reports whether only recorded files are to be looked at.
    pub(crate) fn is_offline(&self) -> bool {
        self.cri_dump.is_some() || !self.logs.is_empty()
    }
}

/// Collects facts from recorded files.
pub(crate) fn recorded(ctx: &Context, args: &Args) -> Result<Facts> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    if let Some(folder) = &args.cri_dump {
        for path in files_of(folder)? {
            let is_log = args.logs.iter().any(|log| same_file(log, &path));
            if !is_log {
                let bytes = cprecover::sys::read_bounded(&path, MAX_RECORDED)?;
                files.push((path.display().to_string(), bytes));
            }
        }
    }
    let mut facts = from_recording(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))?;
    for (scan, path) in
        super::logs::scan_all(ctx, &args.logs, Duration::from_secs(args.timeout))?.into_iter().zip(&args.logs)
    {
        facts.logs_read.push(path.display().to_string());
        facts.log_matches.extend(scan.matches);
    }
    Ok(facts)
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| Error::path("open", folder, source))? {
        let path = entry.map_err(|source| Error::path("read", folder, source))?.path();
        if path.is_file() {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            let message = format!("{} holds more than {MAX_FILES} files", folder.display());
            return Err(Error::new(ErrorKind::Limit, message));
        }
    }
    found.sort();
    Ok(found)
}

/// Runs the subcommand.
pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let policy = args.trust.load_all(&args.policy, &ctx.node)?;
    let (diagnosis, advice) = match policy {
        None => {
            let facts = if args.is_offline() { recorded(ctx, args)? } else { live(ctx, args).facts };
            (diagnose(&facts), None)
        }
        Some(_) if args.is_offline() => {
            let why = "a policy decides about a node, not about recorded files; `policy explain` takes a recorded observation";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        Some(policy) => {
            let seen = live(ctx, args);
            let diagnosis = diagnose(&seen.facts);
            let advice = Advice::of(ctx, &seen, &diagnosis, &policy);
            (diagnosis, Some(advice))
        }
    };
    let result = Diagnosed { diagnosis: &diagnosis, policy: advice.as_ref() };
    ctx.emit("cprecover.dev/diagnosis/v1", &result, || {
        table(&diagnosis) + &advice.as_ref().map_or_else(String::new, Advice::table)
    })?;
    Ok(if diagnosis.root_cause == RootCause::Healthy { Exit::Done } else { Exit::Unhealthy })
}

/// Looks at this node as the engine does.
fn live(ctx: &Context, args: &Args) -> Observation {
    let deadline = Deadline::after(Duration::from_secs(args.timeout)).with_cancel(ctx.cancel.clone());
    let seen = observe(&Host::new(&ctx.node), &deadline);
    for unread in &seen.unobserved {
        say(format_args!("cprecover: {} could not be read: {}", unread.what, unread.reason));
    }
    seen
}

/// The diagnosis, and what a policy would do about it.
#[derive(Serialize)]
struct Diagnosed<'a> {
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a Advice>,
}

/// What a policy would do, and what the guard rails say to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Advice {
    identity: Identity,
    failure: Option<Failure>,
    decisions: Vec<Guarded>,
}

impl Advice {
    fn of(ctx: &Context, seen: &Observation, diagnosis: &Diagnosis, policy: &LoadedPolicy) -> Self {
        let past = AuditLog::read(&ctx.node.store()).map(|entries| history(&entries)).unwrap_or_default();
        let view = policy_view(seen, diagnosis, past, &[]);
        let outcome = policy.decide(&view);
        let decisions = guard::check(&view, &outcome.decisions);
        Self { identity: outcome.policy, failure: outcome.failure, decisions }
    }

    fn table(&self) -> String {
        let mut text = format!("\nPOLICY {}\n", self.identity);
        if self.decisions.is_empty() {
            text += "  it would do nothing\n";
        }
        for guarded in &self.decisions {
            let decision = &guarded.decision;
            let _ = writeln!(text, "  {}\n     {}: {}", decision.action, decision.rule_id, decision.reason);
            if let Ruling::Refused { reason, .. } | Ruling::Deferred { reason, .. } = &guarded.ruling {
                let _ = writeln!(text, "     a guard rail stops it: {reason}");
            }
        }
        text
    }
}

/// Writes a diagnosis for people: the cause in one sentence, the chain with its evidence, what to do.
pub(crate) fn table(diagnosis: &Diagnosis) -> String {
    text(diagnosis, true)
}

/// The same of what is mended: without what to do.
pub(crate) fn table_of_the_mended(diagnosis: &Diagnosis) -> String {
    text(diagnosis, false)
}

fn text(diagnosis: &Diagnosis, remedies: bool) -> String {
    let mut text = String::new();
    match &diagnosis.root_cause {
        RootCause::Healthy => text.push_str("HEALTHY: etcd and the API server answer that they are well.\n"),
        RootCause::Undetermined { left } => undetermined(&mut text, diagnosis, left),
        found => {
            for root in found.ids().iter().filter_map(|id| diagnosis.finding(*id)) {
                let _ = writeln!(text, "ROOT CAUSE ({}): {}.", confidence(root.confidence), root.summary);
                chain(&mut text, diagnosis, root);
                if remedies {
                    let _ = writeln!(text, "\nWHAT TO DO\n  {}\n", root.remedy);
                }
            }
        }
    }
    others(&mut text, diagnosis, remedies);
    text
}

fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Proven => "proven",
        Confidence::Likely => "likely",
        _ => "possible",
    }
}

/// Findings that follow from `root`, each right below what it follows from, with their distance.
fn following(diagnosis: &Diagnosis, root: FindingId) -> Vec<(usize, FindingId)> {
    let mut found: Vec<(usize, FindingId)> = Vec::new();
    let mut next = vec![(0, root)];
    while let Some((depth, id)) = next.pop() {
        if found.iter().any(|(_, known)| *known == id) {
            continue;
        }
        found.push((depth, id));
        let effects = diagnosis.links.iter().rev().filter(|link| link.cause == id);
        next.extend(effects.map(|link| (depth + 1, link.effect)));
    }
    found
}

fn chain(text: &mut String, diagnosis: &Diagnosis, root: &Finding) {
    text.push_str("\nWHY\n");
    for (depth, id) in following(diagnosis, root.id) {
        let Some(finding) = diagnosis.finding(id) else { continue };
        let lead = if depth == 0 { String::new() } else { format!("{}so ", "  ".repeat(depth)) };
        let _ = writeln!(text, "  {lead}{}", finding.summary);
        evidence(text, finding, depth);
    }
}

/// The first lines of evidence; JSON has them all.
fn evidence(text: &mut String, finding: &Finding, depth: usize) {
    let indent = "  ".repeat(depth + 2);
    for seen in finding.evidence.iter().take(3) {
        let line = seen.line.map_or(String::new(), |line| format!(" line {line}"));
        let short: String = seen.text.chars().take(200).collect();
        let more = if short.len() < seen.text.len() { " …" } else { "" };
        let _ = writeln!(text, "{indent}- {}{line}: {short}{more}", seen.source);
    }
    if finding.evidence.len() > 3 {
        let _ = writeln!(text, "{indent}  and {} more", finding.evidence.len() - 3);
    }
}

fn undetermined(text: &mut String, diagnosis: &Diagnosis, left: &[Candidate]) {
    let is_quiet = !diagnosis.findings.iter().any(|finding| finding.severity >= Severity::Error);
    if is_quiet {
        text.push_str("UNDETERMINED: nothing wrong was seen, but nothing proves that all is well either.\n");
        return;
    }
    text.push_str(
        "UNDETERMINED: something is wrong; what was seen does not tell the cause.\n\nWHAT WAS SEEN\n",
    );
    for finding in diagnosis.findings.iter().filter(|finding| finding.severity >= Severity::Error) {
        let _ = writeln!(text, "  {}", finding.summary);
        evidence(text, finding, 0);
    }
    if !left.is_empty() {
        text.push_str("\nPOSSIBLE CAUSES THAT ARE LEFT, and what would decide\n");
        for candidate in left {
            let _ = writeln!(text, "  {}: {}", candidate.id, candidate.missing);
        }
    }
}

/// What is worth knowing besides.
fn others(text: &mut String, diagnosis: &Diagnosis, remedies: bool) {
    let roots = diagnosis.root_cause.ids().iter();
    let chained: Vec<FindingId> = roots.flat_map(|id| following(diagnosis, *id)).map(|(_, id)| id).collect();
    let is_shown = |finding: &&Finding| {
        !chained.contains(&finding.id)
            && (!chained.is_empty()
                || finding.severity < Severity::Error
                || diagnosis.root_cause == RootCause::Healthy)
    };
    let mut title = Some("\nALSO");
    for finding in diagnosis.findings.iter().filter(is_shown) {
        if let Some(title) = title.take() {
            let _ = writeln!(text, "{title}");
        }
        let _ = writeln!(text, "  {}: {}", finding.id, finding.summary);
        evidence(text, finding, 0);
        if remedies {
            let _ = writeln!(text, "    > {}", finding.remedy);
        }
    }
}
