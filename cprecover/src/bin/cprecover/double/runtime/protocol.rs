//! What the runtime and its shims say to each other: one line of JSON each way.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cprecover::model::ProcessId;
use cprecover::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The longest line.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// What the runtime wants.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Start a container's process.
    Start(Launch),
    /// Send a signal to it.
    Signal { container: String, signal: i32 },
    /// End; refused while a container runs.
    Shutdown,
}

/// A process to start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) container: String,
    pub(super) program: PathBuf,
    pub(super) arg0: String,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) cgroup: Option<PathBuf>,
    /// Where the shim writes how it ended.
    pub(super) exit_file: PathBuf,
}

/// What the shim says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Started(ProcessId),
    Done,
    Failed(String),
}

/// Asks the shim at `socket`.
pub(super) fn ask(socket: &Path, request: &Request) -> Result<Reply> {
    let failed = |source| Error::path("ask the shim at", socket, source);
    let mut stream = super::socket::connect(socket).map_err(failed)?;
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).and_then(|()| stream.set_write_timeout(limit)).map_err(failed)?;
    write_line(&mut stream, request)?;
    read_line(&stream)
}

/// Writes one line.
pub(super) fn write_line(stream: &mut impl std::io::Write, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)
        .map_err(|source| Error::with_source(ErrorKind::Internal, "serialise for the shim", source))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(|source| Error::io("write to the shim's socket", source))
}

/// Reads one line.
pub(super) fn read_line<T: serde::de::DeserializeOwned>(stream: impl std::io::Read) -> Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_LINE_BYTES))
        .read_until(b'\n', &mut line)
        .map_err(|source| Error::io("read from the shim's socket", source))?;
    serde_json::from_slice(&line).map_err(|source| {
        Error::with_source(ErrorKind::Peer, "a line on the shim's socket is no JSON", source)
    })
}
