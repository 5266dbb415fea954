//! A recorded file of any kind, through classification and all rules.
#![no_main]

use cprecover::diagnose::{diagnose, from_recording};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(facts) = from_recording([("etcd.txt", data)]) {
        let _ = diagnose(&facts);
    }
});
