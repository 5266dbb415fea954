//! Types, bindings and builders for policies that decide when cprecover acts.
//!
//! On a wasm target [`contract`] holds the bindings generated from `wit/policy.wit`, and
//! `export_policy!` exports a policy. Anywhere else it holds the same types in plain Rust with serde,
//! so that rules can be tested without a wasm engine, on what the builders in `observed` make.

#[cfg(not(target_family = "wasm"))]
pub mod contract;
#[cfg(target_family = "wasm")]
mod guest;
#[cfg(not(target_family = "wasm"))]
pub mod observed;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use guest::{bindings, export_bindings, exports};
#[cfg(target_family = "wasm")]
pub use guest::{contract, log};

/// Version of the WIT package that this crate speaks.
pub const CONTRACT_VERSION: &str = "0.1.0";
