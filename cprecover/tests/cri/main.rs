//! The container runtime: gRPC against recorded answers, `crictl` against a script, and the program's
//! stand-in runtime with real processes.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod containerd;
mod crictl;
mod double;
#[path = "../executable/mod.rs"]
mod executable;
mod fixtures;
mod grpc;
mod node;
mod replay;
#[path = "../../src/bin/cprecover/double/runtime/service.rs"]
mod service;
