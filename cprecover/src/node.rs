//! Where things are on a node: plain data, no look-ups.

use std::path::{Component as PathPart, Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::parse::yaml;

/// Path of the node configuration below the root.
pub const CONFIG_PATH: &str = "/etc/cprecover/config.yaml";

/// The longest grace time between SIGTERM and SIGKILL, in seconds: an hour.
pub const MAX_GRACE_SECONDS: u64 = 3600;

/// Says which proof ties a port holder to a static pod of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PodIdentity {
    /// Only a kubepods cgroup proves it (kubelet's `pkg/kubelet/cm`); right for every real node.
    #[default]
    Cgroup,
    /// The manifest proves it as well: same executable name, same listening address, and the lock
    /// on the manifest's data directory. For runtimes that make no cgroups (rootless, the drill).
    CgroupOrManifest,
}

/// Says how a service of the node (kubelet, the container runtime) is started and stopped.
///
/// Commands are argument vectors, run without a shell and with an empty environment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub enum ServiceControl {
    /// A systemd unit, such as `kubelet.service`.
    Systemd(String),
    /// Commands of the operator's own, for `OpenRC`, k3s, RKE2 or an agent.
    Commands {
        /// Starts the service; does nothing when it runs.
        start: Vec<String>,
        /// Stops the service; does nothing when it is stopped.
        stop: Vec<String>,
        /// Exit code 0: active; 3: inactive; anything else: unknown (as `systemctl is-active`).
        state: Vec<String>,
    },
}

/// Locates the parts of one kubeadm-style node and bounds the work on it.
///
/// All paths are absolute *on the node*; [`NodeOptions::resolve`] puts the root in front.
/// Defaults are kubeadm's (kubernetes `cmd/kubeadm/app/constants/constants.go`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NodeOptions {
    /// The node's file system root; `/` unless the node is mounted elsewhere. Not read from the file.
    #[serde(skip)]
    pub root: PathBuf,
    /// The node's name; see [`crate::facts::node_name`] for what tells it when it is not given.
    pub node_name: Option<String>,
    /// kubelet's `staticPodPath`.
    pub manifests_dir: PathBuf,
    /// Folder of the kubeconfig files `admin.conf`, `kubelet.conf`, ….
    pub kubernetes_dir: PathBuf,
    /// kubeadm's `certificatesDir`.
    pub pki_dir: PathBuf,
    /// kubelet's `--root-dir`.
    pub kubelet_dir: PathBuf,
    /// etcd's data directory, where no manifest or backup tells it.
    pub etcd_data_dir: PathBuf,
    /// Where this crate keeps snapshots, journal, lock and audit log.
    pub store_dir: PathBuf,
    /// The CRI endpoint (`unix:///…`); when not given it is the one that kubelet's files name, else the only
    /// one of the known sockets that answers.
    pub runtime_endpoint: Option<String>,
    /// The `kubeadm` program; looked for in the node's usual folders when not given.
    pub kubeadm: Option<PathBuf>,
    /// The `crictl` program; looked for in the node's usual folders when not given.
    pub crictl: Option<PathBuf>,
    /// Public keys (ed25519, PEM) of whose policy files are trusted; when there are any, only signed
    /// policy files are.
    pub policy_keys: Vec<PathBuf>,
    /// How kubelet is controlled.
    pub kubelet: ServiceControl,
    /// How the container runtime is controlled; when not given it is the systemd unit that goes with the
    /// endpoint that kubelet uses.
    pub runtime: Option<ServiceControl>,
    /// kubelet's log, where it is a file and not in the journal.
    pub kubelet_log: Option<PathBuf>,
    /// Folder of container logs, `<namespace>_<pod>_<uid>/<container>/<n>.log` below it.
    pub pod_logs_dir: PathBuf,
    /// Where procfs of the node's pid and network namespaces is mounted; never below `root`.
    pub proc_dir: PathBuf,
    /// Which proof ties a port holder to a static pod.
    pub pod_identity: PodIdentity,
    /// How long it takes from a restart of kubelet to a running control plane, in milliseconds; a
    /// crash-loop pause that is longer is ended by a restart. Measured on a real node: 16 s.
    pub restart_ms: u64,
    /// How long a process may take to end after SIGTERM, in seconds, before SIGKILL; an hour
    /// at most.
    pub grace_seconds: u64,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            node_name: None,
            manifests_dir: "/etc/kubernetes/manifests".into(),
            kubernetes_dir: "/etc/kubernetes".into(),
            pki_dir: "/etc/kubernetes/pki".into(),
            kubelet_dir: "/var/lib/kubelet".into(),
            etcd_data_dir: "/var/lib/etcd".into(),
            store_dir: "/var/lib/cprecover".into(),
            runtime_endpoint: None,
            kubeadm: None,
            crictl: None,
            policy_keys: Vec::new(),
            kubelet: ServiceControl::Systemd("kubelet.service".into()),
            runtime: None,
            kubelet_log: None,
            pod_logs_dir: "/var/log/pods".into(),
            proc_dir: "/proc".into(),
            pod_identity: PodIdentity::Cgroup,
            restart_ms: 16_000,
            grace_seconds: 10,
        }
    }
}

