//! `runtime.v1.RuntimeService` on a unix socket, for any handler of its methods.
//!
//! Tests include this file too (`#[path]`), so it uses nothing of the program around it.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use prost::bytes::{Buf as _, BufMut as _};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::tokio_stream::wrappers::UnixListenerStream;
use tonic::codegen::{BoxFuture, http};
use tonic::server::{Grpc, NamedService, UnaryService};

/// What a handler does about one call.
pub(crate) enum Answer {
    /// Answers with these bytes, a message.
    Reply(Vec<u8>),
    /// Never answers; the call ends when the client gives up.
    Hang,
}

/// Answers the calls. Each call has a thread of its own and may block it.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one call of the method, as `ListPodSandbox`.
    fn handle(&self, method: &str, request: &[u8]) -> Result<Answer, Status>;
}

/// Serves until `stop` ends.
pub(crate) async fn serve(
    listener: tokio::net::UnixListener,
    handler: Arc<dyn Handler>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .add_service(RuntimeService { handler })
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop)
        .await
}

#[derive(Clone)]
struct RuntimeService {
    handler: Arc<dyn Handler>,
}

impl NamedService for RuntimeService {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}

impl tower::Service<http::Request<Body>> for RuntimeService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let call = Call { method, handler: Arc::clone(&self.handler) };
        Box::pin(async move { Ok(Grpc::new(RawCodec).unary(call, request).await) })
    }
}

struct Call {
    method: String,
    handler: Arc<dyn Handler>,
}

impl UnaryService<Vec<u8>> for Call {
    type Response = Vec<u8>;
    type Future = BoxFuture<tonic::Response<Vec<u8>>, Status>;

    fn call(&mut self, request: tonic::Request<Vec<u8>>) -> Self::Future {
        let (handler, method) = (Arc::clone(&self.handler), self.method.clone());
        Box::pin(async move {
            let request = request.into_inner();
            let answer = tokio::task::spawn_blocking(move || handler.handle(&method, &request))
                .await
                .map_err(|error| Status::internal(error.to_string()))?;
            match answer? {
                Answer::Reply(bytes) => Ok(tonic::Response::new(bytes)),
                Answer::Hang => std::future::pending().await,
            }
        })
    }
}

/// Passes messages on as bytes; handlers decode them.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
