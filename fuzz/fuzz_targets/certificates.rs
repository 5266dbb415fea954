//! PEM files, X.509 certificates (PEM or DER) and kubeconfigs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cprecover::fuzzing::certificates(data));
