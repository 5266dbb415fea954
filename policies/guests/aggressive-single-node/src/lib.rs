//! The shipped policy `aggressive-single-node` as a component.

use cprecover_policies::Profile;
use cprecover_policy_sdk::contract::{Decision, Metadata, Observation};

const PROFILE: Profile = Profile::AggressiveSingleNode;

fn describe() -> Metadata {
    cprecover_policies::describe(PROFILE)
}

// The contract hands the observation over and expects a result.
#[allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps)]
fn decide(observation: Observation) -> Result<Vec<Decision>, String> {
    Ok(cprecover_policies::decide(PROFILE, &observation))
}

cprecover_policy_sdk::export_policy!(describe, decide);
