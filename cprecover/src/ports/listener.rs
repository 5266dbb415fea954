//! One listening TCP socket, and whose bind it blocks.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A TCP socket in state LISTEN.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Listener {
    /// Where it listens; a v4-mapped address as the kernel has it.
    pub address: SocketAddr,
    /// Whether a v6 socket takes no IPv4; `None` where the kernel does not tell (procfs).
    pub v6_only: Option<bool>,
    /// The inode of the socket, the `N` of `socket:[N]`; 0 for a socket that no process owns.
    pub inode: u64,
    /// The user that made it.
    pub uid: u32,
    /// The cgroup v2 in which it was made (Linux 5.9, `INET_DIAG_CGROUP_ID`), the inode of that folder.
    pub cgroup_id: Option<u64>,
    /// The interface that it is bound to, 0 for any.
    pub interface: u32,
}

impl Listener {
    /// Reports whether this listener keeps `wanted` from being bound on its port.
    #[must_use]
    pub fn blocks(&self, wanted: IpAddr) -> bool {
        let own = self.address.ip();
        let wanted = wanted.to_canonical();
        // Whether the kernel would hand IPv4 connections to this v6 socket; unknown counts as yes.
        let dual = own.is_ipv6() && own.is_unspecified() && self.v6_only != Some(true);
        match (own.to_canonical(), wanted) {
            (IpAddr::V4(own), IpAddr::V4(wanted)) => {
                own == wanted || own.is_unspecified() || wanted.is_unspecified()
            }
            (IpAddr::V6(own), IpAddr::V6(wanted)) => {
                own == wanted || own.is_unspecified() || wanted.is_unspecified()
            }
            // Go listens on `0.0.0.0` with a dual-stack `::` where there is IPv6 (net/ipsock_posix.go,
            // favoriteAddrFamily), which any listener of the v6 side blocks too.
            (IpAddr::V6(_), IpAddr::V4(wanted)) => dual || wanted.is_unspecified(),
            // Binding `::` wants the IPv4 side too, unless the binder says IPV6_V6ONLY; Go does not
            // for `[::]` without a family.
            (IpAddr::V4(_), IpAddr::V6(wanted)) => wanted.is_unspecified(),
        }
    }
}
