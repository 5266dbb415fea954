//! The `cprecover` program: arguments in, one library call, results out.

// They panic when their reader is gone, also in the middle of a recovery; see `console`.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod cmd;
mod console;
mod context;
mod double;
mod drill;
mod present;

use std::process::ExitCode;

use clap::Parser as _;

pub(crate) use context::{Context, Exit, Format};

fn main() -> ExitCode {
    let cli = match cmd::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` arrive here too; clap prints them on stdout and they are no error.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            console::say(format_args!("cprecover: {error}"));
            Exit::of(&error).into()
        }
    }
}
