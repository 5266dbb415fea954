//! As much of HTTP/1.1 as one GET needs; httparse reads the head.

use super::Target;
use crate::error::{Error, ErrorKind, Result};

/// Longer heads are refused, in bytes.
const MAX_HEAD: usize = 32 << 10;

/// Writes the request.
pub(super) fn request_of(target: &Target) -> Result<Vec<u8>> {
    let path = &target.path;
    // A line feed or a blank would end the request line.
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::new(ErrorKind::Invalid, format!("{path:?} is no path of a URL")));
    }
    let host = target.address;
    let agent = concat!("cprecover/", env!("CARGO_PKG_VERSION"));
    Ok(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    .into_bytes())
}

/// An answer as far as it has come.
pub(super) struct Response {
    raw: Vec<u8>,
    head: Option<Head>,
    limit: usize,
}

#[derive(Clone, Copy)]
struct Head {
    code: u16,
    /// Where the body begins.
    length: usize,
    body: Body,
}

#[derive(Clone, Copy)]
enum Body {
    None,
    Sized(usize),
    Chunked,
    ToTheEnd,
}

impl Response {
    /// Begins an answer of which `limit` bytes of body are kept.
    pub(super) const fn new(limit: usize) -> Self {
        Self { raw: Vec::new(), head: None, limit }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Reports whether the end of the connection is the end of the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.head.is_some_and(|head| matches!(head.body, Body::ToTheEnd))
    }

    /// Takes the next bytes; returns whether the answer is complete, or what is wrong with it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<bool, String> {
        self.raw.extend_from_slice(bytes);
        if self.head.is_none() {
            self.head = self.read_head()?;
        }
        let Some(head) = self.head else { return Ok(false) };
        let body = self.raw.get(head.length..).unwrap_or_default();
        // Framing of chunks costs little; twice the limit is enough of it.
        if body.len() >= self.limit.saturating_mul(2).max(64) {
            return Ok(true);
        }
        Ok(match head.body {
            Body::None => true,
            Body::Sized(size) => body.len() >= size.min(self.limit),
            Body::ToTheEnd => body.len() >= self.limit,
            // The last chunk ends in a line feed; looking sooner would make a slow peer costly.
            Body::Chunked => body.ends_with(b"\n") && unchunk(body, self.limit)?.1,
        })
    }

    /// Returns status code and body.
    pub(super) fn into_parts(self) -> (u16, Vec<u8>) {
        let Some(head) = self.head else { return (0, Vec::new()) };
        let body = self.raw.get(head.length..).unwrap_or_default();
        let mut body = match head.body {
            Body::None => Vec::new(),
            Body::Sized(size) => body.get(..size).unwrap_or(body).to_vec(),
            Body::ToTheEnd => body.to_vec(),
            Body::Chunked => unchunk(body, self.limit).map(|(body, _)| body).unwrap_or_default(),
        };
        body.truncate(self.limit);
        (head.code, body)
    }

    fn read_head(&self) -> Result<Option<Head>, String> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(&self.raw) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.raw.len() > MAX_HEAD => {
                return Err(format!("its head is longer than {MAX_HEAD} bytes"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let code = response.code.unwrap_or(0);
        let header = |name: &str| {
            response
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name))
                .and_then(|header| std::str::from_utf8(header.value).ok())
                .map(str::trim)
        };
        let body = if code < 200 || code == 204 || code == 304 {
            Body::None
        } else if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            Body::Chunked
        } else {
            match header("content-length") {
                Some(text) => Body::Sized(text.parse().map_err(|_| format!("content-length {text:?}"))?),
                None => Body::ToTheEnd,
            }
        };
        Ok(Some(Head { code, length, body }))
    }
}

/// Undoes chunked transfer coding (RFC 9112, 7.1); returns the body so far and whether it is complete.
fn unchunk(mut rest: &[u8], limit: usize) -> Result<(Vec<u8>, bool), String> {
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok((body, false)),
            Err(_) => return Err("a chunk has no valid size".to_owned()),
        };
        // The trailer after the last chunk is of no interest.
        if size == 0 || body.len() >= limit {
            return Ok((body, true));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let end = start.saturating_add(size);
        let Some(chunk) = rest.get(start..end) else {
            body.extend_from_slice(rest.get(start..).unwrap_or_default());
            return Ok((body, false));
        };
        body.extend_from_slice(chunk);
        rest = rest.get(end.saturating_add(2)..).unwrap_or_default();
    }
}
