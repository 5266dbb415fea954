//! The rules of the shipped policies: pure functions over an observation.
//!
//! The same code is compiled into the components under `components/` and called natively where the
//! feature `wasm` of `cprecover` is off.

#![forbid(unsafe_code)]

mod profile;
mod rules;
#[cfg(feature = "components")]
pub mod shipped;

use cprecover_policy_sdk::contract::{Decision, Metadata, Observation, Rule};

pub use profile::Profile;
pub use rules::{CLOCK_STEP_MS, HELD, KUBELET_CLIENT, NEEDED_CERTIFICATES};

/// Version of the rules and of the shipped policies.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns what the policy says about itself.
#[must_use]
pub fn describe(profile: Profile) -> Metadata {
    Metadata {
        name: profile.name().into(),
        version: VERSION.into(),
        description: profile.description().into(),
        rules: rules::ALL
            .iter()
            .map(|rule| Rule { id: rule.id.into(), summary: rule.summary.into() })
            .collect(),
    }
}

/// Returns what should be done about `observation`, in order; empty when there is nothing to do.
#[must_use]
pub fn decide(profile: Profile, observation: &Observation) -> Vec<Decision> {
    profile.narrow(rules::apply(&rules::Case::new(profile, observation)))
}
