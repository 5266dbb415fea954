//! The subcommands, one file each.

mod backup;
mod hold;
mod lint;
mod restore;

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
    /// Makes, lists, compares, checks and moves snapshots of the node's recovery set.
    Backup(backup::Args),
    /// Puts files of a snapshot back, all or nothing.
    Restore(restore::Args),
    /// Takes a static pod's manifest out of kubelet's sight, so that it cannot be lost.
    Hold(hold::Args),
    /// Puts a held manifest back.
    Release(hold::ReleaseArgs),
    /// Looks for manifests that kubelet reads otherwise than they were meant.
    Lint(lint::Args),
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
            Command::Double { program } => program.run(),
            Command::Backup(args) => backup::run(&ctx, args),
            Command::Restore(args) => restore::run(&ctx, args),
            Command::Hold(args) => hold::run(&ctx, args),
            Command::Release(args) => hold::run_release(&ctx, args),
            Command::Lint(args) => lint::run(&ctx, args),
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
