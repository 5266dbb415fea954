//! Pure parsers: bytes in, values out, no system calls.

pub mod yaml;
