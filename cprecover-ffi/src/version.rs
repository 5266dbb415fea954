//! Versions.

use std::ffi::c_char;

use crate::guard::guard_value;

/// The ABI's number, the `0` of `libcprecover.so.0`. Additions do not change it.
pub const CPR_ABI_VERSION: u32 = 0;

const VERSION: &std::ffi::CStr = {
    match std::ffi::CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    }
};

/// Returns the ABI's number of the library that runs; compare it with `CPR_ABI_VERSION`.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_abi_version() -> u32 {
    guard_value(u32::MAX, || CPR_ABI_VERSION)
}

/// Returns the version of the library that runs, as `CPR_VERSION` is written. Never NULL, never freed.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_version() -> *const c_char {
    guard_value(c"".as_ptr(), || VERSION.as_ptr())
}
