//! The messages of `runtime.v1` that this crate speaks, written by hand.
//!
//! A subset of kubernetes/cri-api `pkg/apis/runtime/v1/api.proto`: fields that are not here are skipped
//! when read and absent when written. `runtime_v1.proto` beside this file says the same in protobuf's
//! own language; `wire::tests` holds the two together.
//!
//! No part of the stable API: public for the program's stand-in runtime and its tests.

mod bounded;
mod client;
mod container;
mod sandbox;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use container::*;
pub use sandbox::*;

/// Path of a method of `runtime.v1.RuntimeService`.
#[must_use]
pub fn method_path(name: &str) -> String {
    format!("/runtime.v1.RuntimeService/{name}")
}

/// `VersionRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VersionRequest {
    /// Version of kubelet's runtime API.
    #[prost(string, tag = "1")]
    pub version: String,
}

/// `VersionResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VersionResponse {
    /// Version of kubelet's runtime API.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Name of the runtime.
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    /// Version of the runtime.
    #[prost(string, tag = "3")]
    pub runtime_version: String,
    /// Version of CRI.
    #[prost(string, tag = "4")]
    pub runtime_api_version: String,
}

/// `StatusRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatusRequest {
    /// Whether to fill `info`.
    #[prost(bool, tag = "1")]
    pub verbose: bool,
}

/// `StatusResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatusResponse {
    /// The conditions.
    #[prost(message, optional, tag = "1")]
    pub status: Option<RuntimeStatus>,
}

/// `RuntimeStatus`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeStatus {
    /// The conditions.
    #[prost(message, repeated, tag = "1")]
    pub conditions: Vec<RuntimeCondition>,
}

/// `RuntimeCondition`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeCondition {
    /// Its type.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// Whether it holds.
    #[prost(bool, tag = "2")]
    pub status: bool,
    /// Why not, in one word.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// Why not, in a sentence.
    #[prost(string, tag = "4")]
    pub message: String,
}
