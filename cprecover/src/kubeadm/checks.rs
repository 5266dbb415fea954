//! What must hold before a regenerated manifest may be installed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clues::{CertificateNames, certificate};
use super::config::Config;
use super::sources::EtcdDataState;
use crate::error::ErrorKind;
use crate::model::{Component, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::{HostPath, StaticPod};
use crate::sys::read_bounded;

/// What a check before the installation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CheckOutcome {
    /// It holds.
    Pass,
    /// It could not be decided, or it is doubtful.
    Warn,
    /// It does not hold; nothing may be installed.
    Refuse,
}

/// One check before the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Check {
    /// Its name: `version-skew`, `certificates`, `host-paths`, `external-etcd`, `etcd-data`.
    pub name: String,
    /// The component it is about, if one.
    pub component: Option<Component>,
    /// What was found.
    pub outcome: CheckOutcome,
    /// Why, and what to do.
    pub message: String,
}

impl Check {
    pub(super) fn new(
        name: &str,
        component: impl Into<Option<Component>>,
        outcome: CheckOutcome,
        message: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), component: component.into(), outcome, message: message.into() }
    }
}

/// The largest certificate or key file that is read.
const MAX_PEM_BYTES: usize = 1 << 20;

/// Checks the certificates and keys that a staged manifest names: there, of today, for these addresses.
pub(super) fn certificates(
    node: &NodeOptions,
    component: Component,
    pod: &StaticPod,
    config: &Config,
    now: Duration,
) -> Vec<Check> {
    let mut checks = Vec::new();
    for (flag, value) in pod.main().map(|main| main.flags().collect::<Vec<_>>()).unwrap_or_default() {
        let is_key = flag.ends_with("key-file") || flag.ends_with("client-key") || flag.ends_with("keyfile");
        let is_certificate = flag.ends_with("cert-file")
            || flag.ends_with("client-certificate")
            || flag.ends_with("certfile")
            || flag.ends_with("ca-file")
            || flag.ends_with("cafile");
        if value.is_empty() || !value.starts_with('/') || !(is_key || is_certificate) {
            continue;
        }
        let on_node = pod.node_path(Path::new(value)).unwrap_or_else(|| PathBuf::from(value));
        let problem = match read_bounded(&node.resolve(&on_node), MAX_PEM_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => Some(format!(
                "{} does not exist; restore it or run `kubeadm init phase certs`",
                on_node.display()
            )),
            Err(error) => Some(format!("{} cannot be read: {error}", on_node.display())),
            Ok(_) if is_key => None,
            Ok(pem) => certificate_problem(flag, &on_node, &pem, config, now),
        };
        if let Some(problem) = problem {
            checks.push(Check::new(
                "certificates",
                component,
                CheckOutcome::Refuse,
                format!("--{flag}: {problem}"),
            ));
        }
    }
    if checks.is_empty() {
        let message = "certificates and keys are there, valid now and for the node's addresses";
        checks.push(Check::new("certificates", component, CheckOutcome::Pass, message));
    }
    checks
}

