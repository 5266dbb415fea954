//! The subcommands, one file each.

mod diagnose;
mod healthz;
mod logs;

use std::path::PathBuf;

use cprecover::sys::CancelToken;
use cprecover::{NodeOptions, Result};

use crate::double::DoubleCommand;
use crate::{Context, Exit, Format};

/// Brings a kubeadm-style Kubernetes control-plane node back when kubectl no longer answers.
#[derive(clap::Parser)]
#[command(name = "cprecover", version, propagate_version = true)]
pub(crate) struct Cli {
    /// File system root of the node.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Output format.
    #[arg(short = 'o', long = "format", global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print diagnostics of the library on stderr: -v info, -vv debug, -vvv trace.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Prints the node's options as they are in force.
    Config,
    /// Runs a stand-in for a program of the node; only the drill and the tests use it.
    #[command(hide = true)]
    Double {
        #[command(subcommand)]
        program: DoubleCommand,
    },
    /// Explains or asks health endpoints.
    Healthz(healthz::Args),
    /// Looks for known failures in logs.
    Logs(logs::Args),
    /// Finds out what is wrong and why; changes nothing.
    Diagnose(diagnose::Args),
}

impl Cli {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> Result<Exit> {
        start_diagnostics(self.verbose);
        let root = std::path::absolute(&self.root)
            .map_err(|source| cprecover::Error::path("resolve", &self.root, source))?;
        let ctx = Context {
            node: NodeOptions::load(&root)?,
            root,
            format: self.format,
            cancel: CancelToken::default(),
        };
        match self.command {
            Command::Config => config(&ctx),
            Command::Healthz(args) => healthz::run(&ctx, args),
            Command::Logs(args) => logs::run(&ctx, &args),
            Command::Diagnose(args) => diagnose::run(&ctx, &args),
            Command::Double { program } => program.run(),
        }
    }
}

fn start_diagnostics(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
}

fn config(ctx: &Context) -> Result<Exit> {
    ctx.emit("cprecover.dev/node-options/v1", &ctx.node, || {
        format!("root {}\n{:#?}", ctx.root.display(), ctx.node)
    })?;
    Ok(Exit::Done)
}
