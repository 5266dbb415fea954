//! Child processes: absolute path, empty environment, no shell, bounded in time and output.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid as RawPid, Signal, kill_process_group};

use super::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};

/// Describes one program run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandSpec {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments, without the program itself.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// How long it may run; then its process group is killed.
    pub timeout: Duration,
    /// How many bytes of stdout and of stderr are kept each; the rest is read and dropped.
    pub output_limit: usize,
}

impl CommandSpec {
    /// Describes a run of `program` with an empty environment, 30 s and 1 MiB of output.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            timeout: Duration::from_secs(30),
            output_limit: 1 << 20,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Bounds the run in time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// What a program printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOutput {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, if any.
    pub signal: Option<i32>,
    /// What it wrote to stdout, cut at the limit.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr, cut at the limit.
    pub stderr: Vec<u8>,
    /// Whether either stream was longer than the limit.
    pub truncated: bool,
}

impl CommandOutput {
    /// Makes the output of a program that exited with `code`; for scripted implementations.
    #[must_use]
    pub fn exited(code: i32, stdout: impl Into<Vec<u8>>, stderr: impl Into<Vec<u8>>) -> Self {
        Self {
            code: Some(code),
            signal: None,
            stdout: stdout.into(),
            stderr: stderr.into(),
            truncated: false,
        }
    }

