//! Any bytes: cgroup never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = std::str::from_utf8(data).map(cprecover::ports::CgroupPath::parse);
});
