//! `policy check`.

use std::fmt::Write as _;
use std::time::Instant;

use cprecover::policy::{CompileLimits, Failure, Identity, LogLine, Metadata, Observation, Policy};
use cprecover::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::cmd::policy_args::{Named, TrustArgs, load};
use crate::{Context, Exit};

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A shipped policy's name, FILE.wasm or FILE.wasm@sha256:HEX.
    policy: String,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    identity: Identity,
    metadata: Metadata,
    /// What was counted in a file; shipped policies are not counted again.
    size: Option<CompileLimits>,
    /// How long trust, counting, compiling and linking took, in milliseconds.
    load_ms: u64,
    /// What an empty observation costs, in fuel.
    fuel_used: u64,
    failure: Option<Failure>,
    log: Vec<LogLine>,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let options = args.trust.options(&ctx.node, &[&args.policy])?;
    let begun = Instant::now();
    let policy = load(&args.policy, &options)?;
    let load_ms = cprecover::sys::millis(begun.elapsed());
    let outcome = policy.decide(&Observation::default());
    let checked = Checked {
        identity: policy.identity().clone(),
        metadata: policy.metadata().clone(),
        size: size(&args.policy)?,
        load_ms,
        fuel_used: outcome.fuel_used,
        failure: outcome.failure,
        log: outcome.log,
    };
    ctx.emit("cprecover.dev/policy-check/v1", &checked, || table(&checked))?;
    Ok(if checked.failure.is_none() { Exit::Done } else { Exit::Error })
}

fn size(text: &str) -> Result<Option<CompileLimits>> {
    let Named::File { path, .. } = Named::parse(text)? else { return Ok(None) };
    let limits = CompileLimits::raised();
    let bytes = cprecover::sys::read_bounded(path, limits.bytes)?;
    limits.check(&bytes).map(Some)
}

fn table(checked: &Checked) -> String {
    let Checked { identity, metadata, .. } = checked;
    let mut text = format!("{identity}\n{}\n\nIMPORTS\n  the log, nothing else\n", metadata.description);
    if let Some(size) = checked.size {
        text += "\nSIZE (limit)\n";
        for (name, count, limit) in counts(&size, &CompileLimits::default()) {
            let mark = if count > limit { "  over: only `policy install` compiles it" } else { "" };
            let _ = writeln!(text, "  {name:<12} {count:>9}  ({limit}){mark}");
        }
    }
    text += "\nRULES, in the order in which they are tried\n";
    for rule in &metadata.rules {
        let _ = writeln!(text, "  {:<20} {}", rule.id, rule.summary);
    }
    let _ = writeln!(
        text,
        "\nloaded in {} ms; an empty observation costs {} units of fuel",
        checked.load_ms, checked.fuel_used
    );
    if let Some(failure) = &checked.failure {
        let _ = writeln!(text, "it FAILED on an empty observation: {}", failure.message);
    }
    for line in &checked.log {
        let _ = writeln!(text, "  log: {}", line.message);
    }
    text
}

fn counts(size: &CompileLimits, limits: &CompileLimits) -> [(&'static str, u64, u64); 9] {
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    [
        ("bytes", wide(size.bytes), wide(limits.bytes)),
        ("functions", size.functions.into(), limits.functions.into()),
        ("locals", size.locals.into(), limits.locals.into()),
        ("all-locals", size.all_locals.into(), limits.all_locals.into()),
        ("body-bytes", wide(size.body_bytes), wide(limits.body_bytes)),
        ("nesting", size.nesting.into(), limits.nesting.into()),
        ("types", size.types.into(), limits.types.into()),
        ("imports", size.imports.into(), limits.imports.into()),
        ("modules", size.modules.into(), limits.modules.into()),
    ]
}

/// Loads a policy for `policy test`, `diff` and `explain`.
pub(super) fn loaded(ctx: &Context, text: &str, trust: &TrustArgs) -> Result<Policy> {
    let policy = load(text, &trust.options(&ctx.node, &[text])?)?;
    if policy.metadata().name.is_empty() {
        return Err(Error::new(ErrorKind::Policy, format!("{text} does not name itself")));
    }
    Ok(policy)
}
