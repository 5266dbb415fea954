//! Asks the kernel for the listeners of one port (`NETLINK_SOCK_DIAG`, `sock_diag(7)`).
//!
//! The kernel walks its table of listeners only and compares the port itself
//! (`inet_diag_dump_icsk` in `net/ipv4/inet_diag.c`), so that the cost does not grow with the number of
//! connections. Encoded here, because `netlink-packet-sock-diag` 0.5 knows no `INET_DIAG_CGROUP_ID`
//! and no way to send through a socket of another network namespace without its own socket crate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::listener::Listener;
use crate::model::Port;

// include/uapi/linux/{netlink,sock_diag,inet_diag}.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const TCPF_LISTEN: u32 = 1 << 10;
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_CGROUP_ID: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

const NLMSG_HEADER: usize = 16;
/// `struct inet_diag_msg`.
const DIAG_MESSAGE: usize = 72;
/// `NLMSG_GOODSIZE` and more: the kernel fills at most 32 KiB a datagram.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// Datagrams of one dump that are read; one holds some 250 listeners.
const MAX_DATAGRAMS: usize = 4096;
/// Dumps that are started again because a listener came or went meanwhile.
const MAX_RESTARTS: usize = 8;
/// The kernel answers at once; this only keeps a broken one from blocking us.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a sock_diag socket in the calling thread's network namespace; it stays in that namespace.
pub(crate) fn open() -> Result<OwnedFd, Errno> {
    let fd = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&fd, Timeout::Recv, Some(RECEIVE_TIMEOUT))?;
    Ok(fd)
}

/// Returns the listeners of `port`, IPv4 and IPv6.
pub(crate) fn listeners(socket: &OwnedFd, port: Port) -> Result<Vec<Listener>, Errno> {
    let mut buffer = vec![0_u8; RECEIVE_BUFFER];
    let mut found = dump(socket, AF_INET, port, &mut buffer)?;
    found.extend(dump(socket, AF_INET6, port, &mut buffer)?);
    Ok(found)
}

