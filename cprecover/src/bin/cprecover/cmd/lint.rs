//! `cprecover lint`: manifests that kubelet reads otherwise than they were meant.

use std::path::PathBuf;

use cprecover::Result;
use cprecover::backup::{LintFinding, Severity, lint, lint_dir};
use serde::Serialize;

use crate::{Context, Exit};

/// Arguments of `cprecover lint`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of manifests [default: the node's manifestsDir].
    dir: Option<PathBuf>,
    /// Taken by all commands that use snapshots; linting reads none.
    #[arg(long, value_name = "DIR", hide = true)]
    #[allow(dead_code, reason = "accepted so that one set of options fits all commands")]
    store: Option<PathBuf>,
}

#[derive(Serialize)]
struct Findings {
    findings: Vec<LintFinding>,
}

#[allow(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments")]
/// Runs `cprecover lint`.
pub(crate) fn run(ctx: &Context, args: Args) -> Result<Exit> {
    let findings = match &args.dir {
        Some(dir) => lint_dir(dir, &ctx.root)?,
        None => lint(&ctx.node)?,
    };
    let bad = findings.iter().any(|finding| finding.severity >= Severity::Error);
    let findings = Findings { findings };
    ctx.emit("cprecover.dev/lint/v1", &findings, || {
        if findings.findings.is_empty() {
            return "no findings".into();
        }
        let line = |finding: &LintFinding| {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                _ => "info",
            };
            format!("{severity:<8} {}: {}\n", finding.file, finding.message)
        };
        findings.findings.iter().map(line).collect()
    })?;
    Ok(if bad { Exit::Unhealthy } else { Exit::Done })
}
