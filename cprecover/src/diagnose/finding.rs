//! The output of the rules.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{Component, ContainerId, Pid, Port, SandboxId};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will become a problem, or makes recovery harder.
    Warning,
    /// Takes part of the control plane down.
    Error,
    /// Takes the control plane down, or endangers its data.
    Critical,
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Confidence {
    /// One indirect sign.
    Possible,
    /// Signs that fit nothing else well.
    Likely,
    /// Observed directly.
    Proven,
}

/// Declares [`FindingId`] with its names in JSON.
macro_rules! finding_ids {
    ($($(#[$doc:meta])* $id:ident = $name:literal,)+) => {
        /// Names a kind of finding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum FindingId {
            $($(#[$doc])* #[serde(rename = $name)] $id,)+
        }

        impl FindingId {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$id),+];

            /// Returns the name used in JSON output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$id => $name,)+ }
            }
        }

        impl std::fmt::Display for FindingId {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

finding_ids! {
    /// 1: an old sandbox of the pod still runs, kubelet does not remove it.
    StaleSandbox = "stale-sandbox",
    /// 2: a process of a former container runs on without its container.
    OrphanProcess = "orphan-process",
    /// 3: a service or another program holds the port.
    ForeignHolder = "foreign-holder",
    /// 4: two files in the manifest folder describe the same pod.
    DuplicateManifest = "duplicate-manifest",
    /// 5: an address of the manifests is not on this host.
    AddressChanged = "address-changed",
    /// 6: a manifest is missing.
    ManifestLost = "manifest-lost",
    /// 6b: a manifest was made anew without the cluster's own settings.
    ManifestDefaults = "manifest-defaults",
    /// 7: a manifest cannot be parsed.
    ManifestInvalid = "manifest-invalid",
    /// 8: kubelet waits for volumes of a pod whose old instance it never removed.
    StaleVolumes = "stale-volumes",
    /// 9: a static pod waits for its predecessor with the same UID.
    SameUidRestart = "same-uid-restart",
    /// 10: the runtime keeps a container name reserved.
    ReservedName = "reserved-name",
    /// 11: another process holds etcd's database.
    DbLocked = "db-locked",
    /// 12: the WAL is damaged.
    WalCorrupt = "wal-corrupt",
    /// 13: the database file is damaged.
    DbCorrupt = "db-corrupt",
    /// 14: database and snapshot do not belong together.
    DbSnapMismatch = "db-snap-mismatch",
    /// 15: etcd's quota is reached.
    EtcdNoSpace = "etcd-no-space",
    /// 16: a file system is full.
    DiskFull = "disk-full",
    /// 17: the disk is too slow or stalls.
    SlowDisk = "slow-disk",
    /// 18: etcd has no quorum.
    QuorumLost = "quorum-lost",
    /// 19: this member was removed from the etcd cluster.
    MemberRemoved = "member-removed",
    /// 20: members of different clusters talk to each other.
    ClusterIdMismatch = "cluster-id-mismatch",
    /// 21: this member's data differ from its peers'.
    EtcdCorruptAlarm = "etcd-corrupt-alarm",
    /// 22: a certificate has expired, is not valid yet or is not trusted.
    CertificateInvalid = "certificate-invalid",
    /// 23: the container runtime does not serve CRI.
    RuntimeDown = "runtime-down",
    /// 24: kubelet refuses its configuration or its host.
    KubeletMisconfigured = "kubelet-misconfigured",
    /// 25a: kube-apiserver's port is held by another process.
    ApiserverPortHeld = "apiserver-port-held",
    /// 25b: etcd does not accept connections.
    EtcdUnreachable = "etcd-unreachable",
    /// The wall clock is wrong, or members' clocks differ.
    ClockWrong = "clock-wrong",
    /// An image that a static pod needs is missing.
    ImageMissing = "image-missing",
    /// kubelet rejected or evicted a static pod for good.
    StaticPodRejected = "static-pod-rejected",
    /// The kernel killed a process for lack of memory, or memory is short.
    OutOfMemory = "out-of-memory",
    /// A file system became read-only or reports errors.
    DiskFailing = "disk-failing",
    /// No inotify watches are left.
    InotifyExhausted = "inotify-exhausted",
    /// The etcd data folder is missing, empty or not accessible to its owner only.
    DataDirWrong = "data-dir-wrong",
    /// kubelet is not running.
    KubeletDown = "kubelet-down",
    /// etcd hangs: it listens and does not answer.
    EtcdHung = "etcd-hung",
    /// A component's log writer is blocked.
    LogBlocked = "log-blocked",
    /// A port of the control plane is held, by whom is not known.
    PortHeld = "port-held",
    /// Effect: etcd does not work.
    EtcdDown = "etcd-down",
    /// Effect: kube-apiserver does not work.
    ApiserverDown = "apiserver-down",
    /// Effect: a component restarts again and again.
    CrashLoop = "crash-loop",
    /// Effect: kube-controller-manager or kube-scheduler does not work.
    ControllersDown = "controllers-down",
    /// Effect: kubelet cannot reach the API (lease, node not found, CSINode).
    KubeletDisconnected = "kubelet-disconnected",
    /// Volumes of removed pods are left on disk.
    OrphanedVolumes = "orphaned-volumes",
    /// A certificate ends soon.
    CertificateExpiring = "certificate-expiring",
    /// Load, memory or pressure is high.
    HostPressure = "host-pressure",
}

/// What kind of observation an evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EvidenceKind {
    /// A log line; it tells the past.
    Log,
    /// An answer of a health endpoint.
    Health,
    /// What the container runtime lists.
    Runtime,
    /// Who holds a port.
    Port,
    /// A manifest or the manifest folder.
    Manifest,
    /// A fact about the host.
    Host,
    /// The etcd data folder.
    Data,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Evidence {
    /// What kind of observation it is.
    pub kind: EvidenceKind,
    /// Where: a log's name, a URL, `CRI`, a file.
    pub source: String,
    /// The line in it.
    pub line: Option<u64>,
    /// What was seen.
    pub text: String,
}

/// What a finding is about, for whoever acts on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Targets {
    /// Components.
    pub components: Vec<Component>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Processes.
    pub pids: Vec<Pid>,
    /// Containers.
    pub containers: Vec<ContainerId>,
    /// Sandboxes that are in the way.
    pub sandboxes: Vec<SandboxId>,
    /// Files and folders on the node.
    pub paths: Vec<PathBuf>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Finding {
    /// Which kind.
    pub id: FindingId,
    /// How bad it is.
    pub severity: Severity,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whether it follows from something else by its nature and is never acted on alone.
    pub is_effect: bool,
    /// One sentence for people.
    pub summary: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What it is about.
    pub targets: Targets,
    /// What to do, one or two sentences.
    pub remedy: String,
}

impl Finding {
    /// Reports whether only log lines, which tell the past, speak for it.
    #[must_use]
    pub fn is_from_logs_only(&self) -> bool {
        self.evidence.iter().all(|evidence| evidence.kind == EvidenceKind::Log)
    }
}

/// One finding explains another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Link {
    /// The cause.
    pub cause: FindingId,
    /// Its effect.
    pub effect: FindingId,
}

/// A possible cause that was neither found nor excluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Candidate {
    /// The possible cause.
    pub id: FindingId,
    /// What would have to be looked at to decide.
    pub missing: String,
}

/// Where the chain of causes ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RootCause {
    /// One cause explains what was found.
    Found {
        /// That cause.
        id: FindingId,
    },
    /// Several causes were observed directly, and none of them explains the others: each needs its remedy.
    Several {
        /// Those causes, two or more.
        ids: Vec<FindingId>,
    },
    /// Something is wrong, and these causes are left.
    Undetermined {
        /// The possible causes.
        left: Vec<Candidate>,
    },
    /// Nothing is wrong that a rule knows.
    Healthy,
}

/// What is wrong and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Diagnosis {
    /// Everything that was found; causes before effects, worse before better.
    pub findings: Vec<Finding>,
    /// Which finding explains which.
    pub links: Vec<Link>,
    /// The end of the chain.
    pub root_cause: RootCause,
}

impl RootCause {
    /// Returns the causes that were found; none when nothing is wrong or nothing is certain.
    #[must_use]
    pub fn ids(&self) -> &[FindingId] {
        match self {
            Self::Found { id } => std::slice::from_ref(id),
            Self::Several { ids } => ids,
            Self::Undetermined { .. } | Self::Healthy => &[],
        }
    }
}

impl Diagnosis {
    /// Returns a finding by its kind.
    #[must_use]
    pub fn finding(&self, id: FindingId) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.id == id)
    }
}
