//! The container runtime of the node, spoken to without kubelet and without the API server.
//!
//! [`connect`] finds the runtime's socket and speaks CRI (gRPC, `runtime.v1`) with feature `cri`;
//! without it, or when the socket speaks something else, `crictl … -o json` does the same work.
//! [`RuntimeView`] reads, [`Runtime`] changes; [`RuntimeState`] is plain data with pure queries.
//!
//! A runtime that cannot be asked is an error of any kind but [`NotFound`](crate::ErrorKind::NotFound),
//! so that [`Observed::from_result`](crate::model::Observed::from_result) never turns "the runtime is
//! down" into "there are no containers".

mod crictl;
mod endpoint;
#[cfg(feature = "cri")]
mod grpc;
mod model;
pub mod parse;
mod query;
mod replaced;
mod retire;
mod runtime;
#[cfg(test)]
mod tests;
#[cfg(feature = "cri")]
#[doc(hidden)]
pub mod wire;

pub(crate) use endpoint::unit;
pub use endpoint::{Endpoint, KNOWN_SOCKETS, endpoints};
pub use model::{
    Container, ContainerDetail, ContainerState, Mount, RuntimeCondition, RuntimeInfo, RuntimeState, Sandbox,
    SandboxState, Transport, UnixNanos,
};
pub(crate) use replaced::InPlace;
pub use retire::retire_sandbox;
pub use runtime::{Runtime, RuntimeView, connect};
