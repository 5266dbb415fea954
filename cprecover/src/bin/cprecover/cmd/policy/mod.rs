//! `cprecover policy`: what policies there are, and what they do.

mod check;
mod corpus;
mod explain;
mod install;
mod list;
mod table;

use cprecover::Result;

use crate::{Context, Exit};

/// Lists, checks, tests, explains and installs policies.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lists the shipped policies and those that are installed compiled.
    List,
    /// Checks a policy: trust, limits, imports, and that it answers.
    Check(check::Args),
    /// Asks a policy about recorded observations and compares with the expected decisions.
    Test(corpus::TestArgs),
    /// Asks two policies about recorded observations and prints where they differ.
    Diff(corpus::DiffArgs),
    /// Says why each rule of a policy fired on an observation, and what the guard rails say.
    Explain(explain::Args),
    /// Compiles a policy into the node's cache, ahead of need; large ones can only be used after that.
    Install(install::Args),
    /// Removes a policy from the node's cache.
    Remove(install::RemoveArgs),
}

/// Runs the subcommand.
pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    match &args.verb {
        Verb::List => list::run(ctx),
        Verb::Check(args) => check::run(ctx, args),
        Verb::Test(args) => corpus::test(ctx, args),
        Verb::Diff(args) => corpus::diff(ctx, args),
        Verb::Explain(args) => explain::run(ctx, args),
        Verb::Install(args) => install::run(ctx, args),
        Verb::Remove(args) => install::remove(ctx, args),
    }
}

/// Takes a job from stdin and writes the compiled policy to stdout; `WorkerCompiler` runs this.
pub(crate) fn compile() -> Result<Exit> {
    // Nobody waits for the result of a worker whose starter is gone.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    cprecover::policy::serve_compile(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())?;
    Ok(Exit::Done)
}
