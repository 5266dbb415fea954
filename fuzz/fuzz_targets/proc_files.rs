//! `/proc/{meminfo,loadavg,stat}` and `/proc/pressure`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cprecover::fuzzing::proc_files(data));
