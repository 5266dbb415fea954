//! `cprecover regenerate certs`: expired certificates, renewed by kubeadm on a copy, installed by consent.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cprecover::kubeadm::{Options, RenewalPlan};
use cprecover::recover::{Host, NodeLock, apply_renewal, plan_renewal};
use cprecover::sys::Deadline;
use cprecover::{Error, ErrorKind, Result};

use crate::{Context, Exit};

/// Renews certificates with the node's own kubeadm.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Shows what would be renewed; everything is made on a copy of the pki folder.
    Plan(What),
    /// Installs renewed certificates and keys in one transaction, after a snapshot of what is there.
    Apply {
        #[command(flatten)]
        what: What,
        /// Agree to replacing certificates and keys.
        #[arg(long)]
        consent: bool,
    },
}

#[derive(clap::Args)]
struct What {
    /// Certificates or kubeconfigs, as paths on the node; what ends within 30 days when not given.
    paths: Vec<PathBuf>,
    /// The kubeadm program, an absolute path.
    #[arg(long, value_name = "PATH")]
    kubeadm: Option<PathBuf>,
    /// How long everything may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
}

/// Runs `cprecover regenerate certs`.
pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    match &args.verb {
        Verb::Plan(what) => {
            let plan = make(ctx, what, &deadline(ctx, what))?;
            ctx.emit("cprecover.dev/renewal-plan/v1", &plan, || table(&plan))?;
            Ok(Exit::Done)
        }
        Verb::Apply { consent: false, .. } => Err(Error::new(
            ErrorKind::Refused,
            "renewing replaces certificates and keys; look at `certs plan`, then run again with --consent",
        )),
        Verb::Apply { what, .. } => {
            let deadline = deadline(ctx, what);
            let _lock = NodeLock::acquire(&ctx.node.store())?;
            let plan = make(ctx, what, &deadline)?;
            let renewed = apply_renewal(&Host::new(&ctx.node), &plan, &deadline)?;
            ctx.emit("cprecover.dev/renewal/v1", &renewed, || {
                let undo =
                    format!("undo       {}\n", ctx.node.by_hand(&format!("restore {}", renewed.before)));
                format!(
                    "{}\ninstalled; what was there is in snapshot {}\n{undo}",
                    table(&plan),
                    renewed.before
                )
            })?;
            Ok(Exit::Done)
        }
    }
}

fn deadline(ctx: &Context, what: &What) -> Deadline {
    Deadline::after(Duration::from_secs(what.timeout)).with_cancel(ctx.cancel.clone())
}

fn make(ctx: &Context, what: &What, deadline: &Deadline) -> Result<RenewalPlan> {
    let mut options = Options::default();
    options.kubeadm.clone_from(&what.kubeadm);
    plan_renewal(&Host::new(&ctx.node), &what.paths, &options, deadline)
}

fn table(plan: &RenewalPlan) -> String {
    let date =
        |unix: i64| jiff::Timestamp::from_second(unix).map_or_else(|_| unix.to_string(), |at| at.to_string());
    let mut text = format!("kubeadm {} {}\n", plan.kubeadm.display(), plan.kubeadm_version);
    for renewal in &plan.renewals {
        let ended = renewal.ended_unix.map_or_else(|| "unreadable".to_owned(), date);
        let path = renewal.path.display();
        let _ = writeln!(text, "{path} ({}): {ended} -> {}", renewal.subject, date(renewal.ends_unix));
    }
    for (path, hint) in &plan.left {
        let _ = writeln!(text, "{}: left as it is: {hint}", path.display());
    }
    text
}
