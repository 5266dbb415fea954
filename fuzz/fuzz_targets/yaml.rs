//! YAML never panics and never expands without bound.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = cprecover::parse::yaml::from_slice::<std::collections::BTreeMap<String, String>>(data);
});
