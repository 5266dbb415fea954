//! Cancelling calls from another thread.

use cprecover::sys::CancelToken;

use crate::error::cpr_error;
use crate::frame::produce;
use crate::guard::guard_free;
use crate::handle::{self, Opaque};
use crate::status::cpr_status;

/// Ends the calls that were given it (`cpr_call.cancel`), from any thread. Once triggered it stays so:
/// a call that is given it later ends at once.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_cancel {
    _private: (),
}

impl Opaque for cpr_cancel {
    type Inner = CancelToken;
    const NAME: &'static str = "cancel";
}

/// Makes a cancel handle; freed with `cpr_cancel_free`, also while calls have it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_cancel_new(
    cancel: *mut *mut cpr_cancel,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe { produce(cancel, err, || Ok(handle::create(CancelToken::default()))) }
}

/// Asks every call that was given `cancel` to end with `CPR_E_CANCELLED`. Nothing happens for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_cancel_trigger(cancel: *const cpr_cancel) {
    guard_free(|| {
        handle::peek(cancel, CancelToken::cancel);
    });
}

/// Frees a cancel handle. Nothing happens for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_cancel_free(cancel: *mut cpr_cancel) {
    guard_free(|| handle::destroy(cancel));
}
