//! What `crictl -o json` prints, or does not.
#![no_main]

use cprecover::cri::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = (parse::pods(data), parse::containers(data), parse::container_detail(data));
});
