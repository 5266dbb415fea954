//! Where the runtime's socket is.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::node::NodeOptions;

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
    /// Whether the node's configuration names it.
    pub configured: bool,
}

impl Endpoint {
    /// Returns the endpoint as CRI programs want it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

/// Returns the endpoints to try: the configured one alone, else those of the known sockets that exist.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a configured endpoint that is no unix socket, [`ErrorKind::Peer`] when
/// none is configured and no known socket exists.
pub fn endpoints(node: &NodeOptions) -> Result<Vec<Endpoint>> {
    if let Some(configured) = &node.runtime_endpoint {
        let path = configured.strip_prefix("unix://").unwrap_or(configured);
        if !Path::new(path).is_absolute() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("runtime endpoint {configured:?} is not unix:// with an absolute path"),
            ));
        }
        return Ok(vec![Endpoint { socket: node.resolve(path), configured: true }]);
    }
    let found: Vec<Endpoint> = KNOWN_SOCKETS
        .iter()
        .map(|socket| node.resolve(socket))
        // A socket that cannot be looked at is tried, so that the error says why.
        .filter(|socket| !matches!(socket.try_exists(), Ok(false)))
        .map(|socket| Endpoint { socket, configured: false })
        .collect();
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