fn certificate_problem(
    flag: &str,
    path: &Path,
    pem: &[u8],
    config: &Config,
    now: Duration,
) -> Option<String> {
    let path = path.display();
    let Some(names) = certificate(pem) else {
        return Some(format!("{path} holds no certificate that can be read"));
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if names.not_after < now {
        return Some(format!(
            "{path} has expired; `kubeadm certs renew` makes a new one, which needs explicit consent"
        ));
    }
    if names.not_before > now {
        return Some(format!("{path} is not valid yet; check the node's clock"));
    }
    let serving = matches!(flag, "tls-cert-file" | "cert-file" | "peer-cert-file");
    let address = config.advertise_address.filter(|_| serving)?;
    wrong_address(&names, address).map(|own| {
        format!("{path} is for {own}, not for the advertise address {address}; the node's address changed, or it is of another node")
    })
}

fn wrong_address(names: &CertificateNames, address: IpAddr) -> Option<String> {
    if names.addresses.contains(&address) {
        return None;
    }
    let own: Vec<String> = names.addresses.iter().map(ToString::to_string).collect();
    Some(if own.is_empty() { "no address".into() } else { own.join(", ") })
}

/// Checks the host's folders and files that a staged manifest mounts.
pub(super) fn host_paths(
    node: &NodeOptions,
    component: Component,
    pod: &StaticPod,
    pki: &Path,
) -> Vec<Check> {
    let mut checks: Vec<Check> = pod
        .host_paths
        .iter()
        // The data folder has a check of its own.
        .filter(|host| !(component == Component::Etcd && host.name == "etcd-data"))
        .filter_map(|host| {
            let (outcome, problem) = host_path_problem(node, host, pki)?;
            Some(Check::new("host-paths", component, outcome, format!("{} {problem}", host.path.display())))
        })
        .collect();
    if checks.is_empty() {
        checks.push(Check::new("host-paths", component, CheckOutcome::Pass, "every mounted path is there"));
    }
    checks
}

/// Types of hostPath: kubernetes.io/docs/concepts/storage/volumes, "hostPath".
fn host_path_problem(node: &NodeOptions, host: &HostPath, pki: &Path) -> Option<(CheckOutcome, String)> {
    let wants_folder = matches!(host.kind.as_str(), "Directory" | "DirectoryOrCreate");
    let wants_file = matches!(host.kind.as_str(), "File" | "FileOrCreate");
    match std::fs::metadata(node.resolve(&host.path)) {
        Ok(meta) if (wants_folder && !meta.is_dir()) || (wants_file && !meta.is_file()) => {
            Some((CheckOutcome::Refuse, format!("is not a {}", host.kind)))
        }
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(match host.kind.as_str() {
            "DirectoryOrCreate" if !host.path.starts_with(pki) => {
                (CheckOutcome::Warn, "does not exist; kubelet would make an empty folder".into())
            }
            // An empty kubeconfig or PKI made by kubelet is worse than a clear error now.
            "DirectoryOrCreate" | "FileOrCreate" => {
                (CheckOutcome::Refuse, "does not exist, and kubelet would make an empty one".into())
            }
            "" => (CheckOutcome::Warn, "does not exist".into()),
            kind => (CheckOutcome::Refuse, format!("does not exist, and kubelet wants a {kind}")),
        }),
        Err(error) => Some((CheckOutcome::Refuse, format!("cannot be read: {error}"))),
    }
}

/// Checks that etcd would go on with its data, and not found a new, empty cluster.
///
/// etcd looks at its write-ahead log alone: without one it follows `--initial-cluster` and
/// `--initial-cluster-state` (etcd `server/etcdserver/bootstrap.go`); with one it ignores both.
///
/// `just_added` is the caller's word that a healthy member has added this one a moment ago.
pub(super) fn etcd_data(
    pod: &StaticPod,
    data: &EtcdDataState,
    members: &[String],
    just_added: bool,
) -> Check {
    let dir = data.data_dir.display();
    let check = |outcome, message: String| Check::new("etcd-data", Component::Etcd, outcome, message);
    let present = |size: &Observed<u64>| size.present().is_some_and(|bytes| *bytes > 0);
    if let (Observed::Unknown(reason), _) | (_, Observed::Unknown(reason)) = (&data.database, &data.wal) {
        let message = format!("{dir} cannot be read, so its data may be lost or not: {reason}");
        return check(CheckOutcome::Refuse, message);
    }
    match (present(&data.database), present(&data.wal)) {
        (true, true) => {
            check(CheckOutcome::Pass, format!("{dir} has a database and its log; etcd goes on with them"))
        }
        (false, true) => check(
            CheckOutcome::Warn,
            format!("{dir} has a log but no database; etcd may not start, but founds no new cluster"),
        ),
        // etcd asks for the log alone, and would begin anew over the database that is there.
        (true, false) => check(
            CheckOutcome::Refuse,
            format!(
                "{dir} has a database but no log: etcd would take it for a new member and begin again over that \
                 database; restore a snapshot into an empty {dir} (`etcdutl snapshot restore`), or move the folder \
                 away and rejoin the cluster"
            ),
        ),
        (false, false) if pod.flag("initial-cluster-state") != Some("existing") => {
            check(CheckOutcome::Refuse, lost_data(&dir.to_string(), members))
        }
        (false, false) if just_added => check(
            CheckOutcome::Warn,
            format!("{dir} has no data; etcd joins its cluster as the member that has just been added"),
        ),
        // The old member's identity without its log: "tocommit is out of range", or a second vote in one term.
        (false, false) => check(
            CheckOutcome::Refuse,
            format!(
                "{dir} has no data, and the manifest says --initial-cluster-state=existing: under its old \
                 identity this member must not start without its data; on a healthy member run `etcdctl \
                 member remove` for it and `etcdctl member add`, then say so (`--etcd-member-just-added`)"
            ),
        ),
    }
}

fn lost_data(dir: &str, members: &[String]) -> String {
    if members.len() > 1 {
        return format!(
            "{dir} has no data, and the cluster has other members ({}): this manifest would found a new, empty cluster; \
             to rejoin, on a healthy member run `etcdctl member remove` for this member's id, then on this node \
             `kubeadm join … --control-plane` (phase `control-plane-join etcd`), or `etcdctl member add` and a manifest \
             with --initial-cluster-state=existing",
            members.join(", ")
        );
    }
    format!(
        "{dir} has no data: this manifest would found a new, empty cluster; if the cluster has other members, rejoin \
         (`etcdctl member remove` on a healthy one, then `kubeadm join … --control-plane`); if this was the only one, \
         restore a snapshot into {dir} first (`etcdutl snapshot restore`)"
    )
}
