//! Enters a network namespace for the length of one call.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::query::NetNamespace;
use crate::error::{Error, ErrorKind, Result};

/// Runs `work` in a namespace.
///
/// setns(2) moves a thread for good, so another namespace is entered by a thread of its own, which has
/// ended when this returns. Sockets that `work` opens and returns stay in the namespace.
pub(crate) fn within<T: Send>(
    namespace: &NetNamespace,
    proc_dir: &Path,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let path = match namespace {
        NetNamespace::Own => return work(),
        NetNamespace::Path(path) => path.clone(),
        NetNamespace::OfPid(pid) => proc_dir.join(pid.to_string()).join("ns/net"),
    };
    let file = File::open(&path).map_err(|source| Error::path("open network namespace", &path, source))?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("cprecover-netns".into())
            .spawn_scoped(scope, || {
                enter(&file, &path)?;
                work()
            })
            .map_err(|source| Error::io("start a thread for the network namespace", source))?;
        thread.join().unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "the thread in the network namespace panicked"))
        })
    })
}

fn enter(file: &File, path: &PathBuf) -> Result<()> {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|source| Error::path("enter network namespace", path, source))
}

/// Reports whether an address can be bound in the calling thread's namespace.
///
/// A datagram socket is used, so that no TCP port is touched; `ip_nonlocal_bind` counts as the address
/// being there, as it does for etcd.
pub(super) fn is_on_host(address: IpAddr) -> Result<bool> {
    let address = address.to_canonical();
    let failed = |source: Errno| Error::io(format!("look for address {address}"), source);
    let socket = open(address, SocketType::DGRAM).map_err(failed)?;
    match bind(&socket, &SocketAddr::new(address, 0)) {
        Err(Errno::ADDRNOTAVAIL) => Ok(false),
        // A link-local address without its interface: the kernel does not tell.
        Ok(()) | Err(Errno::INVAL) => Ok(true),
        Err(errno) => Err(failed(errno)),
    }
}

/// Reports whether a TCP address can be bound as Go and etcd bind it, in the calling thread's namespace.
///
/// With `SO_REUSEADDR` and without listen(2): connections in `TIME_WAIT` do not count, and a program
/// that binds the port in the same moment, with the same option, is not kept from it. Nobody holds an
/// address that has left the host.
pub(super) fn is_bindable(address: SocketAddr, v6_only: Option<bool>) -> Result<bool> {
    let failed = |source: Errno| Error::io(format!("bind {address}"), source);
    let socket = open(address.ip(), SocketType::STREAM).map_err(failed)?;
    set_socket_reuseaddr(&socket, true).map_err(failed)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, v6_only.unwrap_or(false)).map_err(failed)?;
    }
    match bind(&socket, &address) {
        Ok(()) | Err(Errno::ADDRNOTAVAIL) => Ok(true),
        Err(Errno::ADDRINUSE) => Ok(false),
        Err(errno) => Err(failed(errno)),
    }
}

fn open(address: IpAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = if kind == SocketType::STREAM { ipproto::TCP } else { ipproto::UDP };
    socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_an_address_that_is_not_on_the_host() {
        // TEST-NET-1 and the documentation prefix (RFC 5737, RFC 3849) are on no interface.
        for address in ["192.0.2.1:2380", "[2001:db8::1]:2380"] {
            let address: SocketAddr = address.parse().expect("an address");
            match is_on_host(address.ip()) {
                Ok(false) => assert!(is_bindable(address, None).expect("tells"), "{address}"),
                Ok(true) => eprintln!("SKIPPED: {address} is on this host or may be bound anyway"),
                Err(error) => eprintln!("SKIPPED: no socket of this family: {error}"),
            }
        }
        let held = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = held.local_addr().expect("has one");
        assert!(!is_bindable(address, None).expect("tells"), "a listener keeps it");
    }
}
