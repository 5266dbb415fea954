//! Names and shape of log signatures; the rows are in the table next door.

use serde::{Deserialize, Serialize};

use super::params::Param;
use super::table::SIGNATURES;

/// Whether a signature can be a reason to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Nature {
    /// It names what is wrong.
    Cause,
    /// It follows from something else and is never acted on alone.
    Effect,
}

/// Declares [`SignatureId`] with its names in JSON.
macro_rules! signature_ids {
    ($($(#[$doc:meta])* $id:ident = $name:literal,)+) => {
        /// Names a log signature.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum SignatureId {
            $($(#[$doc])* #[serde(rename = $name)] $id,)+
        }

        impl SignatureId {
            /// All signatures.
            pub const ALL: &'static [Self] = &[$(Self::$id),+];

            /// Returns the name used in JSON output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$id => $name,)+ }
            }
        }
    };
}

signature_ids! {
    /// `bind: address already in use`.
    BindInUse = "bind-in-use",
    /// `bind: cannot assign requested address`.
    CannotAssignAddress = "cannot-assign-address",
    /// etcd waits for the lock of its database.
    DbFlocked = "db-flocked",
    /// A WAL record's checksum is wrong.
    WalCrcMismatch = "wal-crc-mismatch",
    /// etcd gave up on its WAL.
    WalCannotBeRepaired = "wal-cannot-be-repaired",
    /// A WAL file is missing.
    WalMissing = "wal-missing",
    /// The snapshot that the WAL refers to is missing.
    SnapMissing = "snap-missing",
    /// The backend database file is missing.
    DbMissing = "db-missing",
    /// Database and snapshot do not belong together.
    DbSnapMismatch = "db-snap-mismatch",
    /// bbolt's free list is broken.
    Freepages = "freepages",
    /// bbolt does not recognise the file or a page.
    InvalidDatabase = "invalid-database",
    /// The database reached its quota.
    NoSpaceAlarm = "nospace-alarm",
    /// etcd found its data to differ from its peers'.
    CorruptAlarm = "corrupt-alarm",
    /// This member was removed from the cluster.
    MemberRemoved = "member-removed",
    /// A peer belongs to another cluster.
    ClusterIdMismatch = "cluster-id-mismatch",
    /// `--initial-cluster` does not name the members that the cluster has.
    MemberCountUnequal = "member-count-unequal",
    /// There is no leader.
    NoLeader = "no-leader",
    /// fsync of the WAL is slow.
    SlowFdatasync = "slow-fdatasync",
    /// Applying an entry took too long.
    ApplyTookTooLong = "apply-took-too-long",
    /// The leader sent its heartbeat late.
    HeartbeatLate = "heartbeat-late",
    /// The clocks of two members differ.
    ClockDrift = "clock-drift",
    /// `ENOSPC`.
    DiskFull = "disk-full",
    /// `EROFS`.
    ReadOnlyFilesystem = "read-only-filesystem",
    /// `EIO`, or the kernel reports a failing disk.
    IoError = "io-error",
    /// A component's log writer is blocked.
    LoggingBlocked = "logging-blocked",
    /// A container restarts again and again.
    CrashLoopBackOff = "crash-loop-back-off",
    /// kubelet could not bring a pod into its wanted state.
    SyncError = "sync-error",
    /// kubelet cannot renew its node lease.
    LeaseFailure = "lease-failure",
    /// kubelet does not find its node in the API.
    NodeNotFound = "node-not-found",
    /// A pod waits for volumes that are never mounted.
    UnmountedVolumes = "unmounted-volumes",
    /// Volumes of a removed pod are left on disk.
    OrphanedPodVolumes = "orphaned-pod-volumes",
    /// The runtime still knows a container of this name.
    ReservedName = "reserved-name",
    /// A static pod waits for its own predecessor to end.
    SameUidRestart = "same-uid-restart",
    /// kubelet does not delete pods before all its sources have answered.
    SourcesNotReady = "sources-not-ready",
    /// kubelet cannot parse a manifest.
    ManifestUnparsable = "manifest-unparsable",
    /// kubelet's manifest folder is missing.
    ManifestDirMissing = "manifest-dir-missing",
    /// Manifests were made by kubeadm without the cluster's own configuration.
    KubeadmDefaults = "kubeadm-defaults",
    /// No inotify watch or instance is left.
    InotifyExhausted = "inotify-exhausted",
    /// The runtime does not answer kubelet's relist.
    PlegUnhealthy = "pleg-unhealthy",
    /// kubelet and runtime use different cgroup drivers.
    CgroupDriverMismatch = "cgroup-driver-mismatch",
    /// kubelet refuses to run with swap.
    SwapOn = "swap-on",
    /// kubelet's configuration file cannot be loaded.
    KubeletConfigUnreadable = "kubelet-config-unreadable",
    /// kubelet has neither a valid certificate nor a bootstrap kubeconfig.
    BootstrapKubeconfigMissing = "bootstrap-kubeconfig-missing",
    /// A certificate has expired.
    CertificateExpired = "certificate-expired",
    /// A certificate is not valid yet.
    CertificateNotYetValid = "certificate-not-yet-valid",
    /// A certificate is signed by an authority that is not trusted.
    UnknownAuthority = "unknown-authority",
    /// The runtime does not serve CRI v1.
    CriServiceUnknown = "cri-service-unknown",
    /// The runtime's socket does not exist or refuses.
    RuntimeSocketMissing = "runtime-socket-missing",
    /// A container's shim died.
    ShimDisconnected = "shim-disconnected",
    /// An image is not on the node and cannot be pulled.
    ImageMissing = "image-missing",
    /// kube-apiserver cannot listen on its port.
    ApiserverPortInUse = "apiserver-port-in-use",
    /// etcd did not finish a request in time.
    EtcdTimeout = "etcd-timeout",
    /// etcd's client port refuses connections.
    EtcdDialRefused = "etcd-dial-refused",
    /// The API server refuses connections.
    ApiserverDialRefused = "apiserver-dial-refused",
    /// kubelet rejected or evicted a static pod.
    StaticPodRejected = "static-pod-rejected",
    /// The kernel killed a process for lack of memory.
    OomKill = "oom-kill",
    /// kubelet exits because it could not set up its CSINode object.
    CsiNodeFatal = "csinode-fatal",
}

/// One row of the table.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Signature {
    /// Its name.
    pub id: SignatureId,
    /// A line that contains one of these texts is a candidate.
    pub needles: &'static [&'static str],
    /// If not empty: the line contains one of these as well.
    pub also: &'static [&'static str],
    /// The line contains none of these.
    pub never: &'static [&'static str],
    /// What is read out of the line.
    #[serde(skip)]
    pub(super) params: &'static [Param],
    /// What it means, one sentence.
    pub meaning: &'static str,
    /// Cause or effect.
    pub nature: Nature,
    /// What helps.
    pub remedy: &'static str,
    /// Where this is written: source file or issue.
    pub source: &'static str,
}

impl Signature {
    /// Returns the row of a signature.
    ///
    /// # Panics
    /// Never: a test proves that every id has a row.
    #[must_use]
    pub fn of(id: SignatureId) -> &'static Self {
        SIGNATURES.iter().find(|row| row.id == id).expect("every id has a row")
    }
}
