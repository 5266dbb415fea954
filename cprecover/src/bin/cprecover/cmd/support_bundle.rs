//! `cprecover support-bundle`: everything that a person elsewhere needs to help, and no secret.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use cprecover::recover::{Host, support_bundle};
use cprecover::sys::Deadline;
use cprecover::{Error, Result};

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
    // Never over a file that somebody needs, and for nobody else's eyes.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.to);
    let mut file = file.map_err(|source| Error::path("create", &args.to, source))?;
    let result = support_bundle(&Host::new(&ctx.node), &decide, &mut file, &deadline);
    let result = result.and_then(|report| {
        file.flush()
            .and_then(|()| file.sync_all())
            .map_err(|source| Error::path("write", &args.to, source))?;
        Ok(report)
    });
    if result.is_err() {
        // Half a bundle would be taken for a whole one.
        std::fs::remove_file(&args.to).map_err(|source| Error::path("remove", &args.to, source))?;
    }
    let report = result?;
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
