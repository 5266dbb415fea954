//! The rules of the shipped policies: pure functions over an observation.
//!
//! The same code is compiled into the components under `components/` and called natively where the
//! feature `wasm` of `cprecover` is off.

use cprecover_policy_sdk::contract::{Decision, Metadata, Observation};

/// Which of the shipped policies the rules act as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// The outage's remedy in full.
    Default,
    /// Says what is wrong and calls a person; never acts.
    ObserveOnly,
    /// As `Default`, but calls a person before anything destructive.
    Conservative,
    /// As `Default`, with less waiting, for a node that is the whole control plane.
    AggressiveSingleNode,
}

impl Profile {
    /// All shipped policies.
    pub const ALL: [Self; 4] =
        [Self::Default, Self::ObserveOnly, Self::Conservative, Self::AggressiveSingleNode];

    /// Returns the policy's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::ObserveOnly => "observe-only",
            Self::Conservative => "conservative",
            Self::AggressiveSingleNode => "aggressive-single-node",
        }
    }
}

/// Returns what the policy says about itself.
#[must_use]
pub fn describe(_profile: Profile) -> Metadata {
    todo!("rules follow in the next commits")
}

/// Returns what should be done about `observation`, most urgent first.
#[must_use]
pub fn decide(_profile: Profile, _observation: &Observation) -> Vec<Decision> {
    todo!("rules follow in the next commits")
}
