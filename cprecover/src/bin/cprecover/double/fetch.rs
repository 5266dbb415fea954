//! One HTTP(S) request of a stand-in component to another, with a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cprecover::{Error, ErrorKind, Result};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

/// The largest answer that is read, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Where a request goes.
#[derive(Clone)]
pub(crate) struct Peer {
    /// The address.
    pub(crate) address: SocketAddr,
    /// TLS set-up; plain HTTP without.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Peer {
    /// Sends a request and returns status and body.
    pub(crate) async fn send(
        &self,
        path: &str,
        body: Option<String>,
        timeout: Duration,
    ) -> Result<(u16, Bytes)> {
        let what = format!("request {path} from {}", self.address);
        match tokio::time::timeout(timeout, self.exchange(path, body)).await {
            Ok(answer) => answer.map_err(|source| Error::with_source(ErrorKind::Peer, what, source)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("{what}: no answer in {timeout:?}"))),
        }
    }

    /// Like [`Self::send`], for callers that run no event loop.
    pub(crate) fn send_blocking(
        &self,
        path: &str,
        body: Option<String>,
        timeout: Duration,
    ) -> Result<(u16, Bytes)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .map_err(|source| Error::io("start event loop", source))?
            .block_on(self.send(path, body, timeout))
    }

    async fn exchange(
        &self,
        path: &str,
        body: Option<String>,
    ) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = tokio::net::TcpStream::connect(self.address).await?;
        match &self.tls {
            Some(config) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                let stream =
                    tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
                self.over(TokioIo::new(stream), path, body).await
            }
            None => self.over(TokioIo::new(stream), path, body).await,
        }
    }

    async fn over<S>(
        &self,
        stream: S,
        path: &str,
        body: Option<String>,
    ) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let driver = tokio::spawn(connection);
        let method = if body.is_some() { "POST" } else { "GET" };
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await?.to_bytes();
        driver.abort();
        Ok((status, body))
    }
}
