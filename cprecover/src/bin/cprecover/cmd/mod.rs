//! The subcommands, one file each.

mod audit;
mod backup;
mod backup_file;
mod backup_remote;
mod backup_verify;
mod certs;
mod consent_args;
pub(crate) mod diagnose;
mod etcd;
mod group_arg;
mod healthz;
mod hold;
mod lint;
mod logs;
mod observe;
mod plan;
mod pods;
mod policy;
mod policy_args;
mod port;
pub(crate) mod recover;
mod regenerate;
mod restore;
mod support_bundle;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cprecover::sys::CancelToken;
use cprecover::{Error, ErrorKind, NodeOptions, Result};

pub(crate) use self::consent_args::ConsentArgs;
pub(crate) use self::policy_args::PolicyArgs;
use crate::double::DoubleCommand;
use crate::drill;
use crate::{Context, Exit, Format};

const EXIT_CODES: &str = "Exit codes: 0 healthy or done, 1 error, 2 usage, 3 unhealthy or not proven, 4 refused by a guard rail, 5 busy.\n\
    Results go to stdout, progress and diagnostics to stderr.";

/// Brings a kubeadm-style Kubernetes control-plane node back when kubectl no longer answers.
#[derive(clap::Parser)]
#[command(name = "cprecover", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// File system root of the node.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Output format.
    #[arg(short = 'o', long = "format", alias = "output", global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print diagnostics of the library on stderr: -v info, -vv debug, -vvv trace.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Looks at the node and prints what it sees; changes nothing.
    Observe(observe::Args),
    /// Prints what would be done; changes nothing.
    Plan(plan::PlanArgs),
    /// Applies a plan that `plan -o json` printed.
    Apply(plan::ApplyArgs),
    /// Finds out what is wrong, decides, acts, and verifies.
    Recover(recover::Args),
    /// Watches the node: backs up what works, says when it does not, recovers when told to.
    Watch(watch::Args),
    /// Writes a tar of what is seen, found, logged and was done; secrets are taken out.
    SupportBundle(support_bundle::Args),
    /// Shows or checks the record of what was done to the node.
    Audit(audit::Args),
    /// Builds a disposable node, breaks it as in the outage, and recovers it.
    Drill(drill::Args),
    /// Says how the etcd cluster and its data are, and saves a snapshot.
    Etcd(etcd::Args),
    /// Prints the node's options as they are in force.
    Config,
    /// Runs a stand-in for a program of the node; only the drill and the tests use it.
    #[command(hide = true)]
    Double {
        #[command(subcommand)]
        program: DoubleCommand,
    },
    /// Compiles a policy for `policy check`, `install` and others; reads stdin, writes stdout.
    #[command(hide = true)]
    PolicyCompile,
    /// Lists, checks, tests, explains and installs policies.
    Policy(policy::Args),
    /// Makes, lists, compares, checks and moves snapshots of the node's recovery set.
    Backup(backup::Args),
    /// Puts files of a snapshot back, all or nothing.
    Restore(restore::Args),
    /// Takes a static pod's manifest out of kubelet's sight, so that it cannot be lost.
    Hold(hold::Args),
    /// Puts a held manifest back.
    Release(hold::ReleaseArgs),
    /// Regenerates lost manifests with the node's own kubeadm, in a staging folder first.
    Regenerate(regenerate::Args),
    /// Looks for manifests that kubelet reads otherwise than they were meant.
    Lint(lint::Args),
    /// Says who holds a TCP port, or frees it from an orphan.
    Port(port::Args),
    /// Looks at the folders of pods, and moves left-over ones aside and back.
    Pods(pods::Args),
    /// Explains or asks health endpoints.
    Healthz(healthz::Args),
    /// Looks for known failures in logs.
    Logs(logs::Args),
    /// Finds out what is wrong and why; changes nothing.
    Diagnose(diagnose::Args),
}

