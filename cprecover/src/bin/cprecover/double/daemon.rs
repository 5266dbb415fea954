//! Starts, stops and asks for the daemons of a drill's node, as systemd does for a real one.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cprecover::sys::read_bounded;
use cprecover::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::Exit;

/// How long a daemon may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A daemon of a drill's node.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DaemonArgs {
    /// What to do.
    verb: Verb,
    /// The daemon's name, as in `ROOT/opt/drill/daemons/NAME.json`.
    name: String,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Verb {
    /// Starts it; does nothing when it runs.
    Start,
    /// Stops it; does nothing when it is stopped.
    Stop,
    /// Exit code 0 when it runs, 3 when it does not.
    State,
}

/// The process that was started last.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    pid: i32,
    start_ticks: u64,
}

/// One daemon: what it runs and where its state is.
pub(crate) struct Daemon {
    name: String,
    argv: PathBuf,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Returns the daemon `name` of the node at `root`.
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            argv: root.join("opt/drill/daemons").join(format!("{name}.json")),
            pid_file: root.join("run").join(format!("{name}.pid")),
            log: root.join("var/log").join(format!("{name}.log")),
        }
    }

    /// Writes what the daemon runs.
    pub(crate) fn install(&self, argv: &[String]) -> Result<()> {
        write_json(&self.argv, &argv)
    }

    /// Starts it unless it runs.
    pub(crate) fn start(&self) -> Result<()> {
        if self.running()?.is_some() {
            return Ok(());
        }
        let argv: Vec<String> = read_json(&self.argv)?;
        let Some((program, args)) = argv.split_first() else {
            return Err(Error::new(ErrorKind::Invalid, format!("{} is empty", self.argv.display())));
        };
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|source| Error::path("open", &self.log, source))?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|source| Error::path("run", program, source))?;
        let pid = i32::try_from(child.id()).map_err(|_| Error::new(ErrorKind::Internal, "pid over 2^31"))?;
        let start_ticks = start_ticks(pid).ok_or_else(|| {
            Error::new(ErrorKind::Peer, format!("{} ended at once, see {}", self.name, self.log.display()))
        })?;
        write_json(&self.pid_file, &Started { pid, start_ticks })
    }

    /// Stops it and waits for its end.
    pub(crate) fn stop(&self) -> Result<()> {
        let Some(pid) = self.running()? else { return Ok(()) };
        let until = Instant::now() + STOP_TIMEOUT;
        let mut signal = Signal::TERM;
        loop {
            // It may be gone already; that is what was wanted.
            let _ = kill_process(pid, signal);
            for _ in 0..100 {
                if self.running()?.is_none() {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            if Instant::now() > until {
                return Err(Error::new(ErrorKind::Timeout, format!("{} does not end", self.name)));
            }
            signal = Signal::KILL;
        }
    }

    /// Returns its pid while it runs; a zombie does not run.
    pub(crate) fn running(&self) -> Result<Option<Pid>> {
        let started: Started = match read_json(&self.pid_file) {
            Ok(started) => started,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let alive = start_ticks(started.pid) == Some(started.start_ticks);
        Ok(Pid::from_raw(started.pid).filter(|_| alive))
    }
}

/// Runs one verb on one daemon.
pub(crate) fn run(root: &Path, args: &DaemonArgs) -> Result<Exit> {
    let daemon = Daemon::new(root, &args.name);
    match args.verb {
        Verb::Start => daemon.start()?,
        Verb::Stop => daemon.stop()?,
        // `systemctl is-active` says 3 for inactive, and so does this.
        Verb::State if daemon.running()?.is_none() => return Ok(Exit::Unhealthy),
        Verb::State => {}
    }
    Ok(Exit::Done)
}

/// Returns a live process's start time, `None` when it is gone or a zombie.
pub(crate) fn start_ticks(pid: i32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    (stat.state != 'Z' && stat.state != 'X').then_some(stat.starttime)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|source| {
        Error::with_source(ErrorKind::Internal, format!("serialise {}", path.display()), source)
    })?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|source| Error::path("write", path, source))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read_bounded(path, 1 << 20)?)
        .map_err(|source| Error::with_source(ErrorKind::Invalid, format!("read {}", path.display()), source))
}
