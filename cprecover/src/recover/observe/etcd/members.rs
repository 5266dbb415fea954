//! The members: who they are and how they do, from whoever answers.

use std::net::SocketAddr;
use std::time::Duration;

use super::from_database;
use crate::diagnose::{HealthFact, HealthState, Subject};
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::{
    Client, ClusterView, DataReport, Effect, MemberHealth, MemberRecord, MemberView, Projection, Step,
    project,
};
use crate::healthz;
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::probe::Outcome;
use crate::sys::Deadline;

/// How long one member may take for its list, and the survey in all.
const MEMBER_TIMEOUT: Duration = Duration::from_millis(700);
const SURVEY_TIMEOUT: Duration = Duration::from_secs(3);
/// How many of the other members are asked for the list when the local one does not answer.
const MAX_PEERS: usize = 6;

/// Who the members are, as far as that can be told now.
pub(in crate::recover) struct Members {
    /// The members; why nothing tells how many there are, else.
    pub(in crate::recover) view: std::result::Result<ClusterView, String>,
    /// This node's among them: its name, or its id where the name does not tell.
    pub(in crate::recover) local: Option<String>,
    /// Who listed them; why nobody did, else.
    pub(in crate::recover) client: std::result::Result<Client, String>,
}

/// Asks the local member for all members and their health; another member when it does not answer. When none
/// does, the members that the database or `--initial-cluster` names are all that is known, and of their
/// health only the local one's.
///
/// # Errors
/// [`ErrorKind::Cancelled`] only.
pub(in crate::recover) fn members_now(
    node: &NodeOptions,
    manifest: &StaticPod,
    report: Option<&DataReport>,
    health: LocalHealth,
    deadline: &Deadline,
) -> Result<Members> {
    let (view, client) = match survey(node, manifest, report, health != LocalHealth::Silent, deadline) {
        Ok((client, view)) => (Ok(view), Ok(client)),
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        Err(error) => {
            let guess = from_database(report).map_or_else(|| from_manifest(manifest), Ok);
            (guess.map_err(|guess| format!("{error}; {guess}")), Err(error.to_string()))
        }
    };
    let local = view.as_ref().ok().and_then(|view| super::local_member(view, Some(manifest), report));
    let view = view.map(|mut view| {
        match &local {
            Some(local) if client.is_err() => {
                let health = health.of_one_of(view.count().0);
                view.set_health(local, health);
            }
            Some(local) if health == LocalHealth::Silent => settle(&mut view, local),
            _ => {}
        }
        view
    });
    Ok(Members { view, local, client })
}

/// As [`members_now`], in the time that an observation gives; with the alarms that are set.
pub(super) fn ask(
    node: &NodeOptions,
    manifest: &StaticPod,
    report: Option<&DataReport>,
    health: LocalHealth,
    deadline: &Deadline,
) -> (std::result::Result<ClusterView, String>, Observed<Vec<String>>) {
    let deadline = deadline.at_most(SURVEY_TIMEOUT);
    let members = match members_now(node, manifest, report, health, &deadline) {
        Ok(members) => members,
        Err(error) => return (Err(error.to_string()), Observed::Unknown(error.to_string())),
    };
    let alarms = match (&members.client, &members.view) {
        (Ok(client), Ok(view)) => alarms(client, view, &deadline),
        (Err(why), _) | (_, Err(why)) => Observed::Unknown(why.clone()),
    };
    (members.view, alarms)
}

