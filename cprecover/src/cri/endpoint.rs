//! Where the runtime's socket is.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;
use crate::parse::{kubelet, yaml};
use crate::sys::read_bounded;

/// Sockets of the runtimes that kubeadm and the distributions know, in the order in which they are tried.
///
/// Sources: kubernetes `cmd/kubeadm/app/constants/constants_unix.go`; k3s and RKE2 run their own
/// containerd below `/run/k3s`.
pub const KNOWN_SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/var/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
];

/// A unix socket on which a runtime may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The socket, below the node's root.
    pub socket: PathBuf,
    /// Whether the node's configuration or kubelet's names it.
    pub configured: bool,
}

impl Endpoint {
    /// Returns the endpoint as CRI programs want it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Reports whether nobody listens on it (unix(7), `ECONNREFUSED`); what cannot be tried may be alive.
    pub(super) fn is_dead(&self) -> bool {
        let dial = || {
            let address = SocketAddrUnix::new(&self.socket)?;
            // Without waiting: a listener whose queue is full is alive.
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            connect(&socket, &address)
        };
        matches!(dial(), Err(Errno::CONNREFUSED | Errno::NOENT))
    }
}

/// Returns the endpoints to try: the configured one alone, else the one of kubelet's files alone, else
/// those of the known sockets that exist.
///
/// # Errors
/// [`ErrorKind::Invalid`] for an endpoint that is no unix socket and for a malformed file of kubelet's,
/// the kinds of a failed read of one, [`ErrorKind::Peer`] when nothing names an endpoint and no known
/// socket exists.
pub fn endpoints(node: &NodeOptions) -> Result<Vec<Endpoint>> {
    if let Some(configured) = &node.runtime_endpoint {
        return Ok(vec![named(node, configured)?]);
    }
    let told = of_kubelet(node).map_err(|error| error.context("look for kubelet's runtime endpoint"))?;
    if let Some((endpoint, file)) = told {
        let found = named(node, &endpoint).map_err(|error| error.context(file.display()))?;
        tracing::debug!(socket = %found.socket.display(), file = %file.display(), "kubelet's endpoint");
        return Ok(vec![found]);
    }
    let mut found: Vec<Endpoint> = Vec::new();
    for path in KNOWN_SOCKETS {
        let socket = below(node, path);
        // A socket that cannot be looked at is tried, so that the error says why.
        let exists = !matches!(socket.try_exists(), Ok(false));
        if exists && !found.iter().any(|other| is_same(&other.socket, &socket)) {
            found.push(Endpoint { socket, configured: false });
        }
    }
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::Peer,
            format!(
                "no container runtime socket ({}) below {}",
                KNOWN_SOCKETS.join(", "),
                node.root.display()
            ),
        ));
    }
    Ok(found)
}

fn named(node: &NodeOptions, endpoint: &str) -> Result<Endpoint> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if !Path::new(path).is_absolute() {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("runtime endpoint {endpoint:?} is not unix:// with an absolute path"),
        ));
    }
    Ok(Endpoint { socket: below(node, path), configured: true })
}

/// Returns the endpoint that kubelet is told, and the file that tells it.
///
/// A flag wins over the configuration (kubernetes `cmd/kubelet/app/server.go`).
/// `instance-config.yaml` (kubeadm 1.34) is merged into `config.yaml` at each upgrade.
fn of_kubelet(node: &NodeOptions) -> Result<Option<(String, PathBuf)>> {
    let own = |name: &str| node.resolve(node.kubelet_dir.join(name));
    for path in node.kubelet_argument_files() {
        let Some(bytes) = read(&path)? else { continue };
        let text = String::from_utf8_lossy(&bytes);
        if let Some(endpoint) = kubelet::flag(&text, "container-runtime-endpoint") {
            return Ok(Some((endpoint.to_owned(), path)));
        }
    }
    for path in [own("config.yaml"), own("instance-config.yaml")] {
        let Some(bytes) = read(&path)? else { continue };
        let told = kubelet::setting(&bytes, "containerRuntimeEndpoint")
            .map_err(|error| error.context(path.display()))?;
        if let Some(endpoint) = told {
            return Ok(Some((endpoint, path)));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match read_bounded(path, yaml::MAX_DOCUMENT_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts the root in front. `/var/run` is a link to `/run` (FHS 3.0, 5.13) that may lead out of the root.
fn below(node: &NodeOptions, path: &str) -> PathBuf {
    let socket = node.resolve(path);
    match path.strip_prefix("/var/run/") {
        Some(rest) if matches!(socket.try_exists(), Ok(false)) => node.resolve(Path::new("/run").join(rest)),
        _ => socket,
    }
}

/// Reports whether two paths lead to one socket, as a link from one known place to another does.
fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    file(one).is_some_and(|one| file(other) == Some(one))
}
