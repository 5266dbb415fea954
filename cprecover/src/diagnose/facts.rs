//! The input of the rules: plain values, each of which may be missing.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cri::RuntimeState;
use crate::facts::HostFacts;
use crate::healthz::Report;
use crate::logs::LogMatch;
use crate::model::{Component, ContainerId, Observed, Pid, Port, SandboxId};
use crate::parse::manifest::StaticPod;
use crate::ports::PodCgroup;
use crate::probe::Outcome;

/// Whose health was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Subject {
    /// A static pod.
    Component(Component),
    /// kubelet.
    Kubelet,
}

/// What asking a health endpoint gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HealthState {
    /// A text that was recorded or pasted.
    Recorded(Report),
    /// A live probe.
    Probed(Outcome),
}

/// One answer of a health endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HealthFact {
    /// Who was asked; `None` when a text does not tell.
    pub subject: Option<Subject>,
    /// URL or file name.
    pub source: String,
    /// What came back.
    pub state: HealthState,
}

impl HealthFact {
    /// Records that asking `subject` at `source` gave `state`.
    pub fn new(subject: Option<Subject>, source: impl Into<String>, state: HealthState) -> Self {
        Self { subject, source: source.into(), state }
    }
}

/// What kind of process holds a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HolderClass {
    /// A running container of the newest sandbox of its pod: as it should be.
    Live,
    /// A container that the runtime knows, in an older sandbox of the same pod.
    StaleSandbox,
    /// In a pod's cgroup, but the runtime does not know it (any more).
    Orphan,
    /// A service of the node's own service manager.
    Service,
    /// Any other process.
    Foreign,
    /// Could not be classified.
    Unknown,
}

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PortHolder {
    /// The port.
    pub port: Port,
    /// The listening address.
    pub address: SocketAddr,
    /// The component that should hold it.
    pub wanted_by: Option<Component>,
    /// The process.
    pub pid: Option<Pid>,
    /// Name of its executable.
    pub name: String,
    /// Its class.
    pub class: HolderClass,
    /// Its container, where its cgroup tells.
    pub container: Option<ContainerId>,
    /// Its sandbox, where the runtime tells.
    pub sandbox: Option<SandboxId>,
    /// How the class was found out, one line for people.
    pub evidence: String,
}

/// A recorded `/proc/PID/cgroup` of a process in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProcessCgroup {
    /// Name of the file.
    pub source: String,
    /// The pod and container that it names.
    pub pod: PodCgroup,
}

/// The manifest of a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ManifestFact {
    /// The component.
    pub component: Component,
    /// Where its manifest is, or should be.
    pub path: PathBuf,
    /// The manifest: absent when the file is proven missing, unknown when it cannot be read or parsed.
    pub pod: Observed<StaticPod>,
    /// Why the file, which could be read, is no pod; `None` when it is one, or could not be read.
    pub parse_error: Option<String>,
}

/// Something that the manifest linter found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LintFact {
    /// The linter's rule, as in `duplicate-pod`, `backup-copy` or `unparsable`.
    pub code: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong, one line.
    pub message: String,
}

impl LintFact {
    /// The code of a component's manifest that a person holds; its path is where the manifest was.
    pub(crate) const HELD: &'static str = "held";

    /// Reports whether it is of a file that kubelet runs beside another one of the same pod.
    pub(crate) fn is_double(&self) -> bool {
        matches!(self.code.as_str(), "duplicate-pod" | "backup-copy")
    }

    /// Reports whether the pod is a component's: by the file's name, or by the pod that the linter names.
    pub(crate) fn is_double_of_component(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let is_of = |component: Component| {
            let pod = format!("kube-system/{component}");
            name.starts_with(component.manifest_file())
                || self.message.split([' ', ',', ';']).any(|word| word == pod)
        };
        self.is_double() && Component::ALL.into_iter().any(is_of)
    }
}

/// What an offline look at the etcd data folder gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DataVerdict {
    /// Nothing is wrong with it.
    Intact,
    /// A process holds the database's lock; that is right while etcd runs.
    Locked(Option<Pid>),
    /// The folder holds no member.
    Empty,
    /// WAL records are damaged.
    WalCorrupt(String),
    /// The database is damaged.
    DbCorrupt(String),
    /// Snapshot and database do not belong together, or one is missing.
    Mismatch(String),
    /// It belongs to another member or cluster.
    Foreign(String),
    /// It is sound, but there is no room for what etcd allocates at start.
    NoSpace(String),
    /// Its file system takes no writes.
    ReadOnly(String),
}

/// What was observed.
///
/// `Observed::Unknown` is the default of every part: a rule never takes "not looked at" for "not there".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Facts {
    /// Answers of health endpoints.
    pub health: Vec<HealthFact>,
    /// What the logs say.
    pub log_matches: Vec<LogMatch>,
    /// Which logs were read, by name.
    pub logs_read: Vec<String>,
    /// The runtime's sandboxes and containers, exited ones included.
    pub runtime: Observed<RuntimeState>,
    /// Holders of the control plane's ports.
    pub port_holders: Observed<Vec<PortHolder>>,
    /// Cgroups of processes that somebody recorded because they hold a port of the control plane.
    pub process_cgroups: Vec<ProcessCgroup>,
    /// The manifests of the four components.
    pub manifests: Vec<ManifestFact>,
    /// What the manifest linter found.
    pub lint: Vec<LintFact>,
    /// Facts about the host.
    pub host: HostFacts,
    /// What is in the etcd data folder.
    pub etcd_data: Observed<DataVerdict>,
    /// How many members of the etcd cluster vote, as a member or a database lists them.
    pub etcd_voters: Observed<u32>,
    /// Components for which a verified backup of the manifest exists.
    pub backups: Vec<Component>,
}

impl Default for Facts {
    fn default() -> Self {
        fn unknown<T>() -> Observed<T> {
            Observed::Unknown("not looked at".to_owned())
        }
        Self {
            health: Vec::new(),
            log_matches: Vec::new(),
            logs_read: Vec::new(),
            runtime: unknown(),
            port_holders: unknown(),
            process_cgroups: Vec::new(),
            manifests: Vec::new(),
            lint: Vec::new(),
            host: HostFacts::default(),
            etcd_data: unknown(),
            etcd_voters: unknown(),
            backups: Vec::new(),
        }
    }
}
