//! Child processes: absolute path, empty environment, no shell, bounded in time and output.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid as RawPid, Signal, kill_process_group};

use super::clock::Deadline;
use super::collect::{collect, wait_kept};
use super::kept::Kept;
use crate::error::{Error, ErrorKind, Result};

/// How long a killed program may take to end.
const KILL_WAIT: Duration = Duration::from_secs(1);

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
    /// How long it may run; then its process group is killed. What it leaves behind when it has ended in
    /// time is left alone.
    pub timeout: Duration,
    /// How many bytes of stdout and of stderr are kept each; the rest is read and dropped.
    pub output_limit: usize,
    /// Whether it may leave a daemon behind that keeps its stdout and stderr and has to outlive us; what
    /// the program writes over the limit is then refused.
    pub leaves_daemon: bool,
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
            leaves_daemon: false,
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

    /// Says that it may leave a daemon behind.
    #[must_use]
    pub fn leaves_daemon(mut self) -> Self {
        self.leaves_daemon = true;
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
    /// killed at its deadline, [`ErrorKind::Cancelled`] when the caller cancelled; the message names the
    /// pid of one that SIGKILL has not ended within a second, and that is left behind.
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
        let kept = if spec.leaves_daemon { Some((Kept::new()?, Kept::new()?)) } else { None };
        let (stdout, stderr) = match &kept {
            Some((stdout, stderr)) => (stdout.stdio()?, stderr.stdio()?),
            None => (Stdio::piped(), Stdio::piped()),
        };
        let mut child = Command::new(&spec.program)
            .args(&spec.args)
            .env_clear()
            .envs(spec.env.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // Its own group, so that a timeout ends the children of the child too.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::io(format!("run {name}"), source))?;
        let deadline = deadline.at_most(spec.timeout);
        let result = match kept {
            Some(kept) => wait_kept(&mut child, kept, spec, &deadline),
            None => collect(&mut child, spec, &deadline),
        };
        // A program that has ended has no group any more but what it left behind on purpose.
        if result.is_err() && !matches!(child.try_wait(), Ok(Some(_))) {
            end_group(&child);
            if !has_ended(|| child.try_wait().map(|status| status.is_some()), KILL_WAIT) {
                let left = format!("run {name}: pid {} is left behind, SIGKILL has not ended it", child.id());
                return result.map_err(|error| error.context(left));
            }
        }
        result.map_err(|error| error.context(format!("run {name}")))
    }
}

/// Asks until `ended`, which reaps the child, says so, but no longer than `limit`; reports whether it has.
///
/// A process in uninterruptible sleep, as on a hung disk or NFS server, acts on SIGKILL only when it wakes
/// up (signal(7), `proc_pid_stat(5)` state `D`), and to wait for that knows neither deadline nor cancel.
fn has_ended(mut ended: impl FnMut() -> std::io::Result<bool>, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        match ended() {
            Ok(false) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            // Without an answer nothing is known to be left, and nothing more can be done.
            Ok(ended) => return ended,
            Err(_) => return false,
        }
    }
}

fn end_group(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(RawPid::from_raw) {
        // The group may be gone already; that is what was wanted.
        let _ = kill_process_group(pid, Signal::KILL);
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
    fn a_child_that_does_not_die_is_not_waited_for() {
        let start = Instant::now();
        assert!(!has_ended(|| Ok(false), Duration::from_millis(50)));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(!has_ended(|| Err(std::io::ErrorKind::Other.into()), Duration::from_secs(30)));
        let mut looks = 0;
        let third_look = || {
            looks += 1;
            Ok(looks == 3)
        };
        assert!(has_ended(third_look, Duration::from_secs(30)));
        assert_eq!(looks, 3);
    }

    /// Reports whether a process that a script named on stdout runs, and ends it.
    fn ran(stdout: &[u8]) -> bool {
        let pid = std::str::from_utf8(stdout).expect("text").trim().parse().expect("a pid");
        let pid = RawPid::from_raw(pid).expect("positive");
        rustix::process::kill_process(pid, Signal::KILL).is_ok()
    }

    #[test]
    fn a_daemon_that_keeps_the_output_is_no_hang_and_lives_on() {
        for spec in [sh("sleep 30 & echo $!; exit 3"), sh("sleep 30 & echo $!; exit 3").leaves_daemon()] {
            let start = Instant::now();
            let output = run(&spec.timeout(Duration::from_secs(10))).expect("the script has ended");
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
            assert_eq!((output.code, output.truncated), (Some(3), false));
            assert!(ran(&output.stdout), "the daemon was ended");
        }
    }

    #[test]
    fn all_output_of_a_program_that_ends_at_once_is_read_though_a_daemon_keeps_the_pipe() {
        let output = run(&sh("sleep 30 & echo $! >&2; head -c 60000 /dev/zero")).expect("runs");
        assert!(ran(&output.stderr));
        assert_eq!(output.stdout.len(), 60_000);
    }

    #[test]
    fn a_daemon_outlives_its_first_line_after_its_start() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (ready, done) = (dir.path().join("ready"), dir.path().join("done"));
        // SIGPIPE would end the inner shell before it makes the second file.
        let script = format!(
            "(while ! test -e {ready}; do sleep 0.05; done; echo line >&2; echo line; : >{done}) & echo up; echo no >&2",
            ready = ready.display(),
            done = done.display()
        );
        let output = run(&sh(&script).leaves_daemon()).expect("starts");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"up\n"[..], &b"no\n"[..]));
        std::fs::write(&ready, "").expect("write");
        let end = Instant::now() + Duration::from_secs(10);
        while !done.exists() {
            assert!(Instant::now() < end, "the daemon died of its output");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_start_that_floods_or_hangs_is_bounded() {
        let mut spec = sh("head -c 3000000 /dev/zero; exit 0").leaves_daemon();
        spec.output_limit = 1000;
        let output = run(&spec).expect("runs");
        assert_eq!((output.code, output.truncated, output.stdout.len()), (Some(0), true, 1000));
        let spec = sh("sleep 30 & echo $!; sleep 30").leaves_daemon().timeout(Duration::from_millis(200));
        assert_eq!(run(&spec).expect_err("hangs").kind(), ErrorKind::Timeout);
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
