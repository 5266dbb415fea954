//! Any bytes: crictl never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = (cprecover::cri::parse::pods(data), cprecover::cri::parse::containers(data));
});
