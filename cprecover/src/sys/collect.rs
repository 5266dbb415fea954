//! Waits for a child process and takes what it prints.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::Deadline;
use super::command::{CommandOutput, CommandSpec};
use super::kept::Kept;
use crate::error::{Error, ErrorKind, Result};

/// How long output is waited for that others than the program itself may still write once it has ended.
const REST_GRACE: Duration = Duration::from_millis(200);

/// Waits for a program whose output is kept in memory.
pub(super) fn wait_kept(
    child: &mut Child,
    (stdout, stderr): (Kept, Kept),
    spec: &CommandSpec,
    deadline: &Deadline,
) -> Result<CommandOutput> {
    let status = loop {
        if let Some(status) = ended(child)? {
            break status;
        }
        stdout.bound(spec.output_limit)?;
        stderr.bound(spec.output_limit)?;
        deadline.check("wait for exit")?;
        std::thread::sleep(Duration::from_millis(2));
    };
    let (out, out_cut) = stdout.finish(spec.output_limit)?;
    let (err, err_cut) = stderr.finish(spec.output_limit)?;
    Ok(output(status, (out, err), out_cut || err_cut))
}

fn ended(child: &mut Child) -> Result<Option<ExitStatus>> {
    child.try_wait().map_err(|source| Error::io("wait", source))
}

fn output(status: ExitStatus, (stdout, stderr): (Vec<u8>, Vec<u8>), truncated: bool) -> CommandOutput {
    CommandOutput { code: status.code(), signal: status.signal(), stdout, stderr, truncated }
}

/// Reads the output of a program to its end and waits for the program.
pub(super) fn collect(child: &mut Child, spec: &CommandSpec, deadline: &Deadline) -> Result<CommandOutput> {
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    let mut out = (Vec::new(), Vec::new());
    let mut truncated = false;
    let mut exit: Option<(ExitStatus, Instant)> = None;
    while stdout.is_some() || stderr.is_some() {
        if exit.is_none() {
            exit = ended(child)?.map(|status| (status, Instant::now() + REST_GRACE));
        }
        let slice = match exit {
            None => {
                deadline.check("wait for output")?;
                deadline.remaining()
            }
            Some(_) if deadline.check("wait for output").is_err() => break,
            // What the program wrote is readable now; only others can be late.
            Some((_, end)) => end.saturating_duration_since(Instant::now()),
        };
        let (out_ready, err_ready) =
            wait_readable(stdout.as_ref().map(|s| s.as_fd()), stderr.as_ref().map(|s| s.as_fd()), slice)?;
        if exit.is_some() && slice.is_zero() && !out_ready && !err_ready {
            break;
        }
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
    if let Some((status, _)) = exit {
        return Ok(output(status, out, truncated));
    }
    // Both streams are closed, so the program is about to end or has become a daemon.
    loop {
        if let Some(status) = ended(child)? {
            return Ok(output(status, out, truncated));
        }
        deadline.check("wait for exit")?;
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a stream can be read; at most 100 ms, so that a cancel and an exit are seen soon.
fn wait_readable(
    first: Option<BorrowedFd<'_>>,
    second: Option<BorrowedFd<'_>>,
    slice: Duration,
) -> Result<(bool, bool)> {
    let slice = slice.min(Duration::from_millis(100));
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
