//! The question "who listens on this port" and its answer.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::model::{Component, Pid, Port};
use crate::node::NodeOptions;

/// Names the network namespace in which a port is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NetNamespace {
    /// The caller's own.
    #[default]
    Own,
    /// The one behind a file, such as `/run/netns/x` or `/proc/7/ns/net`.
    Path(PathBuf),
    /// The one of a process.
    OfPid(Pid),
}

/// Asks who listens on a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// The port.
    pub port: Port,
    /// The address that somebody wants to bind; `None` for any. A wildcard listener counts for every
    /// address of its family (bind(2), ipv6(7): a v6 wildcard without `IPV6_V6ONLY` for IPv4 too).
    pub address: Option<IpAddr>,
    /// Where to look.
    pub namespace: NetNamespace,
    /// Where procfs is mounted.
    pub proc_dir: PathBuf,
    /// Where the cgroup v2 hierarchy may be mounted; the first that is one is used.
    pub cgroup_dirs: Vec<PathBuf>,
    /// Processes to look at first, such as those that CRI knows. Wrong hints cost time, never truth.
    pub likely_pids: Vec<Pid>,
    /// Command names (`/proc/PID/comm`) to look at first.
    pub likely_names: Vec<String>,
    /// How many threads may read procfs at once, the caller's included. They end before the call
    /// returns; 1, the default, starts none.
    pub threads: NonZeroUsize,
}

impl Query {
    /// Asks for any address in the caller's namespace, trying the control plane's programs first.
    #[must_use]
    pub fn new(port: Port) -> Self {
        Self {
            port,
            address: None,
            namespace: NetNamespace::Own,
            proc_dir: "/proc".into(),
            cgroup_dirs: vec!["/sys/fs/cgroup".into(), "/sys/fs/cgroup/unified".into()],
            likely_pids: Vec::new(),
            likely_names: Component::ALL.iter().map(|component| component.as_str().to_owned()).collect(),
            threads: NonZeroUsize::MIN,
        }
    }

    /// Asks on a node: its procfs, and the network namespace of that procfs' first process where it is
    /// not our own procfs.
    #[must_use]
    pub fn on_node(node: &NodeOptions, port: Port) -> Self {
        let mut query = Self::new(port);
        if node.proc_dir != query.proc_dir {
            query.namespace = NetNamespace::Path(node.proc_dir.join("1/ns/net"));
            query.proc_dir.clone_from(&node.proc_dir);
        }
        query
    }

    /// Asks for listeners that would keep somebody from binding `address`.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Asks in another network namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: NetNamespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// Looks at these processes first.
    #[must_use]
    pub fn likely_pids(mut self, pids: impl IntoIterator<Item = Pid>) -> Self {
        self.likely_pids.extend(pids);
        self
    }

    /// Lets this many threads read procfs.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}
