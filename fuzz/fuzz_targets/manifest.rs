//! A manifest parses or is refused; what parses can be asked everything.
#![no_main]

use cprecover::parse::manifest::StaticPod;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(pod) = StaticPod::parse(data) {
        let _ = (pod.component(), pod.listeners(), pod.etcd_data_dir());
    }
});
