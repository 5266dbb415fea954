//! Any bytes: logs never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = cprecover::logs::scan_bytes("fuzz", data, &cprecover::logs::ScanOptions::default());
});
