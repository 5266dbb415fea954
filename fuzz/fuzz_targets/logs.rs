//! A log gives the same matches however it is cut.
#![no_main]

use cprecover::logs::{ScanOptions, Scanner, scan_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let options = ScanOptions::default();
    let whole = scan_bytes("log", data, &options);
    let mut scanner = Scanner::new("log", &options);
    for piece in data.chunks(7) {
        scanner.feed(piece);
    }
    let cut = scanner.finish();
    assert_eq!(whole.lines, cut.lines);
    assert_eq!(whole.matches.len(), cut.matches.len());
});
