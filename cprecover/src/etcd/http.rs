//! One HTTP/1.1 request over one connection, plain or TLS, on the caller's thread.
//!
//! Every wait is cut into slices, so that a cancel is seen within a tenth of a second and a peer that
//! stays silent is left after [`Limits::silence`], however long the whole transfer may take.

use std::io::{ErrorKind as Io, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::Deadline;

/// How long one blocking call may take before cancel and deadline are looked at.
const SLICE: Duration = Duration::from_millis(100);
/// How long the head of an answer may be.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// TLS as a connection needs it.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
}

/// Bounds of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) silence: Duration,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    /// A JSON body, with [`Request::method`].
    pub(crate) json: Option<&'a str>,
    /// `GET`, `POST` or `PUT`.
    pub(crate) method: &'static str,
}

impl<'a> Request<'a> {
    /// POSTs a JSON body; GETs without one.
    pub(crate) const fn new(path: &'a str, json: Option<&'a str>) -> Self {
        Self { path, json, method: if json.is_some() { "POST" } else { "GET" } }
    }
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    connection: Connection,
    framing: Framing,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// A chunk's size comes next.
    ChunkSize,
    /// So many bytes of a chunk are left, then its line end.
    ChunkData(u64),
    /// The body ends with the connection.
    ToEnd,
    /// It has ended.
    Done,
}

/// Sends a request and reads the head of the answer.
pub(crate) fn send(
    address: SocketAddr,
    tls: Option<&Tls>,
    request: Request<'_>,
    limits: Limits,
    deadline: &Deadline,
) -> Result<Reply> {
    let mut connection = Connection::open(address, tls, limits, deadline)?;
    let body = request.json.unwrap_or_default();
    let method = request.method;
    let head = format!(
        "{method} {} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        request.path,
        body.len()
    );
    connection.write(head.as_bytes(), deadline)?;
    let (status, framing) = connection.read_head(deadline)?;
    Ok(Reply { status, connection, framing })
}

impl Reply {
    /// Appends some more bytes of the body to `out`; returns `false` at its end.
    pub(crate) fn read(&mut self, out: &mut Vec<u8>, deadline: &Deadline) -> Result<bool> {
        loop {
            match self.framing {
                Framing::Done | Framing::Length(0) => return Ok(false),
                Framing::ChunkSize => self.framing = self.connection.read_chunk_size(deadline)?,
                Framing::ChunkData(0) => {
                    self.connection.skip_line_end(deadline)?;
                    self.framing = Framing::ChunkSize;
                }
                Framing::Length(left) => {
                    let taken = self.connection.take(left, out, deadline)?;
                    self.framing = Framing::Length(left - taken);
                    return Ok(true);
                }
                Framing::ChunkData(left) => {
                    let taken = self.connection.take(left, out, deadline)?;
                    self.framing = Framing::ChunkData(left - taken);
                    return Ok(true);
                }
                Framing::ToEnd => {
                    if self.connection.buffer.is_empty() && !self.connection.fill(deadline)? {
                        self.framing = Framing::Done;
                        return Ok(false);
                    }
                    out.append(&mut self.connection.buffer);
                    return Ok(true);
                }
            }
        }
    }

    /// Reads the whole body of at most `limit` bytes.
    pub(crate) fn read_all(mut self, limit: usize, deadline: &Deadline) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while self.read(&mut body, deadline)? {
            if body.len() > limit {
                let message = format!("answer of {} is longer than {limit} bytes", self.connection.address);
                return Err(Error::new(ErrorKind::Limit, message));
            }
        }
        Ok(body)
    }
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<ClientConnection>, TcpStream),
}

