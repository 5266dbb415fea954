//! `cprecover port`: who holds a TCP port, and freeing it.

mod court;
mod free;
mod who;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use cprecover::Result;
use cprecover::model::Port;
use cprecover::ports::{NetNamespace, Query};
use cprecover::sys::Deadline;

use crate::{Context, Exit};

/// Arguments of `cprecover port`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Says who holds a port and what kind of holder that is; changes nothing.
    Who(who::Args),
    /// Ends an orphan that holds a port, or removes the stale sandbox that does; refuses anything else.
    Free(free::Args),
}

/// Where a port is looked up.
#[derive(clap::Args)]
struct Place {
    /// The TCP port.
    port: Port,
    /// Only holders that keep this address from being bound.
    #[arg(long, value_name = "IP")]
    addr: Option<IpAddr>,
    /// Network namespace to look in, a path as /proc/7/ns/net [default: the node's own].
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
}

impl Place {
    fn query(&self, ctx: &Context) -> Query {
        let mut query = Query::on_node(&ctx.node, self.port)
            .threads(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
        if let Some(address) = self.addr {
            query = query.address(address);
        }
        if let Some(path) = &self.netns {
            query = query.namespace(NetNamespace::Path(path.clone()));
        }
        query
    }
}

fn deadline(ctx: &Context, grace: Duration) -> Deadline {
    Deadline::after(Duration::from_mins(2).saturating_add(grace)).with_cancel(ctx.cancel.clone())
}

/// Runs `cprecover port`.
pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    match &args.verb {
        Verb::Who(args) => who::run(ctx, args),
        Verb::Free(args) => free::run(ctx, args),
    }
}
