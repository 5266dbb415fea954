//! Compiling in a child process that has an end, a limit of memory and nothing else to lose.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::compile::{CompileJob, Compiler};
use super::limits::over_limit;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::later;

/// How much of what a worker says is kept.
const MAX_MESSAGE_BYTES: u64 = 2_048;

/// Bounds of one compilation in a [`WorkerCompiler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerLimits {
    /// How long it may take; then the worker is killed.
    pub time: Duration,
    /// How much address space the worker may have, in bytes.
    pub memory_bytes: u64,
    /// How large the compiled policy may be, in bytes.
    pub output_bytes: u64,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), memory_bytes: 1 << 30, output_bytes: 64 << 20 }
    }
}

impl WorkerLimits {
    /// Room for components that carry a language's runtime, ahead of need: minutes and 4 GiB.
    #[must_use]
    pub fn raised() -> Self {
        Self { time: Duration::from_mins(5), memory_bytes: 4 << 30, output_bytes: 256 << 20 }
    }
}

/// Compiles in a child process.
///
/// The program has to hand its stdin and stdout to [`serve_compile`](super::serve_compile), as
/// `cprecover policy-compile` does. It gets the job, and with it the key of the cache, over an unnamed
/// file; its environment is empty.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerCompiler {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its bounds.
    pub limits: WorkerLimits,
}

impl WorkerCompiler {
    /// Describes a worker; its only argument is `policy-compile`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: vec!["policy-compile".into()], limits: WorkerLimits::default() }
    }

    fn start(&self, job: &CompileJob<'_>) -> Result<Running> {
        let mut input = unnamed("policy-job")?;
        job.write_to(&mut input)?;
        input.rewind().map_err(|source| Error::io("rewind the compile job", source))?;
        let (output, message) = (unnamed("policy-code")?, unnamed("policy-message")?);
        let stdio = |file: &File| file.try_clone().map(Stdio::from);
        let failed = |source| Error::path("run", &self.program, source);
        let child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(input))
            .stdout(stdio(&output).map_err(failed)?)
            .stderr(stdio(&message).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let mut running = Running { child, output, message };
        if let Err(error) = self.confine(&running.child) {
            running.kill();
            return Err(error);
        }
        Ok(running)
    }

    /// The kernel's own limits: they hold also should this process be stopped or die.
    fn confine(&self, child: &Child) -> Result<()> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let seconds = self.limits.time.as_secs().saturating_add(1);
        for (resource, limit, hard) in [
            (Resource::As, self.limits.memory_bytes, self.limits.memory_bytes),
            // At its hard limit it is killed without a word of why.
            (Resource::Cpu, seconds, seconds.saturating_add(1)),
            (Resource::Fsize, self.limits.output_bytes, self.limits.output_bytes),
            (Resource::Core, 0, 0),
        ] {
            let limit = Rlimit {
                current: Some(permitted(resource, limit)),
                maximum: Some(permitted(resource, hard)),
            };
            match prlimit(pid, resource, limit) {
                // It has ended already; its exit status says why.
                Ok(_) | Err(rustix::io::Errno::SRCH) => {}
                Err(source) => return Err(Error::io("limit the policy compiler", source)),
            }
        }
        Ok(())
    }

    fn failure(&self, status: ExitStatus, took: Duration, message: &str) -> Error {
        let limits = self.limits;
        let more_than = |resource, bytes| format!("more than {} bytes", permitted(resource, bytes));
        let memory = || over_limit("compile-memory", more_than(Resource::As, limits.memory_bytes));
        if message.contains("memory allocation of") || message.contains("Cannot allocate memory") {
            return memory();
        }
        match status.signal() {
            Some(signal)
                if signal == Signal::XCPU.as_raw()
                    || (signal == Signal::KILL.as_raw() && took >= limits.time) =>
            {
                over_limit("compile-time", format!("not compiled within {} s", limits.time.as_secs()))
            }
            Some(signal) if signal == Signal::KILL.as_raw() => {
                let after = took.as_millis();
                let text = format!("the policy compiler was killed after {after} ms: is memory short?");
                Error::new(ErrorKind::Policy, text)
            }
            Some(signal) if signal == Signal::XFSZ.as_raw() => {
                over_limit("compile-output", more_than(Resource::Fsize, limits.output_bytes))
            }
            Some(signal) if signal == Signal::SEGV.as_raw() || signal == Signal::BUS.as_raw() => memory(),
            Some(signal) => Error::new(
                ErrorKind::Policy,
                format!("the policy compiler died of signal {signal}: {message}"),
            ),
            None if message.is_empty() => {
                Error::new(ErrorKind::Policy, format!("the policy compiler ended with {status}"))
            }
            None => Error::new(ErrorKind::Policy, message.to_owned()),
        }
    }
}

impl Compiler for WorkerCompiler {
    fn compile(&self, job: &CompileJob<'_>) -> Result<Vec<u8>> {
        let begun = Instant::now();
        let deadline = later(begun, self.limits.time);
        let mut running = self.start(job)?;
        let status = loop {
            match running.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) => {
                    running.kill();
                    let what = format!("not compiled within {} ms", self.limits.time.as_millis());
                    return Err(over_limit("compile-time", what));
                }
                Err(source) => {
                    running.kill();
                    return Err(Error::io("wait for the policy compiler", source));
                }
            }
        };
        if status.success() {
            return contents(&mut running.output, self.limits.output_bytes);
        }
        let message = contents(&mut running.message, MAX_MESSAGE_BYTES)?;
        let message: String = String::from_utf8_lossy(&message)
            .trim()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        Err(self.failure(status, begun.elapsed(), message.strip_prefix("cprecover: ").unwrap_or(&message)))
    }
}

/// `limit`, or the hard limit that this process has and a child inherits: without a capability none is raised.
fn permitted(resource: Resource, limit: u64) -> u64 {
    getrlimit(resource).maximum.map_or(limit, |inherited| inherited.min(limit))
}

struct Running {
    child: Child,
    output: File,
    message: File,
}

impl Running {
    fn kill(&mut self) {
        // Either fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unnamed(name: &str) -> Result<File> {
    rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|source| Error::io("make an unnamed file", source))
}

fn contents(file: &mut File, limit: u64) -> Result<Vec<u8>> {
    let failed = |source| Error::io("read from the policy compiler", source);
    file.rewind().map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
