//! Facts about the host that no log tells: certificates, space, memory, pressure, clock, units,
//! addresses, the etcd data folder.
//!
//! Everything is read, nothing is changed, and each fact stands alone: one that cannot be read is
//! [`Observed::Unknown`] and hides no other.

mod addresses;
mod certificates;
mod clock;
mod data_dir;
mod disk;
mod node_name;
mod pressure;
mod units;

pub(crate) use certificates::{decoded as kubeconfig_data, read_any as read_certificates};
pub use node_name::node_name;
#[cfg(feature = "probe")]
pub(crate) use node_name::require_node_name;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::model::Observed;
use crate::node::NodeOptions;
use crate::sys::{Clock, Commands, Deadline};
use crate::units::ServiceState;

/// One X.509 certificate of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CertificateFact {
    /// The file on the node (a `.crt`, `.pem` or kubeconfig).
    pub path: PathBuf,
    /// The subject's common name, or its whole name when it has none.
    pub subject: String,
    /// Same for the issuer.
    pub issuer: String,
    /// Start of validity, seconds since 1970.
    pub not_before_unix: i64,
    /// End of validity, seconds since 1970.
    pub not_after_unix: i64,
    /// Whether it is a CA.
    pub is_ca: bool,
    /// The IP addresses and DNS names it is made out to.
    pub names: Vec<String>,
}

/// Space and inodes of the file system below a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DiskFact {
    /// The path that was asked about, on the node.
    pub path: PathBuf,
    /// Size in bytes.
    pub total_bytes: u64,
    /// Bytes that an unprivileged process may still use.
    pub available_bytes: u64,
    /// Number of inodes; 0 where the file system makes them as needed (btrfs).
    pub total_inodes: u64,
    /// Inodes left.
    pub available_inodes: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// Memory, from `/proc/meminfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MemoryFact {
    /// `MemTotal` in bytes.
    pub total_bytes: u64,
    /// `MemAvailable` in bytes.
    pub available_bytes: u64,
    /// `SwapTotal` in bytes.
    pub swap_total_bytes: u64,
}

/// Pressure stall information: the share of the last 60 s during which tasks waited, in percent.
///
/// Source: Linux `Documentation/accounting/psi.rst`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PressureFact {
    /// `some` of `/proc/pressure/cpu`.
    pub cpu_some_percent: f64,
    /// `some` of `/proc/pressure/io`.
    pub io_some_percent: f64,
    /// `full` of `/proc/pressure/io`.
    pub io_full_percent: f64,
    /// `full` of `/proc/pressure/memory`.
    pub memory_full_percent: f64,
}

/// Load averages and the number of processors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LoadFact {
    /// The average over one minute.
    pub one_minute: f64,
    /// The average over five minutes.
    pub five_minutes: f64,
    /// Processors of the machine.
    pub processors: u32,
}

/// Whether the wall clock can be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClockFact {
    /// Seconds since 1970.
    pub now_unix: i64,
    /// The newest thing on the node that must lie in the past, and what it is; a clock before it is wrong.
    pub not_before_unix: i64,
    /// What that thing is.
    pub witness: String,
}

/// A service of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UnitFact {
    /// `kubelet` or `runtime`.
    pub role: UnitRole,
    /// How messages name it, as `kubelet.service`.
    pub name: String,
    /// What it is doing.
    pub state: Observed<ServiceState>,
}

/// Which service of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum UnitRole {
    /// kubelet.
    Kubelet,
    /// The container runtime.
    Runtime,
}

/// The etcd data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DataDirFact {
    /// Where it is on the node.
    pub path: PathBuf,
    /// Permission bits; etcd wants 0700.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Whether `member/wal` holds at least one `.wal` file.
    pub has_wal: bool,
    /// Size of `member/snap/db` in bytes.
    pub db: Observed<u64>,
}

/// What is said of a file that was read and holds no certificate; one that this crate cannot parse may be one
/// for others.
const NO_CERTIFICATE: &str = "holds no certificate";

