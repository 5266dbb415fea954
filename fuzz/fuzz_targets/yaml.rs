//! Any bytes: yaml never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = cprecover::parse::yaml::from_slice::<serde_json::Value>(data);
});
