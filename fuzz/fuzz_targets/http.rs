//! Answers over HTTP, whole and in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cprecover::fuzzing::http(data));
