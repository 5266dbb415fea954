//! One bounded gRPC call at a time over a unix socket.

use std::future::Future;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustix::fs::{Mode, OFlags};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::Deadline;

/// The most that one answer may have; kubelet's limit too (kubernetes
/// `staging/src/k8s.io/cri-client/pkg/utils.go`, `maxMsgSize`).
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// How soon a cancel is seen.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// `sizeof(sun_path)` in unix(7), with the final zero.
const SUN_PATH_BYTES: usize = 108;

/// A CRI client that holds nothing between calls.
///
/// Each call makes its own connection and its own current-thread executor, so that a runtime that was
/// restarted in between, a fork or a caller's own async runtime cannot disturb it.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Makes a client of the socket; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Returns the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Calls `method` of `runtime.v1.RuntimeService`; `what` names it in errors, as `stop sandbox 7`.
    ///
    /// From inside an async runtime's thread the call blocks that thread and works on one of its own
    /// that ends with the call.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] only when the runtime itself answers so.
    pub fn call<Q, A>(&self, method: &str, what: &str, request: Q, deadline: &Deadline) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        deadline.check(what)?;
        let work = || self.run(self.exchange(method, request, deadline), what, deadline);
        if tokio::runtime::Handle::try_current().is_err() {
            return work();
        }
        std::thread::scope(|scope| {
            scope.spawn(work).join().unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Internal, format!("{what}: the call panicked")))
            })
        })
    }

    fn run<T>(&self, call: impl Future<Output = Result<T>>, what: &str, deadline: &Deadline) -> Result<T> {
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::io("start an executor", source))?;
        let outcome = executor.block_on(async {
            let mut call = std::pin::pin!(call);
            loop {
                // The last slice may be longer than what is left, so that the server's own answer
                // "deadline exceeded" has a chance; the check ends the loop all the same.
                if let Ok(outcome) = tokio::time::timeout(CANCEL_POLL, call.as_mut()).await {
                    return outcome;
                }
                deadline.check("no answer")?;
            }
        });
        outcome.map_err(|error: Error| error.context(format!("{what} ({})", self.socket.display())))
    }

    async fn exchange<Q, A>(&self, method: &str, request: Q, deadline: &Deadline) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let channel = connect(&self.socket, deadline).await?;
        let mut grpc = tonic::client::Grpc::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        grpc.ready().await.map_err(|source| {
            Error::with_source(ErrorKind::Peer, "the connection ended before the call", source)
        })?;
        let path = super::method_path(method).parse().map_err(|source| {
            Error::with_source(ErrorKind::Internal, format!("method {method}: not a path"), source)
        })?;
        let mut request = tonic::Request::new(request);
        // The server ends its work too; containerd passes this deadline on to its own tasks.
        request.set_timeout(deadline.remaining());
        let codec = super::bounded::BoundedCodec::<Q, A>::default();
        grpc.unary(request, path, codec)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| of_status(&status))
    }
}

async fn connect(socket: &Path, deadline: &Deadline) -> Result<Channel> {
    let stream = loop {
        match dial(socket).await {
            Ok(stream) => break stream,
            // unix(7): the listener's queue is full. It may be hung or only busy.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                deadline.check("connect: the listener's queue is full")?;
                tokio::time::sleep(CANCEL_POLL).await;
            }
            Err(error) => return Err(unreachable(error)),
        }
    };
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        // One connection for one call: a second one would mean that the first was lost.
        let taken = stream.take().ok_or_else(|| std::io::Error::other("the connection was lost"));
        async move { taken.map(TokioIo::new) }
    });
    // The name is never looked up; grpc-go sends `localhost` over unix sockets as well.
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map_err(|source| Error::with_source(ErrorKind::Peer, "no HTTP/2 on this socket", source))
}

async fn dial(socket: &Path) -> std::io::Result<UnixStream> {
    if socket.as_os_str().as_bytes().len() < SUN_PATH_BYTES {
        return UnixStream::connect(socket).await;
    }
    // Too long for sockaddr_un: reached through the folder's descriptor.
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return UnixStream::connect(socket).await;
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).await
}

/// A socket that cannot be reached says nothing about containers, so it is never "not found".
fn unreachable(source: std::io::Error) -> Error {
    let kind = match source.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Peer,
    };
    Error::with_source(kind, "connect", source)
}

/// Codes: grpc `doc/statuscodes.md`.
fn of_status(status: &Status) -> Error {
    let kind = match status.code() {
        Code::NotFound => ErrorKind::NotFound,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        // tonic's own timer answers so when the deadline of the request passes.
        Code::Cancelled if status.message().contains("Timeout expired") => ErrorKind::Timeout,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::PermissionDenied,
        Code::OutOfRange if status.message().contains("message length too large") => ErrorKind::Limit,
        Code::ResourceExhausted => ErrorKind::Limit,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        _ => ErrorKind::Peer,
    };
    let said = status.message().replace('\n', " | ");
    Error::new(kind, format!("the runtime answered {:?}: {said}", status.code()))
}