    /// Reports exit code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// Returns the last 20 lines of stderr as text, for an error message.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Runs programs.
pub trait Commands {
    /// Runs the program to its end and returns what it printed, whatever its exit code.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such program, [`ErrorKind::Timeout`] when it was
    /// killed at its deadline, [`ErrorKind::Cancelled`] when the caller cancelled.
    fn run(&self, spec: &CommandSpec, deadline: &Deadline) -> Result<CommandOutput>;
}

/// Runs programs on this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemCommands;

impl Commands for SystemCommands {
    fn run(&self, spec: &CommandSpec, deadline: &Deadline) -> Result<CommandOutput> {
        let name = spec.program.display();
        if !spec.program.is_absolute() {
            return Err(Error::new(ErrorKind::Invalid, format!("program {name} is not an absolute path")));
        }
        tracing::debug!(program = %name, args = ?spec.args, "run");
        let mut child = Command::new(&spec.program)
            .args(&spec.args)
            .env_clear()
            .envs(spec.env.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group, so that a timeout ends the children of the child too.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::io(format!("run {name}"), source))?;
        let result = collect(&mut child, spec, &deadline.at_most(spec.timeout));
        if result.is_err() {
            end_group(&child);
            // Reaps the child; after SIGKILL this returns at once unless it is in D state.
            child.wait().map_err(|source| Error::io(format!("wait for {name}"), source))?;
        }
        result.map_err(|error| error.context(format!("run {name}")))
    }
}

fn end_group(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(RawPid::from_raw) {
        // The group may be gone already; that is what was wanted.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn collect(child: &mut Child, spec: &CommandSpec, deadline: &Deadline) -> Result<CommandOutput> {
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    let mut out = (Vec::new(), Vec::new());
    let mut truncated = false;
    while stdout.is_some() || stderr.is_some() {
        deadline.check("wait for output")?;
        let (out_ready, err_ready) =
            wait_readable(stdout.as_ref().map(|s| s.as_fd()), stderr.as_ref().map(|s| s.as_fd()), deadline)?;
        if out_ready
            && let Some(stream) = &mut stdout
            && drain(stream, &mut out.0, spec.output_limit, &mut truncated)?
        {
            stdout = None;
        }
        if err_ready
            && let Some(stream) = &mut stderr
            && drain(stream, &mut out.1, spec.output_limit, &mut truncated)?
        {
            stderr = None;
        }
    }
    // Both streams are closed, so the program is about to end or has become a daemon.
    loop {
        if let Some(status) = child.try_wait().map_err(|source| Error::io("wait", source))? {
            return Ok(CommandOutput {
                code: status.code(),
                signal: status.signal(),
                stdout: out.0,
                stderr: out.1,
                truncated,
            });
        }
        deadline.check("wait for exit")?;
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a stream can be read; at most 100 ms, so that a cancel is seen soon.
fn wait_readable(
    first: Option<BorrowedFd<'_>>,
    second: Option<BorrowedFd<'_>>,
    deadline: &Deadline,
) -> Result<(bool, bool)> {
    let slice = deadline.remaining().min(Duration::from_millis(100));
    let timeout = Timespec::try_from(slice)
        .map_err(|_| Error::new(ErrorKind::Internal, "a wait of 100 ms does not fit a timespec"))?;
    let mut fds: Vec<PollFd<'_>> =
        first.iter().chain(second.iter()).map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(source) => return Err(Error::io("poll", source)),
    }
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    let first_ready = first.is_some() && ready.next().unwrap_or(false);
    let second_ready = second.is_some() && ready.next().unwrap_or(false);
    Ok((first_ready, second_ready))
}

/// Reads once; returns whether the stream ended.
fn drain(
    stream: &mut impl std::io::Read,
    into: &mut Vec<u8>,
    limit: usize,
    truncated: &mut bool,
) -> Result<bool> {
    let mut chunk = [0_u8; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(0) => Ok(true),
        Ok(count) => {
            let room = limit.saturating_sub(into.len());
            *truncated |= count > room;
            into.extend(chunk.iter().take(count.min(room)));
            Ok(false)
        }
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(false),
        Err(source) => Err(Error::io("read output", source)),
    }
}

/// Looks for a program in the folders where distributions and kubeadm packages put it, below `root`.
///
/// The caller's `PATH` is not used: a library reads no environment.
///
/// # Errors
/// [`ErrorKind::NotFound`] with the list of folders when it is in none of them.
pub fn find_program(root: &Path, name: &str) -> Result<PathBuf> {
    const FOLDERS: [&str; 7] =
        ["usr/local/bin", "usr/bin", "bin", "usr/local/sbin", "usr/sbin", "sbin", "opt/bin"];
    FOLDERS.iter().map(|folder| root.join(folder).join(name)).find(|path| path.is_file()).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("program {name} is in none of {} below {}", FOLDERS.join(", "), root.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> CommandSpec {
        CommandSpec::new("/bin/sh").args(["-c", script])
    }

    fn run(spec: &CommandSpec) -> Result<CommandOutput> {
        SystemCommands.run(spec, &Deadline::after(Duration::from_secs(20)))
    }

    #[test]
    fn output_code_and_empty_environment() {
        let output = run(&sh("echo out; echo err >&2; echo \"[$HOME]\"; exit 7")).expect("runs");
        assert_eq!(output.code, Some(7));
        assert_eq!(output.stdout, b"out\n[]\n");
        assert_eq!(output.stderr, b"err\n");
    }

    #[test]
    fn a_flood_is_cut_and_a_hang_is_killed_with_its_children() {
        let mut spec = sh("head -c 3000000 /dev/zero");
        spec.output_limit = 1000;
        let output = run(&spec).expect("runs");
        assert!(output.truncated);
        assert_eq!(output.stdout.len(), 1000);
        let start = std::time::Instant::now();
        let error = run(&sh("sleep 30 & sleep 30").timeout(Duration::from_millis(200))).expect_err("hangs");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn missing_and_relative_programs_are_named() {
        let error = run(&CommandSpec::new("/nonexistent/kubeadm")).expect_err("missing");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("/nonexistent/kubeadm"), "{error}");
        assert_eq!(run(&CommandSpec::new("kubeadm")).expect_err("relative").kind(), ErrorKind::Invalid);
        assert_eq!(
            find_program(Path::new("/nonexistent"), "x").expect_err("none").kind(),
            ErrorKind::NotFound
        );
    }
}
