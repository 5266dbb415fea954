//! `cprecover support-bundle`: everything that a person elsewhere needs to help, and no secret.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cprecover::Result;
use cprecover::recover::{Host, support_bundle_file};
use cprecover::sys::Deadline;

use super::PolicyArgs;
use crate::{Context, Exit};

/// Writes a tar of what is seen, found, logged and was done; secrets are taken out.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The new file to write.
    #[arg(value_name = "FILE.tar")]
    to: PathBuf,
    /// Give up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Runs `cprecover support-bundle`.
pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let deadline = Deadline::after(Duration::from_secs(args.timeout)).with_cancel(ctx.cancel.clone());
    let policy = args.policy.load(&ctx.node)?;
    let decide = |observation: &cprecover::policy::Observation| policy.decide(observation);
    let report = support_bundle_file(&Host::new(&ctx.node), &decide, &args.to, &deadline)?;
    ctx.emit("cprecover.dev/support-bundle/v1", &report, || {
        let mut text = format!("{}\n", args.to.display());
        for (name, bytes) in &report.files {
            let _ = writeln!(text, "  {bytes:>9} {name}");
        }
        for left in &report.left_out {
            let _ = writeln!(text, "  not in it: {left}");
        }
        text
    })?;
    Ok(Exit::Done)
}
