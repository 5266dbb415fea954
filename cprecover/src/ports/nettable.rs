//! Reads the listeners of a port from `/proc/net/tcp` and `tcp6`, where netlink does not answer.
//!
//! Format: kernel `Documentation/networking/proc_net_tcp.rst`. Addresses are hex in host byte order
//! for each 32-bit word, ports plain hex; state `0A` is LISTEN.

use std::io::BufRead;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::listener::Listener;
use crate::model::Port;

/// Lines that are read at most; each is a socket.
const MAX_LINES: usize = 16 << 20;

/// Returns the listeners of `port` in a table.
///
/// A line that does not parse is an error: it might be the listener that is asked for.
pub(crate) fn listeners(table: impl BufRead, port: Port) -> std::io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    for line in table.split(b'\n').skip(1).take(MAX_LINES) {
        let line = line?;
        let Ok(line) = std::str::from_utf8(&line) else { return Err(malformed("not ASCII")) };
        if line.trim().is_empty() {
            continue;
        }
        found.extend(listener(line, port).ok_or_else(|| malformed(line))?);
    }
    Ok(found)
}

fn malformed(line: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("not a line of a TCP table: {line:?}"))
}

/// Returns `Some(None)` for a socket that is not a listener of `port`, `None` for a malformed line.
#[expect(clippy::option_option, reason = "malformed, another socket, the listener: three answers")]
fn listener(line: &str, port: Port) -> Option<Option<Listener>> {
    // sl local remote state tx:rx tr:when retransmits uid timeout inode …
    let mut fields = line.split_ascii_whitespace();
    let (address, local_port) = fields.nth(1)?.split_once(':')?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    if u16::from_str_radix(local_port, 16).ok()? != port.get() || state != 0x0a {
        return Some(None);
    }
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(address)?)),
        32 => {
            let mut bytes = [0_u8; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(address.get(index * 8..index * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(Some(Listener {
        address: SocketAddr::new(ip, port.get()),
        v6_only: ip.is_ipv4().then_some(false),
        inode,
        uid,
        cgroup_id: None,
        interface: 0,
    }))
}

/// Returns the bytes in network order.
fn word(hex: &str) -> Option<[u8; 4]> {
    u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:094C 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 ffff8 100 0 0 10 0
   1: 0100007F:094C 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 ffff8 20 4 30 10 -1
   2: 00000000:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4244 1 ffff8 100 0 0 10 0
";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000100007F:094C 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 ffff8 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn only_listeners_of_the_port_are_taken() {
        let found = listeners(TCP.as_bytes(), Port::ETCD_PEER).expect("reads");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, "127.0.0.1:2380".parse().expect("address"));
        assert_eq!((found[0].inode, found[0].uid), (4242, 1000));
        let found = listeners(TCP6.as_bytes(), Port::ETCD_PEER).expect("reads");
        assert_eq!(found[0].address, "[::ffff:127.0.0.1]:2380".parse().expect("address"));
        assert!(listeners(TCP.as_bytes(), Port::APISERVER).expect("reads").is_empty());
    }

    #[test]
    fn a_line_that_does_not_parse_is_not_free() {
        let text = format!("{TCP}   3: nonsense\n");
        assert!(listeners(text.as_bytes(), Port::ETCD_PEER).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_byte_soup_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000), cut in 0_usize..400) {
            let _ = listeners(&bytes[..], Port::ETCD_PEER);
            let mut damaged = TCP6.as_bytes().to_vec();
            let at = cut % damaged.len();
            damaged.splice(at..at, bytes.into_iter().take(8));
            let _ = listeners(&damaged[..], Port::ETCD_PEER);
        }
    }
}