/// Lists the members, and asks each how it does, through the first member that answers.
///
/// # Errors
/// [`ErrorKind::Peer`] naming who was asked in vain, [`ErrorKind::Timeout`] and [`ErrorKind::Cancelled`], and the
/// kinds of unreadable client certificates.
fn survey(
    node: &NodeOptions,
    manifest: &StaticPod,
    report: Option<&DataReport>,
    local_answers: bool,
    deadline: &Deadline,
) -> Result<(Client, ClusterView)> {
    let local = Client::of_node(node, manifest)?.within(Duration::from_millis(300), MEMBER_TIMEOUT);
    let others = peers(manifest, report, local.address());
    let mut failures = Vec::new();
    let candidates = local_answers.then(|| local.address()).into_iter().chain(others);
    for address in candidates.take(MAX_PEERS + 1) {
        deadline.check("survey of the etcd cluster")?;
        let answer = local.with_address(address).and_then(|client| {
            let view = client.survey(&deadline.at_most(SURVEY_TIMEOUT))?;
            Ok((client, view))
        });
        match answer {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() {
        failures.push("the local member does not answer, and no other is known".to_owned());
    }
    Err(Error::new(ErrorKind::Peer, format!("no etcd member answers: {}", failures.join("; "))))
}

/// Where the other members can be asked: client URLs of the database's list, else the hosts of its and of
/// `--initial-cluster`'s peer URLs with this member's client port, which kubeadm gives every member.
fn peers(manifest: &StaticPod, report: Option<&DataReport>, local: SocketAddr) -> Vec<SocketAddr> {
    let own = manifest.flag("name").unwrap_or_default();
    let own_id = report.and_then(|report| report.member_id);
    let by_peer_url = |urls: &[String]| -> Vec<SocketAddr> {
        let ports = addresses(urls).map(|peer| SocketAddr::new(peer.ip(), local.port()));
        ports.collect()
    };
    let listed = report.and_then(|report| report.db.present()).map(|db| db.members.as_slice());
    // A namesake may be another member, left from before a reinstall.
    let is_other = |member: &&MemberRecord| own_id.map_or(member.name != own, |own| member.id != own);
    let mut found: Vec<SocketAddr> = listed
        .unwrap_or_default()
        .iter()
        .filter(is_other)
        .flat_map(|member| match addresses(&member.client_urls).collect::<Vec<_>>() {
            none if none.is_empty() => by_peer_url(&member.peer_urls),
            known => known,
        })
        .collect();
    if let Ok(view) = ClusterView::from_initial_cluster(manifest.flag("initial-cluster").unwrap_or_default())
    {
        let others = view.members.iter().filter(|member| member.name != own);
        found.extend(others.flat_map(|member| by_peer_url(&member.peer_urls)));
    }
    let mut once = Vec::new();
    for address in found {
        if address != local && !once.contains(&address) {
            once.push(address);
        }
    }
    once
}

/// The addresses in URLs; a host name gives none, since nothing is resolved here.
pub(in crate::recover) fn addresses(urls: &[String]) -> impl Iterator<Item = SocketAddr> {
    urls.iter().filter_map(|url| url.split_once("://")?.1.trim_end_matches('/').parse().ok())
}

/// A member that gives no answer votes for nobody where every other voter says that there is no leader.
pub(super) fn settle(view: &mut ClusterView, silent: &str) {
    let mut itself = view.members.iter().filter(|member| member.is_called(silent));
    if itself.any(|member| member.health != MemberHealth::Unknown) {
        return;
    }
    let is_other = |member: &&MemberView| !member.learner && !member.is_called(silent);
    let mut others = view.members.iter().filter(is_other).peekable();
    if others.peek().is_some() && others.all(|other| other.health == MemberHealth::Unhealthy) {
        view.set_health(silent, MemberHealth::Unhealthy);
    }
}

fn alarms(client: &Client, view: &ClusterView, deadline: &Deadline) -> Observed<Vec<String>> {
    let (_, healthy, quorum) = view.count();
    if healthy < quorum {
        return Observed::Unknown("alarms are read through a quorum, and there is none".to_owned());
    }
    let alarms = client.alarms(&deadline.at_most(MEMBER_TIMEOUT));
    Observed::from_result(alarms.map(|alarms| {
        alarms.iter().map(|alarm| format!("{} on member {}", alarm.kind, alarm.member_id)).collect()
    }))
}

/// The members that `--initial-cluster` names, where it names several.
///
/// That it names one proves nothing: kubeadm writes the node alone when a cluster is begun, and again at each
/// upgrade and for a manifest that is made anew, however many have joined since (kubernetes
/// `cmd/kubeadm/app/phases/etcd/local.go`, `CreateLocalEtcdStaticPodManifestFile` with an empty list).
fn from_manifest(manifest: &StaticPod) -> std::result::Result<ClusterView, String> {
    let names = manifest.flag("initial-cluster").unwrap_or_default();
    let view = ClusterView::from_initial_cluster(names).map_err(|error| error.to_string())?;
    if view.members.len() < 2 {
        return Err(
            "--initial-cluster names one member, as kubeadm writes it for a cluster of any size".into()
        );
    }
    Ok(view)
}

/// What the probe of the local member says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::recover) enum LocalHealth {
    Well,
    /// Nobody listens there.
    Down,
    /// It was asked and said nothing in its time.
    Silent,
    /// It could not be asked, or says that something is wrong with it: it may follow a leader all the same
    /// (an alarm makes `/health` say "false"; etcd `server/etcdserver/api/etcdhttp/health.go`).
    Unknown,
}

impl LocalHealth {
    fn of_one_of(self, voters: u32) -> MemberHealth {
        match self {
            Self::Well => MemberHealth::Healthy,
            Self::Down => MemberHealth::Unhealthy,
            // One that is slow under load may still vote for the others; alone, it serves nobody.
            Self::Silent if voters <= 1 => MemberHealth::Unhealthy,
            Self::Silent | Self::Unknown => MemberHealth::Unknown,
        }
    }
}

/// What ending this node's member, to start it again, would leave of the quorum.
pub(in crate::recover) fn projection(view: &ClusterView, local: &str) -> Projection {
    project(view, &Step::new(local, Effect::Restart))
}

/// Reads it from the health that was asked for; no fact means that nothing tells where to ask.
pub(in crate::recover) fn local_health(health: &[HealthFact]) -> LocalHealth {
    let mut facts = health.iter().filter(|fact| fact.subject == Some(Subject::Component(Component::Etcd)));
    match facts.next().map(|fact| &fact.state) {
        Some(HealthState::Probed(Outcome::Answered { report }) | HealthState::Recorded(report))
            if report.verdict == healthz::Verdict::Healthy =>
        {
            LocalHealth::Well
        }
        Some(HealthState::Probed(Outcome::Refused)) => LocalHealth::Down,
        Some(HealthState::Probed(Outcome::Timeout | Outcome::Hung { .. })) => LocalHealth::Silent,
        // Whoever refuses a handshake or a client serves others perhaps.
        _ => LocalHealth::Unknown,
    }
}
