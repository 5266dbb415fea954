//! Pure parsers: bytes in, values out, no system calls.

pub(crate) mod kubelet;
pub mod manifest;
pub mod yaml;
