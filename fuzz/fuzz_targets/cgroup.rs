//! `/proc/PID/cgroup`: a process is a pod's or a unit's, never both.
#![no_main]

use cprecover::ports::CgroupPath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(path) = CgroupPath::parse(&String::from_utf8_lossy(data)) {
        assert!(path.pod().is_none() || path.unit().is_none());
    }
});
