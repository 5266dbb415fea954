//! The process between the runtime and its containers, one per sandbox, as containerd's runc v2 shim.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cprecover::model::ProcessId;
use cprecover::{Error, ErrorKind, Result};
use rustix::process::{Pid as RawPid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use super::protocol::{Launch, Reply, Request, read_line, write_line};
use super::record::{ExitRecord, Folder, Role, identify, now_ns, write_json};
use super::{log, socket};

/// The name that the kernel shows: 15 bytes of `containerd-shim-runc-v2`.
const COMM: &std::ffi::CStr = c"containerd-shim";
/// The name that the command line shows.
const ARG0: &str = "/usr/bin/containerd-shim-runc-v2";
/// How long a new shim may take until its socket answers.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The pipe of a container's output; large, since nobody reads it once the shim is dead.
const PIPE_BYTES: usize = 1 << 20;

/// The real shim's own arguments, which no option parser of ours reads (`-id`, one dash).
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ShimArgs {
    /// -namespace k8s.io -id SANDBOX -address SOCKET -dir DIR [start]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl ShimArgs {
    fn value(&self, option: &str) -> Result<&str> {
        let at = self.args.iter().position(|arg| arg == option);
        at.and_then(|at| self.args.get(at + 1))
            .map(String::as_str)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("the shim needs {option}")))
    }
}

/// Starts a shim that is no child of ours; returns who it is once it answers.
pub(super) fn spawn(folder: &Folder, sandbox: &str, address: &Path) -> Result<ProcessId> {
    let path = folder.shim_socket(sandbox);
    let failed = |source| Error::io(format!("start the shim of sandbox {sandbox}"), source);
    // The first process ends at once, so that the shim's parent is PID 1 as on a real node.
    let status = command(sandbox, address, &folder.0).arg("start").status().map_err(failed)?;
    if !status.success() {
        let message = format!("the shim of sandbox {sandbox} does not start: {status}");
        return Err(Error::new(ErrorKind::Peer, message));
    }
    let until = Instant::now() + START_TIMEOUT;
    loop {
        // The kernel tells who listens, so nothing has to be parsed.
        if let Ok(stream) = socket::connect(&path)
            && let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream)
            && let Some(shim) = u32::try_from(peer.pid.as_raw_nonzero().get()).ok().and_then(identify)
        {
            return Ok(shim);
        }
        if Instant::now() > until {
            let message = format!("the shim of sandbox {sandbox} does not answer");
            return Err(Error::new(ErrorKind::Timeout, message));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn command(sandbox: &str, address: &Path, dir: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(ARG0)
        .args(["double", "shim", "-namespace", "k8s.io", "-id", sandbox, "-address"])
        .arg(address)
        .arg("-dir")
        .arg(dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Runs the shim, or with `start` leaves one behind.
pub(crate) fn run(args: &ShimArgs) -> Result<()> {
    let (sandbox, address) = (args.value("-id")?, Path::new(args.value("-address")?));
    let folder = Folder(PathBuf::from(args.value("-dir")?));
    if args.args.last().is_some_and(|arg| arg == "start") {
        let log = folder.0.join(sandbox).join("shim.log");
        let log = File::create(&log).map_err(|source| Error::path("create", &log, source))?;
        let spawned = command(sandbox, address, &folder.0).stderr(log).spawn();
        return spawned.map(|_| ()).map_err(|source| Error::io("start the shim", source));
    }
    rustix::thread::set_name(COMM).map_err(|source| Error::io("set the name", source))?;
    rustix::process::setsid().map_err(|source| Error::io("setsid", source))?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|errno| Error::io("become a subreaper", std::io::Error::from(errno)))?;
    let path = folder.shim_socket(sandbox);
    let listener = socket::listen(&path).map_err(|source| Error::path("listen on", &path, source))?;
    let own = identify(std::process::id())
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the shim cannot see itself in /proc"))?;
    folder.note(own, Role::Shim)?;
    let shim = Arc::new(Shim { folder, children: Mutex::default() });
    let reaper = Arc::clone(&shim);
    std::thread::spawn(move || reaper.reap());
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                if let Err(error) = shim.serve(stream) {
                    tracing::warn!(%error, "a request failed");
                }
            }
            Err(error) => tracing::warn!(%error, "accept"),
        }
    }
    Ok(())
}

struct Shim {
    folder: Folder,
    children: Mutex<HashMap<i32, Child>>,
}

struct Child {
    container: String,
    exit_file: PathBuf,
}

