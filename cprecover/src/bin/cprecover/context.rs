//! What every subcommand shares: where the node is, how results are printed, how the program ends.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use cprecover::sys::CancelToken;
use cprecover::{Error, ErrorKind, NodeOptions, Result};
use serde::Serialize;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs; the top object names its schema.
    Json,
}

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Healthy, or done.
    Done,
    /// Something failed.
    Error,
    /// The arguments are wrong.
    Usage,
    /// The node is unhealthy, or verification failed.
    Unhealthy,
    /// A guard rail refused.
    Refused,
    /// Another engine works on this node.
    Busy,
}

impl Exit {
    /// Returns how the program ends after `error`.
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Busy => Self::Busy,
            _ => Self::Error,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Error => 1,
            Exit::Usage => 2,
            Exit::Unhealthy => 3,
            Exit::Refused => 4,
            Exit::Busy => 5,
        })
    }
}

/// What every subcommand gets.
pub(crate) struct Context {
    /// The node's file system root, as given.
    pub(crate) root: PathBuf,
    /// The node, from its configuration file and the command line.
    pub(crate) node: NodeOptions,
    /// How results are printed.
    pub(crate) format: Format,
    /// Set by Ctrl-C and SIGTERM; passed to every deadline.
    pub(crate) cancel: CancelToken,
}

impl Context {
    /// Prints a result on stdout: as `table` makes it, or as JSON with `schema` as its first key.
    pub(crate) fn emit(
        &self,
        schema: &str,
        value: &impl Serialize,
        table: impl FnOnce() -> String,
    ) -> Result<()> {
        let text = match self.format {
            Format::Table => table(),
            Format::Json => json_with_schema(schema, value)?,
        };
        let mut stdout = std::io::stdout().lock();
        let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
        match written {
            // A reader that has seen enough (`| head`) is no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|source| Error::io("write to stdout", source)),
        }
    }
}

fn json_with_schema(schema: &str, value: &impl Serialize) -> Result<String> {
    let invalid = |source| Error::with_source(ErrorKind::Internal, "result does not serialise", source);
    let mut object = serde_json::Map::new();
    object.insert("schema".into(), schema.into());
    match serde_json::to_value(value).map_err(invalid)? {
        serde_json::Value::Object(fields) => object.extend(fields),
        other => {
            object.insert("items".into(), other);
        }
    }
    serde_json::to_string_pretty(&object).map_err(invalid)
}