/// All facts about the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HostFacts {
    /// Wall clock at the time of the observation, seconds since 1970.
    pub now_unix: i64,
    /// Certificates that could be read.
    pub certificates: Vec<CertificateFact>,
    /// Certificate files that could not be read or parsed, with the reason.
    pub unreadable_certificates: Vec<(PathBuf, String)>,
    /// File systems of the folders that matter.
    pub disks: Vec<DiskFact>,
    /// Memory.
    pub memory: Observed<MemoryFact>,
    /// Load.
    pub load: Observed<LoadFact>,
    /// Pressure; absent on kernels without PSI.
    pub pressure: Observed<PressureFact>,
    /// Clock.
    pub clock: Observed<ClockFact>,
    /// kubelet and runtime.
    pub units: Vec<UnitFact>,
    /// The addresses of this host, loopback included.
    pub addresses: Observed<Vec<IpAddr>>,
    /// The etcd data folder.
    pub data_dir: Observed<DataDirFact>,
}

impl HostFacts {
    /// Returns the certificate files of which nothing is known, with the reason.
    pub(crate) fn unread_certificates(&self) -> impl Iterator<Item = &(PathBuf, String)> {
        self.unreadable_certificates.iter().filter(|(_, why)| !why.contains(NO_CERTIFICATE))
    }

    /// Returns the files that were read and hold no certificate.
    pub(crate) fn void_certificates(&self) -> impl Iterator<Item = &Path> {
        let void = self.unreadable_certificates.iter().filter(|(_, why)| why.contains(NO_CERTIFICATE));
        void.map(|(path, _)| path.as_path())
    }
}

impl Default for HostFacts {
    /// Nothing is known.
    fn default() -> Self {
        fn unknown<T>() -> Observed<T> {
            Observed::Unknown("not looked at".to_owned())
        }
        Self {
            now_unix: 0,
            certificates: Vec::new(),
            unreadable_certificates: Vec::new(),
            disks: Vec::new(),
            memory: unknown(),
            load: unknown(),
            pressure: unknown(),
            clock: unknown(),
            units: Vec::new(),
            addresses: unknown(),
            data_dir: unknown(),
        }
    }
}

/// Reads the node's certificates; files that cannot be read are listed with the reason.
pub(crate) fn node_certificates(node: &NodeOptions) -> (Vec<CertificateFact>, Vec<(PathBuf, String)>) {
    certificates::read(node)
}

/// Reads the certificates of a PEM text.
pub(crate) fn pem_certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateFact>> {
    certificates::parse_pem(path, pem)
}

/// Where container runtimes keep images and the containers' writable layers, each only where it exists.
///
/// Sources: containerd `defaults/defaults_unix.go`, containers-storage.conf(5) of CRI-O, Docker's `data-root`.
const RUNTIME_ROOTS: [&str; 3] = ["/var/lib/containerd", "/var/lib/containers", "/var/lib/docker"];

/// Collects all facts about the node's host; each that cannot be read is unknown.
pub fn collect(
    node: &NodeOptions,
    clock: &dyn Clock,
    commands: &dyn Commands,
    deadline: &Deadline,
) -> HostFacts {
    let now_unix = i64::try_from(clock.unix().as_secs()).unwrap_or(i64::MAX);
    let (certificates, unreadable_certificates) = certificates::read(node);
    let data_dir = data_dir::place(node);
    let folders = [
        data_dir.clone(),
        node.kubelet_dir.clone(),
        node.pod_logs_dir.clone(),
        node.manifests_dir.clone(),
        node.store_dir.clone(),
    ];
    let runtimes = RUNTIME_ROOTS.iter().map(PathBuf::from).filter(|root| node.resolve(root).exists());
    let folders: Vec<PathBuf> = folders.into_iter().chain(runtimes).collect();
    let disks = folders.iter().filter_map(|path| disk::read(node, path).ok()).collect();
    HostFacts {
        now_unix,
        disks,
        memory: Observed::from_result(pressure::memory(&node.proc_dir)),
        load: Observed::from_result(pressure::load(&node.proc_dir)),
        pressure: Observed::from_result(pressure::pressure(&node.proc_dir)),
        clock: Observed::Present(clock::judge(now_unix, &certificates)),
        units: units::read(node, commands, deadline),
        addresses: Observed::from_result(addresses::read(&node.proc_dir)),
        data_dir: Observed::from_result(data_dir::read(node, &data_dir)),
        certificates,
        unreadable_certificates,
    }
}

/// Reads a text as each file of procfs that facts come from, for fuzzing.
pub(crate) fn read_proc_files(text: &str) {
    pressure::read_texts(text);
    addresses::read_texts(text);
}

#[cfg(test)]
mod tests;
