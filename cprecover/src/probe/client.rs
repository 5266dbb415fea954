//! One request over one connection, in one thread: a socket that never blocks, and poll(2).

use std::io::{ErrorKind as Io, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustls::ClientConnection;

use super::http::{Response, request_of};
use super::tls;
use super::{Limits, Outcome, Phase, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::healthz;
use crate::sys::Deadline;

/// Asks `target` once.
///
/// Returns within `limits` and `deadline` whatever the peer does; a peer that misbehaves is an
/// [`Outcome`], not an error.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] for PEM, a path or a server name that cannot be used,
/// [`crate::ErrorKind::Cancelled`] when the caller cancelled, and the kinds of a failed `socket` or `poll`.
pub fn probe(target: &Target, limits: &Limits, deadline: &Deadline) -> Result<Outcome> {
    let request = request_of(target)?;
    let tls = tls::connection(target)?;
    let whole = deadline.at_most(limits.whole);
    let outcome = match open(target.address, &whole.at_most(limits.connect))? {
        Ok(stream) => Exchange { stream, tls, limits, whole: &whole }.run(&request)?,
        Err(outcome) => outcome,
    };
    tracing::debug!(address = %target.address, path = %target.path, ?outcome, "probed");
    Ok(outcome)
}

/// Opens the connection; a peer that does not take it is an outcome.
fn open(address: SocketAddr, deadline: &Deadline) -> Result<Result<TcpStream, Outcome>> {
    let doing = || format!("connect to {address}");
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket: OwnedFd =
        socket_with(family, SocketType::STREAM, flags, None).map_err(|source| Error::io(doing(), source))?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            if !wait(&socket, PollFlags::OUT, deadline, &doing())? {
                return Ok(Err(Outcome::Timeout));
            }
            if let Err(error) = sockopt::socket_error(&socket).map_err(|source| Error::io(doing(), source))? {
                return Ok(Err(not_connected(error)));
            }
        }
        Err(error) => return Ok(Err(not_connected(error))),
    }
    Ok(Ok(TcpStream::from(socket)))
}

fn not_connected(error: Errno) -> Outcome {
    match error {
        Errno::CONNREFUSED => Outcome::Refused,
        Errno::TIMEDOUT => Outcome::Timeout,
        Errno::CONNRESET => Outcome::Reset { phase: Phase::Connect },
        other => Outcome::Unreachable { reason: other.to_string() },
    }
}

/// Waits until the socket is ready; `false` when the time is up first.
fn wait(fd: &impl std::os::fd::AsFd, flags: PollFlags, deadline: &Deadline, doing: &str) -> Result<bool> {
    loop {
        match deadline.check(doing) {
            Err(error) if error.kind() == ErrorKind::Timeout => return Ok(false),
            other => other?,
        }
        // A cancel is seen within 100 ms.
        let slice = deadline.remaining().min(Duration::from_millis(100));
        let timeout = Timespec::try_from(slice)
            .map_err(|_| Error::new(ErrorKind::Internal, "a wait of 100 ms does not fit a timespec"))?;
        let mut fds = [PollFd::new(fd, flags)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(source) => return Err(Error::io(doing, source)),
        }
    }
}

/// The connection with its bounds.
struct Exchange<'a> {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    limits: &'a Limits,
    whole: &'a Deadline,
}

/// Why an exchange ended before its answer was complete.
enum End {
    /// The peer misbehaved.
    Outcome(Box<Outcome>),
    /// We cannot go on.
    Error(Error),
}

impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(Box::new(outcome))
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Exchange<'_> {
    fn run(mut self, request: &[u8]) -> Result<Outcome> {
        match self.exchange(request) {
            Ok(outcome) => Ok(outcome),
            Err(End::Outcome(outcome)) => Ok(*outcome),
            Err(End::Error(error)) => Err(error),
        }
    }

    fn exchange(&mut self, request: &[u8]) -> Result<Outcome, End> {
        let first = self.whole.at_most(self.limits.first_byte);
        self.handshake(&first)?;
        let mut rest = request;
        while !rest.is_empty() {
            let sent = self.write(rest, &first)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        self.flush(&first)?;
        let mut response = Response::new(self.limits.body_bytes);
        let mut piece = [0_u8; 16 * 1024];
        loop {
            let (phase, bound) =
                if response.is_empty() { (Phase::FirstByte, &first) } else { (Phase::Body, self.whole) };
            // A peer that never pauses keeps poll(2), and its look at the time, from ever being needed.
            if bound.remaining().is_zero() {
                return Ok(Outcome::Hung { phase });
            }
            let count = self.read(&mut piece, phase, bound)?;
            let is_complete = match response.take(piece.get(..count).unwrap_or_default()) {
                Ok(is_complete) => is_complete,
                Err(reason) => return Ok(Outcome::NotHttp { reason }),
            };
            if is_complete {
                return Ok(answered(response));
            }
            if count == 0 {
                // The peer closed: right for a body without a length, wrong anywhere else.
                return Ok(if response.ends_with_connection() {
                    answered(response)
                } else {
                    Outcome::Reset { phase }
                });
            }
        }
    }

    fn handshake(&mut self, deadline: &Deadline) -> Result<(), End> {
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            self.flush(deadline)?;
            if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                self.receive(Phase::Handshake, deadline)?;
            }
        }
        self.flush(deadline)
    }

    /// Takes plain bytes to send; returns how many were taken.
    fn write(&mut self, bytes: &[u8], deadline: &Deadline) -> Result<usize, End> {
        if let Some(tls) = &mut self.tls {
            let taken = tls.writer().write(bytes).map_err(|source| Error::io("encrypt", source))?;
            self.flush(deadline)?;
            return Ok(taken);
        }
        loop {
            match self.stream.write(bytes) {
                Ok(count) => return Ok(count),
                Err(error) if is_later(&error) => self.ready(PollFlags::OUT, Phase::FirstByte, deadline)?,
                Err(error) => return Err(broken(&error, Phase::FirstByte)),
            }
        }
    }

    /// Sends what rustls has ready.
    fn flush(&mut self, deadline: &Deadline) -> Result<(), End> {
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.wants_write()) {
            let phase = if tls.is_handshaking() { Phase::Handshake } else { Phase::FirstByte };
            match tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if is_later(&error) => self.ready(PollFlags::OUT, phase, deadline)?,
                Err(error) => return Err(broken(&error, phase)),
            }
        }
        Ok(())
    }

    /// Reads plain bytes; 0 when the peer closed.
    fn read(&mut self, piece: &mut [u8], phase: Phase, deadline: &Deadline) -> Result<usize, End> {
        loop {
            let result = match &mut self.tls {
                Some(tls) => tls.reader().read(piece),
                None => self.stream.read(piece),
            };
            match result {
                Ok(count) => return Ok(count),
                // Go's server sends close_notify; one that does not is only closed.
                Err(error) if error.kind() == Io::UnexpectedEof => return Ok(0),
                Err(error) if is_later(&error) => {
                    if self.tls.is_some() {
                        self.receive(phase, deadline)?;
                    } else {
                        self.ready(PollFlags::IN, phase, deadline)?;
                    }
                }
                Err(error) => return Err(broken(&error, phase)),
            }
        }
    }

    /// Feeds rustls from the socket, once.
    fn receive(&mut self, phase: Phase, deadline: &Deadline) -> Result<(), End> {
        loop {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            match tls.read_tls(&mut self.stream) {
                Ok(0) if tls.is_handshaking() => return Err(Outcome::Reset { phase }.into()),
                Ok(_) => break,
                Err(error) if is_later(&error) => self.ready(PollFlags::IN, phase, deadline)?,
                Err(error) => return Err(broken(&error, phase)),
            }
        }
        let Some(tls) = &mut self.tls else { return Ok(()) };
        if let Err(error) = tls.process_new_packets() {
            // The alert tells the peer why; that it arrives is not needed.
            let _ = tls.write_tls(&mut self.stream);
            return Err(Outcome::Tls { reason: error.to_string() }.into());
        }
        // A session ticket or key update may want an answer.
        self.flush(deadline)
    }

    fn ready(&self, flags: PollFlags, phase: Phase, deadline: &Deadline) -> Result<(), End> {
        if wait(&self.stream, flags, deadline, "wait for the answer")? {
            Ok(())
        } else {
            Err(Outcome::Hung { phase }.into())
        }
    }
}

fn answered(response: Response) -> Outcome {
    let (code, body) = response.into_parts();
    Outcome::Answered { report: healthz::parse_response(Some(code), &body) }
}

fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), Io::WouldBlock | Io::Interrupted)
}

/// A broken connection; whatever the kernel calls it, the peer ended it.
fn broken(error: &std::io::Error, phase: Phase) -> End {
    tracing::debug!(%error, ?phase, "connection broken");
    Outcome::Reset { phase }.into()
}