fn dump(socket: &OwnedFd, family: u8, port: Port, buffer: &mut [u8]) -> Result<Vec<Listener>, Errno> {
    for sequence in 0..MAX_RESTARTS {
        send(socket, &request(family, port, u32::try_from(sequence).unwrap_or(0)), SendFlags::empty())?;
        let mut answer = Answer::default();
        for _ in 0..MAX_DATAGRAMS {
            let count = match recv(socket, &mut *buffer, RecvFlags::empty()) {
                Ok((count, _)) => count,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            answer.take(buffer.get(..count).unwrap_or_default())?;
            if answer.done {
                break;
            }
        }
        if !answer.done {
            return Err(Errno::MSGSIZE);
        }
        if !answer.interrupted {
            answer.listeners.retain(|listener| listener.address.port() == port.get());
            return Ok(answer.listeners);
        }
    }
    Err(Errno::AGAIN)
}

/// Encodes `struct nlmsghdr` with `struct inet_diag_req_v2`.
fn request(family: u8, port: Port, sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(72);
    bytes.extend(72_u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend(TCPF_LISTEN.to_ne_bytes());
    // struct inet_diag_sockid: ports in network order, addresses any, no interface, no cookie.
    bytes.extend(port.get().to_be_bytes());
    bytes.extend([0; 2 + 16 + 16 + 4]);
    bytes.extend([0xff; 8]);
    bytes
}

/// Returns the listeners in one datagram, up to where it makes no sense.
pub(crate) fn decode(datagram: &[u8]) -> Vec<Listener> {
    let mut answer = Answer::default();
    // What came before the nonsense was read.
    let _ = answer.take(datagram);
    answer.listeners
}

#[derive(Default)]
struct Answer {
    listeners: Vec<Listener>,
    done: bool,
    interrupted: bool,
}

impl Answer {
    /// Reads one datagram of messages.
    fn take(&mut self, mut rest: &[u8]) -> Result<(), Errno> {
        while !self.done && rest.len() >= NLMSG_HEADER {
            let length = usize::try_from(u32_at(rest, 0)?).map_err(|_| Errno::BADMSG)?;
            let message = rest.get(..length).filter(|m| m.len() >= NLMSG_HEADER).ok_or(Errno::BADMSG)?;
            self.interrupted |= u16_at(message, 6)? & NLM_F_DUMP_INTR != 0;
            let body = message.get(NLMSG_HEADER..).ok_or(Errno::BADMSG)?;
            match u16_at(message, 4)? {
                // A dump that failed, as without tcp_diag, ends with its error number and no list
                // (`netlink_dump_done` in net/netlink/af_netlink.c; iproute2 `rtnl_dump_done`).
                NLMSG_DONE => match array_at(body, 0).map_or(0, i32::from_ne_bytes) {
                    code if code < 0 => return Err(errno_of(code)),
                    _ => self.done = true,
                },
                NLMSG_ERROR => {
                    let code = i32::from_ne_bytes(array_at(body, 0)?);
                    return Err(errno_of(code));
                }
                SOCK_DIAG_BY_FAMILY => self.listeners.push(listener(body)?),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Returns the error of `struct nlmsgerr`, a negative number (netlink(7)); `Errno` panics for what is none.
fn errno_of(code: i32) -> Errno {
    match code.saturating_neg() {
        number @ 1..4096 => Errno::from_raw_os_error(number),
        _ => Errno::BADMSG,
    }
}

/// Decodes `struct inet_diag_msg` and its attributes.
fn listener(body: &[u8]) -> Result<Listener, Errno> {
    let port = u16::from_be_bytes(array_at(body, 4)?);
    let address = match body.first() {
        Some(&AF_INET) => SocketAddr::new(IpAddr::V4(Ipv4Addr::from(array_at::<4>(body, 8)?)), port),
        Some(&AF_INET6) => {
            let ip = Ipv6Addr::from(array_at::<16>(body, 8)?);
            // The scope is told by the interface below.
            SocketAddr::V6(SocketAddrV6::new(ip, port, 0, 0))
        }
        _ => return Err(Errno::BADMSG),
    };
    let mut listener = Listener {
        address,
        v6_only: address.is_ipv4().then_some(false),
        inode: u64::from(u32_at(body, 68)?),
        uid: u32_at(body, 64)?,
        cgroup_id: None,
        interface: u32_at(body, 40)?,
    };
    let mut rest = body.get(DIAG_MESSAGE..).unwrap_or_default();
    while rest.len() >= 4 {
        let length = usize::from(u16_at(rest, 0)?);
        let payload = rest.get(4..length).ok_or(Errno::BADMSG)?;
        match u16_at(rest, 2)? {
            INET_DIAG_SKV6ONLY => listener.v6_only = payload.first().map(|flag| *flag != 0),
            INET_DIAG_CGROUP_ID => listener.cgroup_id = Some(u64::from_ne_bytes(array_at(payload, 0)?)),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(listener)
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Errno> {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().ok_or(Errno::BADMSG)
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, Errno> {
    array_at(bytes, offset).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, Errno> {
    array_at(bytes, offset).map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_the_kernel_reads() {
        let bytes = request(AF_INET6, Port::ETCD_PEER, 1);
        assert_eq!(bytes.len(), 72);
        assert_eq!(bytes.get(16..20), Some(&[10, 6, 0, 0][..]));
        assert_eq!(bytes.get(24..26), Some(&2380_u16.to_be_bytes()[..]));
        assert_eq!(bytes.get(64..), Some(&[0xff; 8][..]));
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        for length in 0..200_usize {
            for fill in [0_u8, 1, 16, 20, 255] {
                let mut bytes = vec![fill; length];
                if let Some(head) = bytes.first_chunk_mut::<4>() {
                    *head = u32::try_from(length).expect("small").to_ne_bytes();
                }
                let mut answer = Answer::default();
                let _ = answer.take(&bytes);
                assert!(answer.listeners.len() <= 2);
            }
        }
        let mut cut = Vec::from(120_u32.to_ne_bytes());
        cut.extend([20, 0, 0, 0]);
        cut.resize(40, 0);
        assert_eq!(Answer::default().take(&cut), Err(Errno::BADMSG));
    }

    #[test]
    fn a_refusal_with_a_number_that_is_no_error_number_is_nonsense() {
        for code in [0, 1, 4096, -4096, i32::MIN, i32::MAX] {
            assert_eq!(errno_of(code), Errno::BADMSG, "{code}");
        }
        assert_eq!(errno_of(-4095).raw_os_error(), 4095);
    }

    /// `NLMSG_DONE` with its payload, as the kernel ends a dump.
    fn done(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(NLMSG_HEADER + payload.len()).expect("small");
        let mut bytes = Vec::from(length.to_ne_bytes());
        bytes.extend(NLMSG_DONE.to_ne_bytes());
        bytes.extend(2_u16.to_ne_bytes());
        bytes.resize(NLMSG_HEADER, 0);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_dump_that_failed_is_no_empty_list() {
        let mut answer = Answer::default();
        assert_eq!(answer.take(&done(&(-2_i32).to_ne_bytes())), Err(Errno::NOENT));
        assert!(!answer.done);
        for payload in [&0_i32.to_ne_bytes()[..], &[]] {
            let mut answer = Answer::default();
            assert_eq!(answer.take(&done(payload)), Ok(()));
            assert!(answer.done);
        }
    }

    #[test]
    fn a_refusal_of_the_kernel_is_its_error_number() {
        let mut bytes = Vec::from(36_u32.to_ne_bytes());
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend((-2_i32).to_ne_bytes());
        bytes.resize(36, 0);
        assert_eq!(Answer::default().take(&bytes), Err(Errno::NOENT));
    }
}
