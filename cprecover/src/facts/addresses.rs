//! The addresses of this host, from procfs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::error::{ErrorKind, Result};
use crate::sys::read_bounded;

/// A host with thousands of addresses and routes stays below this.
const MAX_BYTES: usize = 16 << 20;

/// Reads all addresses of the network namespace behind `proc`.
pub(super) fn read(proc: &Path) -> Result<Vec<IpAddr>> {
    let trie = read_bounded(&proc.join("net/fib_trie"), MAX_BYTES)?;
    let mut found = local_v4(&String::from_utf8_lossy(&trie));
    match read_bounded(&proc.join("net/if_inet6"), MAX_BYTES) {
        Ok(table) => found.extend(v6(&String::from_utf8_lossy(&table))),
        // A kernel without IPv6 has no such file.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Reads `/proc/net/fib_trie`: an address line `|-- 10.0.0.1`, then `/32 host LOCAL` (linux `net/ipv4/fib_trie.c`).
fn local_v4(text: &str) -> Vec<IpAddr> {
    let mut last = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.contains("host LOCAL") {
            found.extend(last.map(IpAddr::V4));
        }
    }
    found
}

/// Reads `/proc/net/if_inet6`: 32 hex digits first (linux `net/ipv6/addrconf.c`).
fn v6(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let digits = line.split_whitespace().next().filter(|digits| digits.len() == 32)?;
            Some(IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?)))
        })
        .collect()
}

/// Reads a text as each of the files here, for fuzzing.
pub(super) fn read_texts(text: &str) {
    let _ = (local_v4(text), v6(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.10.17.210\n        /32 host LOCAL\n     |-- 10.10.17.255\n        /32 link BROADCAST\n";
        assert_eq!(local_v4(trie), [IpAddr::from([10, 10, 17, 210])]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\nx\n";
        assert_eq!(v6(table), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        let found = read(Path::new("/proc")).expect("procfs");
        assert!(found.contains(&IpAddr::from([127, 0, 0, 1])), "{found:?}");
    }
}