impl NodeOptions {
    /// Returns kubeadm's defaults for a node whose file system starts at `root`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when `root` is not absolute.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        if !root.is_absolute() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("root {} is not an absolute path", root.display()),
            ));
        }
        Ok(Self { root, ..Self::default() })
    }

    /// Returns the options of the node at `root` as its configuration file ([`CONFIG_PATH`]) gives
    /// them; defaults where there is no such file.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a malformed file or a `graceSeconds` over [`MAX_GRACE_SECONDS`],
    /// [`ErrorKind::Limit`] for a file over 1 MiB, and the kinds of a failed read.
    pub fn load(root: impl Into<PathBuf>) -> Result<Self> {
        let base = Self::at(root)?;
        let path = base.resolve(CONFIG_PATH);
        let bytes = match crate::sys::read_bounded(&path, yaml::MAX_DOCUMENT_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(base),
            Err(error) => return Err(error),
        };
        let options: Self = yaml::from_slice(&bytes).map_err(|error| error.context(path.display()))?;
        if options.grace_seconds > MAX_GRACE_SECONDS {
            let (path, given) = (path.display(), options.grace_seconds);
            let message = format!("{path}: graceSeconds {given} is more than {MAX_GRACE_SECONDS}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Self { root: base.root, ..options })
    }

    /// Returns where the node's path `on_node` is for us: below the root.
    ///
    /// `..` and `.` are dropped, so that the result never leaves the root.
    pub fn resolve(&self, on_node: impl AsRef<Path>) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(on_node.as_ref().components().filter(|part| matches!(part, PathPart::Normal(_))));
        path
    }

    /// Returns the command line that a person runs for this node: a hint that leaves the root out would be
    /// followed on the machine that the person sits at.
    #[must_use]
    pub fn by_hand(&self, words: &str) -> String {
        if self.root == Path::new("/") {
            return format!("cprecover {words}");
        }
        format!("cprecover --root {} {words}", self.root.display())
    }

    /// Returns the manifests folder below the root.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.resolve(&self.manifests_dir)
    }

    /// Returns the certificate that kubelet has rotated to, a path on the node (client-go
    /// `util/certificate/certificate_store.go`).
    pub(crate) fn kubelet_certificate(&self) -> PathBuf {
        self.kubelet_dir.join("pki/kubelet-client-current.pem")
    }

    /// Returns the files with kubelet's arguments below the root, the one that wins first: kubeadm's unit
    /// drop-in `10-kubeadm.conf` puts `KUBELET_EXTRA_ARGS` of Debian's or Red Hat's file behind
    /// `KUBELET_KUBEADM_ARGS`.
    pub(crate) fn kubelet_argument_files(&self) -> [PathBuf; 3] {
        [
            self.resolve("/etc/default/kubelet"),
            self.resolve("/etc/sysconfig/kubelet"),
            self.resolve(self.kubelet_dir.join("kubeadm-flags.env")),
        ]
    }

    /// Returns the store folder below the root.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.resolve(&self.store_dir)
    }

    /// Returns the time between SIGTERM and SIGKILL.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        let most = self.grace_seconds > MAX_GRACE_SECONDS;
        Duration::from_secs(if most { MAX_GRACE_SECONDS } else { self.grace_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_stays_below_the_root() {
        let node = NodeOptions::at("/srv/node").expect("absolute");
        assert_eq!(node.resolve("/etc/x"), Path::new("/srv/node/etc/x"));
        assert_eq!(node.resolve("/../../etc/./x"), Path::new("/srv/node/etc/x"));
        assert!(NodeOptions::at("relative").is_err());
    }

    #[test]
    fn a_missing_file_gives_defaults_and_a_wrong_one_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(NodeOptions::load(dir.path()).expect("defaults").grace_seconds, 10);
        let path = dir.path().join("etc/cprecover");
        std::fs::create_dir_all(&path).expect("mkdir");
        std::fs::write(path.join("config.yaml"), "graceSeconds: 3\nkubelet:\n  systemd: k.service\n")
            .expect("write");
        let node = NodeOptions::load(dir.path()).expect("parses");
        assert_eq!(node.grace(), Duration::from_secs(3));
        assert_eq!(node.kubelet, ServiceControl::Systemd("k.service".into()));
        std::fs::write(path.join("config.yaml"), "graceSecond: 3\n").expect("write");
        let error = NodeOptions::load(dir.path()).expect_err("unknown key");
        assert!(error.to_string().contains("config.yaml"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        std::fs::write(path.join("config.yaml"), "graceSeconds: 18446744073709551615\n").expect("write");
        let error = NodeOptions::load(dir.path()).expect_err("a process would never be killed");
        assert!(error.to_string().contains("config.yaml: graceSeconds 18446744073709551615"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let node = NodeOptions { grace_seconds: u64::MAX, ..NodeOptions::default() };
        assert_eq!(node.grace(), Duration::from_secs(MAX_GRACE_SECONDS));
    }
}