#[derive(Debug)]
struct Connection {
    address: SocketAddr,
    stream: Stream,
    silence: Duration,
    /// Bytes that were received and not yet used.
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr, tls: Option<&Tls>, limits: Limits, deadline: &Deadline) -> Result<Self> {
        deadline.check("connect")?;
        let what = || format!("connect to {address}");
        let bound = limits.connect.min(deadline.remaining()).max(Duration::from_millis(1));
        let socket = TcpStream::connect_timeout(&address, bound).map_err(|source| failed(what(), source))?;
        socket.set_nodelay(true).map_err(|source| Error::io(what(), source))?;
        socket.set_read_timeout(Some(SLICE)).map_err(|source| Error::io(what(), source))?;
        socket.set_write_timeout(Some(SLICE)).map_err(|source| Error::io(what(), source))?;
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(tls) => {
                let session = ClientConnection::new(tls.config.clone(), tls.server_name.clone())
                    .map_err(|source| Error::with_source(ErrorKind::Invalid, "start TLS", source))?;
                Stream::Tls(Box::new(session), socket)
            }
        };
        let mut connection = Self { address, stream, silence: limits.silence, buffer: Vec::new() };
        connection.handshake(deadline)?;
        Ok(connection)
    }

    /// Repeats `step` while it would block, until it succeeds, fails, or time is up.
    fn patiently<T>(
        &mut self,
        doing: &str,
        deadline: &Deadline,
        mut step: impl FnMut(&mut Stream) -> std::io::Result<T>,
    ) -> Result<T> {
        let what = format!("{doing} {}", self.address);
        let started = Instant::now();
        loop {
            deadline.check(&what)?;
            match step(&mut self.stream) {
                Ok(value) => return Ok(value),
                Err(error) if matches!(error.kind(), Io::WouldBlock | Io::TimedOut | Io::Interrupted) => {
                    if started.elapsed() >= self.silence {
                        let message = format!("{what}: silent for {} ms", self.silence.as_millis());
                        return Err(Error::new(ErrorKind::Timeout, message));
                    }
                }
                Err(source) => return Err(failed(what, source)),
            }
        }
    }

    fn handshake(&mut self, deadline: &Deadline) -> Result<()> {
        self.patiently("TLS handshake with", deadline, |stream| {
            let Stream::Tls(session, socket) = stream else { return Ok(()) };
            while session.is_handshaking() {
                session.complete_io(socket)?;
            }
            Ok(())
        })
    }

    fn write(&mut self, bytes: &[u8], deadline: &Deadline) -> Result<()> {
        if let Stream::Tls(session, _) = &mut self.stream {
            let what = format!("send to {}", self.address);
            session.writer().write_all(bytes).map_err(|source| failed(what, source))?;
        }
        let mut sent = 0;
        self.patiently("send to", deadline, |stream| match stream {
            Stream::Plain(socket) => {
                while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
                    sent += socket.write(rest)?;
                }
                Ok(())
            }
            Stream::Tls(session, socket) => {
                while session.wants_write() {
                    session.write_tls(socket)?;
                }
                Ok(())
            }
        })
    }

    /// Receives some bytes; returns `false` when the peer has closed the connection.
    fn fill(&mut self, deadline: &Deadline) -> Result<bool> {
        let mut chunk = vec![0_u8; 64 << 10];
        let count = self.patiently("wait for", deadline, |stream| match stream {
            Stream::Plain(socket) => socket.read(&mut chunk),
            Stream::Tls(session, socket) => rustls::Stream::new(&mut **session, socket).read(&mut chunk),
        })?;
        self.buffer.extend(chunk.iter().take(count));
        Ok(count > 0)
    }

    fn fill_or_fail(&mut self, deadline: &Deadline) -> Result<()> {
        if self.fill(deadline)? {
            return Ok(());
        }
        let message = format!("{} closed the connection inside its answer", self.address);
        Err(Error::new(ErrorKind::Peer, message))
    }

    fn not_http(&self, problem: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Peer, format!("{} does not speak HTTP/1: {problem}", self.address))
    }

    fn read_head(&mut self, deadline: &Deadline) -> Result<(u16, Framing)> {
        loop {
            self.fill_or_fail(deadline)?;
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(&self.buffer).map_err(|source| self.not_http(source))?;
            if let httparse::Status::Complete(length) = parsed {
                let status = response.code.unwrap_or(0);
                let framing =
                    framing_of(response.headers).ok_or_else(|| self.not_http("bad Content-Length"))?;
                self.buffer.drain(..length);
                if status == 100 {
                    continue;
                }
                return Ok((status, framing));
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(self.not_http("head is too long"));
            }
        }
    }

    /// Moves at most `left` received bytes to `out`.
    fn take(&mut self, left: u64, out: &mut Vec<u8>, deadline: &Deadline) -> Result<u64> {
        if self.buffer.is_empty() {
            self.fill_or_fail(deadline)?;
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
        out.extend(self.buffer.drain(..count));
        Ok(u64::try_from(count).unwrap_or(left))
    }

    fn read_chunk_size(&mut self, deadline: &Deadline) -> Result<Framing> {
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                // What follows the last chunk are trailers, which nobody here reads.
                Ok(httparse::Status::Complete((_, 0))) => return Ok(Framing::Done),
                Ok(httparse::Status::Complete((used, size))) => {
                    self.buffer.drain(..used);
                    return Ok(Framing::ChunkData(size));
                }
                Ok(httparse::Status::Partial) if self.buffer.len() < MAX_HEAD_BYTES => {
                    self.fill_or_fail(deadline)?;
                }
                _ => return Err(self.not_http("bad chunk size")),
            }
        }
    }

    fn skip_line_end(&mut self, deadline: &Deadline) -> Result<()> {
        while self.buffer.len() < 2 {
            self.fill_or_fail(deadline)?;
        }
        if !self.buffer.starts_with(b"\r\n") {
            return Err(self.not_http("chunk has no end"));
        }
        self.buffer.drain(..2);
        Ok(())
    }
}

/// Says how the body ends; `None` for a length that is no number.
fn framing_of(headers: &[httparse::Header<'_>]) -> Option<Framing> {
    let value = |name: &str| {
        let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    if value("transfer-encoding").is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked")) {
        return Some(Framing::ChunkSize);
    }
    match value("content-length") {
        Some(length) => length.trim().parse().ok().map(Framing::Length),
        None => Some(Framing::ToEnd),
    }
}

/// A peer that fails is [`ErrorKind::Peer`], whatever the kernel or rustls calls it; the OS error stays
/// inside, so that "nobody listens" can be told apart.
fn failed(what: String, source: std::io::Error) -> Error {
    let kind = match source.kind() {
        Io::TimedOut | Io::WouldBlock => ErrorKind::Timeout,
        _ => ErrorKind::Peer,
    };
    Error::with_source(kind, what, source)
}

#[cfg(test)]
mod tests;