impl Command {
    /// Reports whether it, or one of its verbs, changes a node or a store.
    fn has_effects(&self) -> bool {
        match self {
            Self::Apply(_)
            | Self::Recover(_)
            | Self::Watch(_)
            | Self::Drill(_)
            | Self::Etcd(_)
            | Self::Policy(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Hold(_)
            | Self::Release(_)
            | Self::Regenerate(_)
            | Self::Port(_)
            | Self::Pods(_) => true,
            Self::Observe(_)
            | Self::Plan(_)
            | Self::SupportBundle(_)
            | Self::Audit(_)
            | Self::Config
            | Self::Double { .. }
            | Self::PolicyCompile
            | Self::Lint(_)
            | Self::Healthz(_)
            | Self::Logs(_)
            | Self::Diagnose(_) => false,
        }
    }

    /// Reports whether it judges the node as a whole.
    const fn looks_at_a_node(&self) -> bool {
        matches!(
            self,
            Self::Observe(_)
                | Self::Plan(_)
                | Self::Apply(_)
                | Self::Recover(_)
                | Self::Watch(_)
                | Self::Diagnose(_)
                | Self::SupportBundle(_)
        )
    }
}

impl Cli {
    /// Runs the chosen subcommand.
    pub(crate) fn run(self) -> Result<Exit> {
        start_diagnostics(self.verbose);
        let root =
            std::path::absolute(&self.root).map_err(|source| Error::path("resolve", &self.root, source))?;
        if let Command::Double { program } = self.command {
            // A stand-in ends by a signal as the real program does.
            return program.run(&root);
        }
        if matches!(self.command, Command::PolicyCompile) {
            // Whoever started it kills it; it needs no node.
            return policy::compile();
        }
        if !root.is_dir() {
            let message = format!("--root {}: there is no such folder", root.display());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        if self.command.has_effects() {
            outlive_the_terminal()?;
        }
        let ctx = Context {
            node: NodeOptions::load(&root)?,
            root,
            format: self.format,
            cancel: cancel_on_signals()?,
        };
        if self.command.looks_at_a_node() {
            warn_of_the_wrong_place(&ctx);
        }
        match self.command {
            Command::Observe(args) => observe::run(&ctx, &args),
            Command::Plan(args) => plan::plan(&ctx, &args),
            Command::Apply(args) => plan::apply(&ctx, &args),
            Command::Recover(args) => recover::run(&ctx, &args),
            Command::Watch(args) => watch::run(&ctx, &args),
            Command::SupportBundle(args) => support_bundle::run(&ctx, &args),
            Command::Audit(args) => audit::run(&ctx, &args),
            Command::Drill(args) => drill::run(&ctx, &args),
            Command::Etcd(args) => etcd::run(&ctx, args),
            Command::Config => config(&ctx),
            Command::Double { program } => program.run(&ctx.root),
            Command::PolicyCompile => policy::compile(),
            Command::Policy(args) => policy::run(&ctx, &args),
            Command::Healthz(args) => healthz::run(&ctx, args),
            Command::Logs(args) => logs::run(&ctx, &args),
            Command::Diagnose(args) => diagnose::run(&ctx, &args),
            Command::Backup(args) => backup::run(&ctx, args),
            Command::Restore(args) => restore::run(&ctx, args),
            Command::Hold(args) => hold::run(&ctx, args),
            Command::Release(args) => hold::run_release(&ctx, args),
            Command::Regenerate(args) => regenerate::run(&ctx, args),
            Command::Lint(args) => lint::run(&ctx, args),
            Command::Port(args) => port::run(&ctx, &args),
            Command::Pods(args) => pods::run(&ctx, &args),
        }
    }
}

/// On another machine, or without the right to read, everything looks lost.
fn warn_of_the_wrong_place(ctx: &Context) {
    let node = &ctx.node;
    let (kubernetes, kubelet) = (node.resolve(&node.kubernetes_dir), node.resolve(&node.kubelet_dir));
    if !kubernetes.exists() && !kubelet.exists() {
        let root = ctx.root.display();
        let folders = format!("neither {} nor {}", kubernetes.display(), kubelet.display());
        tracing::warn!(
            "no kubeadm node at {root}: there is {folders}; is it another machine, or another --root?"
        );
    }
    if !rustix::process::geteuid().is_root() {
        tracing::warn!("not root: what only root may read is unknown, and who holds a port cannot be told");
    }
}

fn start_diagnostics(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        // It would say on stderr, and panic there, that stderr cannot be written.
        .log_internal_errors(false)
        .init();
}

/// Lets Ctrl-C and SIGTERM end the work between two effects; a second one ends the program at once.
fn cancel_on_signals() -> Result<CancelToken> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|source| Error::io("handle signals", source))?;
    }
    Ok(CancelToken::of_flag(flag))
}

/// Lets the work go on to its end when the terminal goes away (SIGHUP): an SSH connection that breaks must
/// not end an effect in its midst. It is no request to stop, and no second one either.
fn outlive_the_terminal() -> Result<()> {
    // A handler, and not `SIG_IGN`: what is started from here must not inherit that (signal(7)).
    let unread = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, unread)
        .map(|_| ())
        .map_err(|source| Error::io("handle SIGHUP", source))
}

fn config(ctx: &Context) -> Result<Exit> {
    // JSON is YAML: what is printed may be saved as the file that is named.
    let options = serde_json::to_string_pretty(&ctx.node)
        .map_err(|source| Error::with_source(ErrorKind::Internal, "the options do not serialise", source))?;
    ctx.emit("cprecover.dev/node-options/v1", &ctx.node, || {
        format!("# {} below {}\n{options}", cprecover::node::CONFIG_PATH, ctx.root.display())
    })?;
    Ok(Exit::Done)
}
