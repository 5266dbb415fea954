//! `/proc/net/tcp` and `tcp6`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cprecover::fuzzing::net_table(data));
