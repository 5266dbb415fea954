//! Everything that a person elsewhere needs to help, and no secret.

mod go_values;
mod json_values;
mod keys;
mod learn;
mod looks;
mod redact;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use self::looks::by_looks;
use self::redact::Redactor;
use super::audit::{AuditLog, Entry};
use super::host::Host;
use super::observation::Observation;
use super::observe::logs::texts;
use super::observe::observe;
use super::verification::Verification;
use super::view::policy_view;
use crate::backup::Store;
use crate::diagnose::diagnose;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::guard;
use crate::policy::{Outcome, contract};
use crate::recover::plan::Plan;
use crate::sys::Deadline;

/// The longest text of one log, in bytes; its end is kept.
const MAX_LOG_BYTES: usize = 512 << 10;
/// How many lines of the audit log are kept; the newest.
const MAX_AUDIT: usize = 2000;
/// How long the look at the node may take.
const OBSERVE_TIMEOUT: Duration = Duration::from_mins(1);

/// Annotations of kubelet and kubeadm; any other may hold a pod's whole spec, or whatever somebody put there.
const ANNOTATIONS: [&str; 3] = ["kubernetes.io/config.", "kubeadm.kubernetes.io/", "io.kubernetes."];

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BundleReport {
    /// Names and sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// What is not in it, and why.
    pub left_out: Vec<String>,
}

/// Writes a tar of observation, diagnosis, plan, logs, audit log and the list of backups to `out`.
///
/// Keys, tokens, kubeconfigs, environments of manifests and whatever looks like a secret are not in it:
/// manifests, pki and snapshots are left out altogether, and every text is searched for the secrets that lie
/// on this node. The plan is what `decide` would do; nothing is changed.
///
/// # Errors
/// When a file with secrets cannot be read, or a folder has too many to read them all, so that it is not known
/// what to take out; and the kinds of a failed write to `out`.
pub fn support_bundle(
    host: &Host<'_>,
    decide: &dyn Fn(&contract::Observation) -> Outcome,
    out: &mut dyn Write,
    deadline: &Deadline,
) -> Result<BundleReport> {
    let redactor = Redactor::of_node(host.node)
        .map_err(|error| error.context("a bundle without knowing the node's secrets could hold one"))?;
    let mut bundle = Bundle {
        tar: tar::Builder::new(out),
        redactor,
        at_unix_s: host.unix_ms() / 1000,
        report: BundleReport { files: Vec::new(), left_out: Vec::new() },
    };
    let seen = observe(host, &deadline.at_most(OBSERVE_TIMEOUT));
    let history = audit(host, &mut bundle)?;
    judged(&mut bundle, &seen, &history, decide)?;
    let (logs, unread) = texts(host.node, &seen.facts.runtime, host.commands, deadline);
    for (name, bytes) in logs {
        let text = String::from_utf8_lossy(end_of(&bytes, MAX_LOG_BYTES));
        bundle.add(&format!("logs/{}", name.trim_start_matches('/').replace('/', "_")), &text)?;
    }
    bundle.report.left_out.extend(unread.into_iter().map(|(what, why)| format!("{what}: {why}")));
    match Store::open_read_only(host.node).and_then(|store| store.list()) {
        Ok(snapshots) => bundle.json("snapshots.json", &snapshots)?,
        Err(error) => bundle.report.left_out.push(format!("snapshots: {error}")),
    }
    bundle.json("node-options.json", host.node)?;
    bundle.finish()
}

/// Writes a [`support_bundle`] to the new file `to`, for its owner's eyes only.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] when `to` exists, otherwise as [`support_bundle`]. No file is left behind.
pub fn support_bundle_file(
    host: &Host<'_>,
    decide: &dyn Fn(&contract::Observation) -> Outcome,
    to: &Path,
    deadline: &Deadline,
) -> Result<BundleReport> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let mut file = file.map_err(|source| Error::path("create", to, source))?;
    let result = support_bundle(host, decide, &mut file, deadline).and_then(|report| {
        file.sync_all().map_err(|source| Error::path("write", to, source))?;
        Ok(report)
    });
    if result.is_err() {
        // Half a bundle would be taken for a whole one.
        std::fs::remove_file(to).map_err(|source| Error::path("remove", to, source))?;
    }
    result
}

fn audit(host: &Host<'_>, bundle: &mut Bundle<'_>) -> Result<Vec<Entry>> {
    match AuditLog::read(&host.node.store()) {
        Ok(mut entries) => {
            entries.drain(..entries.len().saturating_sub(MAX_AUDIT));
            bundle.json("audit.json", &entries)?;
            Ok(entries)
        }
        Err(error) => {
            bundle.report.left_out.push(format!("audit log: {error}"));
            Ok(Vec::new())
        }
    }
}

fn judged(
    bundle: &mut Bundle<'_>,
    seen: &Observation,
    history: &[Entry],
    decide: &dyn Fn(&contract::Observation) -> Outcome,
) -> Result<()> {
    bundle.json("observation.json", seen)?;
    let diagnosis = diagnose(&seen.facts);
    bundle.json("diagnosis.json", &diagnosis)?;
    bundle.json("verification.json", &Verification::of(seen))?;
    let view = policy_view(seen, &diagnosis, super::history(history), &[]);
    let outcome = decide(&view);
    let guarded = guard::check(&view, &outcome.decisions);
    bundle.json("plan.json", &Plan::new(seen, &outcome, &guarded)?)
}

/// The last whole lines of a log: of a line that is cut it is not known what named its values.
fn end_of(log: &[u8], limit: usize) -> &[u8] {
    let Some(start) = log.len().checked_sub(limit).filter(|start| *start > 0) else { return log };
    let whole = log.iter().skip(start - 1).position(|byte| *byte == b'\n').map(|at| start + at);
    log.get(whole.unwrap_or(log.len())..).unwrap_or_default()
}

/// Drops the annotations that may hold anything, of whatever has any.
fn drop_annotations(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Object(all) if name == "annotations" => {
                        all.retain(|name, _| ANNOTATIONS.iter().any(|known| name.starts_with(known)));
                    }
                    other => drop_annotations(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(drop_annotations),
        _ => {}
    }
}

struct Bundle<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
    redactor: Redactor,
    at_unix_s: u64,
    report: BundleReport,
}

impl Bundle<'_> {
    fn json(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let failed = |source| Error::with_source(ErrorKind::Internal, format!("serialise {name}"), source);
        let mut value = serde_json::to_value(value).map_err(failed)?;
        drop_annotations(&mut value);
        self.add(name, &serde_json::to_string_pretty(&value).map_err(failed)?)
    }

    fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let clean = self.redactor.redact(text);
        let mut header = tar::Header::new_gnu();
        let size = u64::try_from(clean.len()).unwrap_or(u64::MAX);
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(self.at_unix_s);
        let path = format!("cprecover-support/{name}");
        self.tar
            .append_data(&mut header, &path, clean.as_bytes())
            .map_err(|source| Error::io(format!("write {name} of the bundle"), source))?;
        self.report.files.push((name.to_owned(), size));
        Ok(())
    }

    fn finish(mut self) -> Result<BundleReport> {
        let report = self.report.clone();
        self.json("contents.json", &report)?;
        self.tar.finish().map_err(|source| Error::io("finish the bundle", source))?;
        Ok(self.report)
    }
}
