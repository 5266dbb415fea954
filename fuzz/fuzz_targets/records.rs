//! The audit log and plans in files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cprecover::fuzzing::records(data));
