//! etcd's database, write-ahead log and snapshots, each with these bytes as its file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cprecover::fuzzing::etcd_files(data));
