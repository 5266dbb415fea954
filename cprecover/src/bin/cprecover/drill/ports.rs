//! The loopback ports of a drill's node.

use std::net::TcpListener;

use cprecover::model::Port;
use cprecover::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// One port for each listener of the control plane.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ports {
    pub(super) etcd_client: Port,
    pub(super) etcd_peer: Port,
    pub(super) etcd_metrics: Port,
    pub(super) apiserver: Port,
    pub(super) controller_manager: Port,
    pub(super) scheduler: Port,
}

impl Ports {
    /// Picks six ports that are free now.
    pub(super) fn pick() -> Result<Self> {
        let failed = |source| Error::io("pick a free port on 127.0.0.1", source);
        // All are held until the last one is picked, so that no port is picked twice.
        let mut held = Vec::new();
        let mut next = || -> Result<Port> {
            let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
            let number = listener.local_addr().map_err(failed)?.port();
            held.push(listener);
            Port::new(number).ok_or_else(|| Error::new(ErrorKind::Internal, "the kernel picked port 0"))
        };
        Ok(Self {
            etcd_client: next()?,
            etcd_peer: next()?,
            etcd_metrics: next()?,
            apiserver: next()?,
            controller_manager: next()?,
            scheduler: next()?,
        })
    }
}
