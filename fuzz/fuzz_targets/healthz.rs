//! Any bytes are some answer of a health endpoint; with a status they are never `unknown`.
#![no_main]

use cprecover::healthz::{Verdict, parse, parse_response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = parse(data).meanings();
    assert_ne!(parse_response(Some(200), data).verdict, Verdict::Unknown);
});
