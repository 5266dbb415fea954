//! Datagrams of `NETLINK_SOCK_DIAG`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cprecover::fuzzing::sock_diag(data));