impl Shim {
    fn children(&self) -> MutexGuard<'_, HashMap<i32, Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: UnixStream) -> Result<()> {
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).map_err(|source| Error::io("set a time limit", source))?;
        let request = match read_line(&stream) {
            Ok(request) => request,
            // The one that started us only looked who listens.
            Err(error) if error.kind() == ErrorKind::Peer => return Ok(()),
            Err(error) => return Err(error),
        };
        let reply = match request {
            Request::Start(launch) => self.start(launch),
            Request::Signal { container, signal } => self.signal(&container, signal),
            Request::Shutdown if self.children().is_empty() => {
                write_line(&mut stream, &Reply::Done)?;
                std::process::exit(0);
            }
            Request::Shutdown => Err(Error::new(ErrorKind::Busy, "containers run")),
        };
        write_line(&mut stream, &reply.unwrap_or_else(|error| Reply::Failed(error.to_string())))
    }

    fn start(&self, launch: Launch) -> Result<Reply> {
        let log = open_log(&launch.log)?;
        let mut streams = Vec::new();
        let mut output = |name: &'static str| -> Result<Stdio> {
            let (reader, file) = self_read_pipe().map_err(|source| Error::io("make a pipe", source))?;
            streams.push((name, reader));
            Ok(Stdio::from(file))
        };
        let (stdout, stderr) = (output("stdout")?, output("stderr")?);
        // Held until the child is in the map: the reaper must not meet an unknown container.
        let mut children = self.children();
        let child = Command::new("/proc/self/exe")
            .args(["double", "exec"])
            .arg(launch.cgroup.as_deref().unwrap_or(Path::new("")))
            .arg(&launch.program)
            .arg(&launch.arg0)
            .args(&launch.args)
            .env_clear()
            .envs(launch.env)
            .current_dir(&launch.working_dir)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|source| Error::path("start", &launch.program, source))?;
        let process = identify(child.id()).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("{} is not in /proc", launch.program.display()))
        })?;
        children
            .insert(process.pid.get(), Child { container: launch.container, exit_file: launch.exit_file });
        drop(children);
        for (name, reader) in streams {
            let log = Arc::clone(&log);
            std::thread::spawn(move || log::copy(reader, name, &log));
        }
        self.folder.note(process, Role::Container)?;
        Ok(Reply::Started(process))
    }

    fn signal(&self, container: &str, signal: i32) -> Result<Reply> {
        let signal = Signal::from_named_raw(signal)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("no signal {signal}")))?;
        let children = self.children();
        // A child that is in the map is not reaped yet, so its pid is its own.
        let found = children.iter().find(|(_, child)| child.container == container);
        if let Some(pid) = found.and_then(|(pid, _)| RawPid::from_raw(*pid)) {
            kill_process(pid, signal).map_err(|source| Error::io(format!("signal {container}"), source))?;
        }
        Ok(Reply::Done)
    }

    /// Waits for children for ever; adopted ones too, since the shim is a subreaper.
    fn reap(&self) {
        loop {
            let reaped = {
                let mut children = self.children();
                match wait(WaitOptions::NOHANG) {
                    Ok(Some((pid, status))) => Some((children.remove(&pid.as_raw_nonzero().get()), status)),
                    _ => None,
                }
            };
            match reaped {
                Some((Some(child), status)) => report(&child, status),
                Some((None, _)) => {}
                None if self.folder.0.exists() => std::thread::sleep(Duration::from_millis(10)),
                // The node's folder is gone, and with it whoever could ask us to end.
                None => self.end_all(),
            }
        }
    }

    fn end_all(&self) -> ! {
        for pid in self.children().keys().filter_map(|pid| RawPid::from_raw(*pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::process::exit(0)
    }
}

fn report(child: &Child, status: WaitStatus) {
    let signal = status.terminating_signal();
    let code = signal.map_or_else(|| status.exit_status().unwrap_or(255), |signal| 128 + signal);
    let exit = ExitRecord {
        code,
        finished_at_ns: now_ns(),
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
    };
    if let Err(error) = write_json(&child.exit_file, &exit) {
        tracing::warn!(%error, container = child.container, "its end is lost");
    }
}

fn open_log(path: &Path) -> Result<Arc<Mutex<File>>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| Error::path("create", folder, source))?;
    }
    let log = File::options().create(true).append(true).open(path);
    log.map(Mutex::new).map(Arc::new).map_err(|source| Error::path("open", path, source))
}

/// Makes a pipe whose writing end can be read as well.
///
/// When the shim is killed the writer is then its own last reader: it fills the pipe instead of dying of
/// SIGPIPE at its next log line, which is what lets an orphaned etcd keep its port.
fn self_read_pipe() -> std::io::Result<(std::io::PipeReader, File)> {
    let (reader, writer) = std::io::pipe()?;
    let both =
        File::options().read(true).write(true).open(format!("/proc/self/fd/{}", writer.as_raw_fd()))?;
    // Best effort: an unprivileged user may have used up his allowance for pipes.
    let _ = rustix::pipe::fcntl_setpipe_size(&both, PIPE_BYTES);
    Ok((reader, both))
}

/// What a container's process does first.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ExecArgs {
    /// CGROUP PROGRAM ARG0 [ARGS…]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Enters the cgroup and becomes the container's program.
pub(crate) fn exec(args: &ExecArgs) -> Result<()> {
    let [cgroup, program, shown_as, rest @ ..] = args.args.as_slice() else {
        return Err(Error::new(ErrorKind::Invalid, "exec needs a cgroup, a program and its name"));
    };
    rustix::process::setsid().map_err(|source| Error::io("setsid", source))?;
    if !cgroup.is_empty() {
        let procs = Path::new(cgroup).join("cgroup.procs");
        std::fs::write(&procs, "0").map_err(|source| Error::path("enter", &procs, source))?;
    }
    let source = Command::new(program).arg0(shown_as).args(rest).exec();
    Err(Error::path("run", program, source))
}
