//! The etcd cluster and the local data folder, as far as they can be seen without the API server.

mod data;
#[cfg(test)]
pub(in crate::recover) mod fake;
mod members;
#[cfg(test)]
mod tests;

use crate::diagnose::{DataVerdict, HealthFact};
use crate::etcd::{ClusterView, DataReport, MemberHealth, MemberView, ViewSource};
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::policy::contract::{Etcd, EtcdMember, Verdict};
use crate::recover::cache::Cache;
use crate::recover::observation::{EtcdFacts, ExpectedPod};
use crate::recover::view::contract_data;
use crate::sys::Deadline;

pub(in crate::recover) use members::{addresses, local_health, members_now, projection};

/// What was seen of etcd, in the terms of diagnosis, of policies, and in full.
pub(super) struct Seen {
    pub(super) data: Observed<DataVerdict>,
    pub(super) voters: Observed<u32>,
    pub(super) contract: Etcd,
    pub(super) facts: EtcdFacts,
}

/// Looks at the data folder and asks the members.
pub(super) fn look(
    node: &NodeOptions,
    pods: &[ExpectedPod],
    health: &[HealthFact],
    cache: &mut Cache,
    deadline: &Deadline,
) -> Seen {
    let Some(expected) = pods.iter().find(|pod| pod.component == Component::Etcd) else {
        let contract = Etcd { external: true, ..Etcd::default() };
        let why = || "etcd is external".to_owned();
        let (data, voters) = (Observed::Unknown(why()), Observed::Unknown(why()));
        return Seen { data, voters, contract, facts: EtcdFacts::default() };
    };
    let manifest = expected.pod.as_ref();
    let verdict = data::verdict(node, manifest, cache, deadline);
    let data = data::in_short(&verdict);
    let report = verdict.present().map(|verdict| &verdict.report);
    let health = members::local_health(health);
    let (cluster, alarms) = match manifest {
        Some(manifest) => members::ask(node, manifest, report, health, deadline),
        None => (
            from_database(report).ok_or_else(|| "etcd's manifest is not known".to_owned()),
            Observed::Unknown("nobody was asked".to_owned()),
        ),
    };
    let local = cluster.as_ref().ok().and_then(|cluster| local_member(cluster, manifest, report));
    let cluster = match cluster {
        Ok(cluster) => Observed::Present(cluster),
        Err(why) => Observed::Unknown(why),
    };
    let projection = match (&cluster, &local) {
        (Observed::Present(cluster), Some(local)) => Some(members::projection(cluster, local)),
        _ => None,
    };
    let contract = contract(&cluster, local.as_deref(), &data, &alarms);
    let voters = match &cluster {
        Observed::Present(view) if view.source == ViewSource::InitialCluster => {
            Observed::Unknown("only --initial-cluster names members".to_owned())
        }
        Observed::Present(view) => Observed::Present(view.count().0),
        Observed::Absent => Observed::Absent,
        Observed::Unknown(why) => Observed::Unknown(why.clone()),
    };
    let facts = EtcdFacts { data: verdict, cluster, alarms, local, projection };
    Seen { data, voters, contract, facts }
}

/// The members that the database at rest lists.
fn from_database(report: Option<&DataReport>) -> Option<ClusterView> {
    let view = ClusterView::from_database(report?.db.present()?);
    (!view.members.is_empty()).then_some(view)
}

/// What the one member is called that is this node's: by the id in the data folder, else by the manifest's name
/// where only one has it. After a reinstall two may.
pub(in crate::recover) fn local_member(
    cluster: &ClusterView,
    manifest: Option<&StaticPod>,
    report: Option<&DataReport>,
) -> Option<String> {
    let id = report.and_then(|report| report.member_id);
    let by_id = id.and_then(|id| cluster.members.iter().find(|member| member.id == Some(id)));
    let name = manifest.and_then(|manifest| manifest.flag("name")).unwrap_or_default();
    let member = by_id.or_else(|| only_namesake(cluster, name))?;
    match only_namesake(cluster, &member.name) {
        Some(_) => Some(member.name.clone()),
        None => member.id.map(|id| id.to_string()),
    }
}

fn only_namesake<'a>(cluster: &'a ClusterView, name: &str) -> Option<&'a MemberView> {
    let mut found = cluster.members.iter().filter(|member| !name.is_empty() && member.name == name);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn contract(
    cluster: &Observed<ClusterView>,
    local: Option<&str>,
    data: &Observed<DataVerdict>,
    alarms: &Observed<Vec<String>>,
) -> Etcd {
    let view = cluster.present();
    let members = view.map(|view| view.members.as_slice()).unwrap_or_default();
    Etcd {
        external: false,
        data: contract_data(data),
        members: members.iter().map(|member| contract_member(member, local)).collect(),
        quorum: view.filter(|view| !view.members.is_empty()).map_or(0, |view| view.count().2),
        alarms: alarms.present().cloned().unwrap_or_default(),
    }
}

fn contract_member(member: &MemberView, local: Option<&str>) -> EtcdMember {
    let id = member.id.map(|id| id.to_string()).unwrap_or_default();
    EtcdMember {
        name: member.name.clone(),
        healthy: match member.health {
            MemberHealth::Healthy => Verdict::Yes,
            MemberHealth::Unhealthy => Verdict::No,
            MemberHealth::Unknown => Verdict::Unknown,
        },
        learner: member.learner,
        leader: member.leader,
        local: local.is_some_and(|local| member.is_called(local)),
        id,
    }
}
