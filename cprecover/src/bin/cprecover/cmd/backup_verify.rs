//! `cprecover backup verify`: what is whole, what is altered, and what is lost.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cprecover::Result;
use cprecover::backup::{Store, VerifyReport};
use serde::Serialize;

use super::backup::deadline;
use crate::{Context, Exit};

#[derive(Serialize)]
struct Verification {
    intact: bool,
    reports: Vec<VerifyReport>,
    /// Snapshots whose index cannot be read, with the reason.
    unreadable: BTreeMap<String, String>,
    /// Why nothing was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Runs `cprecover backup verify`.
pub(crate) fn verify(ctx: &Context, store: &Store, name: Option<&str>) -> Result<Exit> {
    let ids = match name {
        Some(name) => vec![store.resolve(name)?],
        None => store.list()?.into_iter().map(|listed| listed.id).collect(),
    };
    // Who asks whether the backups are whole must not hear that from a store without any.
    let problem = ids.is_empty().then(|| format!("store {} has no snapshot", store.path().display()));
    let mut result = Verification { intact: true, reports: Vec::new(), unreadable: BTreeMap::new(), problem };
    for id in ids {
        match store.verify(&id, &deadline(ctx)) {
            Ok(report) => result.reports.push(report),
            Err(error) if name.is_none() => {
                result.unreadable.insert(id.to_string(), error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    result.intact = result.problem.is_none()
        && result.unreadable.is_empty()
        && result.reports.iter().all(VerifyReport::is_intact);
    ctx.emit("cprecover.dev/backup-verify/v1", &result, || {
        let mut text = result.problem.clone().unwrap_or_default();
        for report in &result.reports {
            text.push_str(&verified(report));
        }
        for (id, error) in &result.unreadable {
            let _ = writeln!(text, "{id}  UNREADABLE  {error}");
        }
        text
    })?;
    Ok(if result.intact { Exit::Done } else { Exit::Unhealthy })
}

fn verified(report: &VerifyReport) -> String {
    let (state, then) = match (report.is_intact(), report.is_usable()) {
        (true, _) => ("intact", ""),
        (false, true) => ("usable for a restore", "; the store was altered:"),
        (false, false) => ("DAMAGED", ""),
    };
    let mut text =
        format!("{}  {state}  {} files, {} bytes{then}\n", report.id, report.files, report.size_bytes);
    for damage in &report.damage {
        let _ = writeln!(text, "  {damage}");
    }
    text
}
