//! The shipped policy `default` as a plain module: an observation in, decisions out, both as JSON.
//!
//! The rules and the contract's types come in by path and not as crates, because the SDK's types are the
//! component's bindings when it is built for wasm, and those know no JSON.

extern crate self as cprecover_policy_sdk;

#[path = "../../../sdk/src/contract/mod.rs"]
pub mod contract;
// What only the crate's other users call.
#[allow(dead_code)]
#[path = "../../../src/profile.rs"]
mod profile;
#[allow(dead_code)]
#[path = "../../../src/rules/mod.rs"]
mod rules;

#[cfg(feature = "extism")]
mod by_extism;
#[cfg(not(feature = "extism"))]
mod by_memory;

use profile::Profile;

fn answer(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let seen: contract::Observation = serde_json::from_slice(json)?;
    let decisions = Profile::Default.narrow(rules::apply(&rules::Case::new(Profile::Default, &seen)));
    serde_json::to_vec(&decisions)
}
