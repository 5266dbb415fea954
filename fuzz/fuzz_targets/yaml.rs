//! YAML never panics and never expands without bound; the short way through it reads as the whole parser does.
#![no_main]

use cprecover::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = cprecover::parse::yaml::from_slice::<std::collections::BTreeMap<String, String>>(data);
    fuzzing::yaml(data);
});
