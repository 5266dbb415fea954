//! Error objects.

use std::ffi::c_char;

use crate::failure::Failure;
use crate::guard::{guard_free, guard_value};
use crate::handle::{self, Opaque};
use crate::status::{self, CPR_E_HANDLE, CPR_OK, cpr_status};

/// Why a call failed. Belongs to the caller, who frees it with `cpr_error_free`; any thread may.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_error {
    _private: (),
}

impl Opaque for cpr_error {
    type Inner = Failure;
    const NAME: &'static str = "error";
}

/// Returns the error's code; `CPR_OK` for NULL and `CPR_E_HANDLE` for an error that was freed.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_error_code(error: *const cpr_error) -> cpr_status {
    guard_value(CPR_E_HANDLE, || {
        if error.is_null() { CPR_OK } else { handle::peek(error, Failure::status).unwrap_or(CPR_E_HANDLE) }
    })
}

/// Returns the `errno` behind the error, 0 where there is none.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_error_os_error(error: *const cpr_error) -> i32 {
    guard_value(0, || handle::peek(error, Failure::os_error).unwrap_or(0))
}

/// Returns the message: one line of UTF-8 that names the file, port or pid. Never NULL; valid until the
/// error is freed.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_error_message(error: *const cpr_error) -> *const c_char {
    guard_value(c"".as_ptr(), || {
        handle::peek(error, |failure| failure.message().as_ptr()).unwrap_or(c"no error".as_ptr())
    })
}

/// Frees an error. Nothing happens for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_error_free(error: *mut cpr_error) {
    guard_free(|| handle::destroy(error));
}

/// Returns the name of a code, such as `not-found`; `unknown` for one that this version does not know.
/// Never NULL, never freed.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_status_name(status: cpr_status) -> *const c_char {
    guard_value(c"unknown".as_ptr(), || status::name(status).as_ptr())
}
