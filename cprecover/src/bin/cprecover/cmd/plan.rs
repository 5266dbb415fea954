//! `cprecover plan` and `cprecover apply`: the plan as a file, and exactly that plan applied.

use std::path::PathBuf;
use std::time::Duration;

use cprecover::Result;
use cprecover::recover::Plan;
use cprecover::sys::read_bounded;

use super::diagnose::table;
use super::recover::{Consented, exit, recover_node};
use super::{ConsentArgs, PolicyArgs};
use crate::{Context, Exit, present};

/// The largest plan file that is read, in bytes.
const MAX_PLAN_BYTES: usize = 4 << 20;

/// Prints what would be done; changes nothing. `-o json` is what `apply` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Applies a plan: each step is decided anew right before it, and nothing outside the plan is done.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// The file that `cprecover plan -o json` printed.
    plan: PathBuf,
    /// End after so many seconds, healthy or not.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    #[command(flatten)]
    consent: ConsentArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

pub(crate) fn plan(ctx: &Context, args: &PlanArgs) -> Result<Exit> {
    let policy = args.policy.load(&ctx.node)?;
    let mut options = args.consent.options();
    options.dry_run = true;
    let consented = Consented { timeout: Duration::from_mins(1), options };
    let report = recover_node(&ctx.node, &policy, &consented, &ctx.cancel)?;
    if let Some(plan) = &report.plan {
        ctx.emit(&plan.schema, plan, || format!("{}{}", table(&report.diagnosis), present::plan(plan)))?;
    }
    Ok(if report.verification.healthy { Exit::Done } else { Exit::Unhealthy })
}

pub(crate) fn apply(ctx: &Context, args: &ApplyArgs) -> Result<Exit> {
    let plan = Plan::from_json(&read_bounded(&args.plan, MAX_PLAN_BYTES)?)
        .map_err(|error| error.context(args.plan.display()))?;
    let policy = args.policy.load(&ctx.node)?;
    let mut options = args.consent.options();
    options.approved = Some(plan);
    let consented = Consented { timeout: Duration::from_secs(args.timeout), options };
    let report = recover_node(&ctx.node, &policy, &consented, &ctx.cancel)?;
    ctx.emit("cprecover.dev/recovery/v1", &report, || present::report(&report))?;
    Ok(exit(&report))
}
