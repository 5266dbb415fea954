//! `cprecover observe`: what the engine sees, as data.

use std::time::Duration;

use cprecover::Result;
use cprecover::diagnose::diagnose;
use cprecover::recover::{AuditLog, Host, history, observe, policy_view};
use cprecover::sys::Deadline;

use crate::{Context, Exit, present};

/// Looks at the node and prints what it sees; changes nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print what a policy would get to see instead (test data for policies).
    #[arg(long)]
    policy_input: bool,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let deadline = Deadline::after(Duration::from_secs(args.timeout)).with_cancel(ctx.cancel.clone());
    let seen = observe(&Host::new(&ctx.node), &deadline);
    let diagnosis = diagnose(&seen.facts);
    if args.policy_input {
        let past = AuditLog::read(&ctx.node.store()).map(|entries| history(&entries)).unwrap_or_default();
        let view = policy_view(&seen, &diagnosis, past, &[]);
        ctx.emit("cprecover.dev/policy-input/v1", &view, || format!("{view:#?}"))?;
        return Ok(Exit::Done);
    }
    ctx.emit("cprecover.dev/observation/v1", &seen, || present::observation(&seen))?;
    Ok(Exit::Done)
}
