//! The etcd cluster and the local data folder, as far as they can be seen without the API server.

use std::path::PathBuf;

use crate::diagnose::{DataVerdict, HealthFact, HealthState, Subject};
use crate::healthz;
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::policy::contract::{Etcd, EtcdMember, Verdict};
use crate::probe::Outcome;
use crate::recover::observation::ExpectedPod;
use crate::recover::view::contract_data;
use crate::sys::Deadline;

/// Where the data folder is, on the node.
fn data_dir(node: &NodeOptions, pod: Option<&StaticPod>) -> PathBuf {
    pod.and_then(StaticPod::etcd_data_dir).unwrap_or_else(|| node.etcd_data_dir.clone())
}

/// Looks at the data folder without starting etcd.
pub(super) fn data(
    node: &NodeOptions,
    pod: Option<&StaticPod>,
    _deadline: &Deadline,
) -> Observed<DataVerdict> {
    let folder = node.resolve(data_dir(node, pod));
    let database = folder.join("member/snap/db");
    match std::fs::symlink_metadata(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Observed::Absent,
        Err(error) => return Observed::Unknown(format!("{}: {error}", folder.display())),
        Ok(_) => {}
    }
    if !database.exists() {
        return Observed::Present(DataVerdict::Empty);
    }
    match crate::ports::lock_is_free(&database) {
        Ok(true) => Observed::Present(DataVerdict::Intact),
        Ok(false) => Observed::Present(DataVerdict::Locked(None)),
        Err(error) => Observed::Unknown(error.to_string()),
    }
}

/// The members that the manifest's `--initial-cluster` names; only the local one's health is known.
pub(super) fn cluster(pods: &[ExpectedPod], health: &[HealthFact], data: &Observed<DataVerdict>) -> Etcd {
    let pod = pods.iter().find(|pod| pod.component == Component::Etcd);
    let external = pod.is_none();
    let manifest = pod.and_then(|pod| pod.pod.as_ref());
    let local = manifest.and_then(|manifest| manifest.flag("name")).unwrap_or_default();
    let names = manifest.and_then(|manifest| manifest.flag("initial-cluster")).unwrap_or_default();
    let members: Vec<EtcdMember> = names
        .split(',')
        .filter_map(|member| member.split_once('='))
        .map(|(name, _)| EtcdMember {
            name: name.into(),
            local: name == local,
            healthy: if name == local { local_health(health) } else { Verdict::Unknown },
            ..EtcdMember::default()
        })
        .collect();
    let quorum = if members.is_empty() { 0 } else { members.len() / 2 + 1 };
    Etcd {
        external,
        data: contract_data(data),
        quorum: u32::try_from(quorum).unwrap_or(u32::MAX),
        members,
        alarms: Vec::new(),
    }
}

fn local_health(health: &[HealthFact]) -> Verdict {
    let mut facts = health.iter().filter(|fact| fact.subject == Some(Subject::Component(Component::Etcd)));
    match facts.next().map(|fact| &fact.state) {
        Some(HealthState::Probed(Outcome::Answered { report }) | HealthState::Recorded(report)) => {
            match report.verdict {
                healthz::Verdict::Healthy => Verdict::Yes,
                healthz::Verdict::Unhealthy => Verdict::No,
                _ => Verdict::Unknown,
            }
        }
        // Not asked means that there is no manifest: kubelet runs no etcd then.
        Some(HealthState::Probed(_)) | None => Verdict::No,
    }
}
