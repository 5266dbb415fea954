//! How a member and its cluster are doing, in one answer.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::client::Client;
use super::gateway::{Alarm, Status};
use super::project::ClusterView;
use crate::error::Result;
use crate::model::Observed;
use crate::sys::Deadline;

/// How long asking all members may take.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(20);

/// What a member says of itself, and what all members say of their cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClusterStatus {
    /// The member that was asked.
    pub address: SocketAddr,
    /// Whether there are a leader, a quorum of healthy voters, and no alarms.
    pub healthy: bool,
    /// What the member says of itself.
    pub status: Status,
    /// All members.
    pub cluster: ClusterView,
    /// How many of them vote.
    pub voters: u32,
    /// How many of these are healthy.
    pub healthy_voters: u32,
    /// How many of these are needed.
    pub quorum: u32,
    /// Alarms that are set; unknown without a leader, who would be asked.
    pub alarms: Observed<Vec<Alarm>>,
}

/// Asks a member how it and its cluster are doing.
///
/// # Errors
/// The kinds of a failed call of [`Client`]; a cluster without quorum is an answer.
pub fn status(client: &Client, deadline: &Deadline) -> Result<ClusterStatus> {
    let status = client.status(deadline)?;
    let cluster = client.survey(&deadline.at_most(SURVEY_TIMEOUT))?;
    let (voters, healthy_voters, quorum) = cluster.count();
    // Without a quorum to read through, the call would only wait.
    let alarms = match status.leader {
        Some(_) => Observed::from_result(client.alarms(deadline)),
        None => Observed::Unknown("no leader to ask".to_owned()),
    };
    let quiet = alarms.present().is_some_and(Vec::is_empty);
    let healthy = quiet && healthy_voters >= quorum && status.leader.is_some();
    Ok(ClusterStatus {
        address: client.address(),
        healthy,
        status,
        cluster,
        voters,
        healthy_voters,
        quorum,
        alarms,
    })
}
