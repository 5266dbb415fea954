//! kubeadm's configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cprecover::fuzzing::kubeadm_config(data));
