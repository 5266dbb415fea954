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
    chunks: Chunks,
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
    pub(super) fn new(limit: usize) -> Self {
        Self { raw: Vec::new(), head: None, chunks: Chunks::default(), limit }
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
            Body::Chunked => {
                self.chunks.take(body, self.limit)?;
                self.chunks.is_complete
            }
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
            Body::Chunked => self.chunks.body,
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

/// Reads bytes as an answer, whole and in pieces, for fuzzing.
pub(crate) fn read_any(bytes: &[u8]) {
    const LIMIT: usize = 1 << 20;
    for size in [bytes.len().max(1), 7] {
        let mut response = Response::new(LIMIT);
        for piece in bytes.chunks(size) {
            if response.take(piece) != Ok(false) {
                break;
            }
        }
        assert!(response.into_parts().1.len() <= LIMIT, "a body over its limit");
    }
}

/// Undoes chunked transfer coding (RFC 9112, 7.1) as it comes, so that each byte is looked at once.
#[derive(Default)]
struct Chunks {
    /// How many bytes of the raw body were taken.
    at: usize,
    /// How many bytes of the current chunk are still to come, with its line end.
    left: usize,
    /// Whether the last chunk was seen; its trailer is of no interest.
    is_complete: bool,
    body: Vec<u8>,
}

impl Chunks {
    /// Takes what is new in the raw body.
    fn take(&mut self, raw: &[u8], limit: usize) -> Result<(), String> {
        const LINE_END: usize = 2;
        while !self.is_complete {
            let rest = raw.get(self.at..).unwrap_or_default();
            if self.left > 0 {
                let count = rest.len().min(self.left);
                let content = count.min(self.left.saturating_sub(LINE_END));
                self.body.extend_from_slice(rest.get(..content).unwrap_or_default());
                (self.at, self.left) = (self.at + count, self.left - count);
                if self.left > 0 {
                    return Ok(());
                }
                continue;
            }
            let (start, size) = match httparse::parse_chunk_size(rest) {
                Ok(httparse::Status::Complete(found)) => found,
                Ok(httparse::Status::Partial) => return Ok(()),
                Err(_) => return Err("a chunk has no valid size".to_owned()),
            };
            self.is_complete = size == 0 || self.body.len() >= limit;
            self.at += start;
            self.left = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(LINE_END);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds an answer in pieces; returns whether it was complete, and code and body.
    fn fed(answer: &[u8], size: usize) -> Result<(bool, (u16, Vec<u8>)), String> {
        let mut response = Response::new(1 << 20);
        let mut is_complete = false;
        for piece in answer.chunks(size.max(1)) {
            is_complete = response.take(piece)?;
            if is_complete {
                break;
            }
        }
        Ok((is_complete, response.into_parts()))
    }

    #[test]
    fn chunks_come_out_the_same_however_they_are_cut() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[+]\r\n5;x=y\r\na\r\nok\r\n0\r\nT: 1\r\n\r\n";
        for size in 1..=answer.len() {
            assert_eq!(fed(answer, size), Ok((true, (200, b"[+]a\r\nok".to_vec()))), "pieces of {size}");
        }
        assert!(fed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 7).is_err());
        let huge = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nok";
        assert_eq!(fed(huge, 5), Ok((false, (200, b"ok".to_vec()))));
    }

    proptest::proptest! {
        #[test]
        fn no_byte_soup_panics_or_outgrows_the_limit(
            head in "(HTTP/1\\.[01] [0-9]{1,4}[ -~]{0,9}\r\n([a-zA-Z-]{1,20}: [ -~]{0,30}\r\n){0,3}(Transfer-Encoding: chunked\r\n)?\r\n)?",
            soup in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000),
            size in 1_usize..300,
        ) {
            let answer = [head.as_bytes(), &soup].concat();
            let whole = fed(&answer, answer.len());
            let pieces = fed(&answer, size);
            if let (Ok((true, whole)), Ok((true, pieces))) = (&whole, &pieces) {
                proptest::prop_assert!(whole.1.starts_with(&pieces.1) || pieces.1.starts_with(&whole.1));
                proptest::prop_assert!(whole.1.len() <= 1 << 20);
            }
        }
    }
}
