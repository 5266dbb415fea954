//! Pure parsers: bytes in, values out, no system calls.

pub mod manifest;
pub mod yaml;
