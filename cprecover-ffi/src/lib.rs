//! The C ABI of cprecover; `include/cprecover.h` is its contract.
//!
//! Every exported function is one call of a frame or of the guard (`tests/surface.rs` looks), which clears
//! the outputs, catches panics and hands out errors. Handles are looked up, never dereferenced.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![allow(
    clippy::missing_safety_doc,
    reason = "the contract is one for all functions and stands in the header"
)]

mod args;
mod audit;
mod backup;
mod buf;
mod bundle;
mod call;
mod cancel;
#[cfg(test)]
mod cancel_tests;
mod error;
mod etcd;
mod failure;
mod frame;
mod guard;
mod handle;
mod healthz;
mod json;
mod log;
mod names;
mod node;
mod observe;
mod plan;
mod pods;
#[cfg(test)]
mod poison;
mod policy;
mod port;
mod regenerate;
mod status;
mod table;
mod version;
mod watch;

pub use audit::*;
pub use backup::*;
pub use buf::*;
pub use bundle::*;
pub use call::*;
pub use cancel::*;
pub use error::*;
pub use etcd::*;
pub use healthz::*;
pub use names::*;
pub use node::*;
pub use observe::*;
pub use plan::*;
pub use pods::*;
pub use policy::*;
pub use port::*;
pub use regenerate::*;
pub use status::*;
pub use version::*;
pub use watch::*;
