//! JSON of etcd's gateway.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cprecover::fuzzing::etcd_gateway(data));
