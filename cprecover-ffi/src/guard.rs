//! The one way into the library: clears outputs, catches panics, hands out errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::cpr_error;
use crate::failure::Failure;
use crate::handle;
use crate::status::{CPR_E_PANIC, CPR_OK, cpr_status};

/// Runs the body of an exported function.
///
/// A panic becomes [`CPR_E_PANIC`]; the handles that the body used poison themselves.
///
/// # Safety
/// `err` is NULL or valid for a write of a pointer.
pub(crate) unsafe fn guard(
    err: *mut *mut cpr_error,
    body: impl FnOnce() -> Result<(), Failure>,
) -> cpr_status {
    if !err.is_null() {
        // SAFETY: not NULL, and valid for a write by this function's contract.
        unsafe { err.write(std::ptr::null_mut()) };
    }
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return CPR_OK,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::new(CPR_E_PANIC, format!("bug in cprecover: {}", panic_text(payload))),
    };
    let status = failure.status();
    if !err.is_null() {
        // SAFETY: as above.
        unsafe { err.write(handle::create(failure)) };
    }
    status
}

/// Runs the body of an exported function that cannot fail; `fallback` is what a panic returns.
pub(crate) fn guard_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        forget_payload(payload);
        fallback
    })
}

/// Runs the body of an exported function that frees something.
pub(crate) fn guard_free(body: impl FnOnce()) {
    guard_value((), body);
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned());
    forget_payload(payload);
    text
}

/// Drops a panic's payload; a payload whose destructor panics too must not unwind into C.
fn forget_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{cpr_error_code, cpr_error_free, cpr_error_message};
    use crate::status::CPR_E_BUSY;

    fn message(error: *const cpr_error) -> String {
        // SAFETY: the message is a C string that lives as long as the error.
        unsafe { std::ffi::CStr::from_ptr(cpr_error_message(error)) }.to_str().expect("utf-8").to_owned()
    }

    #[test]
    fn failures_and_panics_become_codes_and_objects() {
        let mut error = std::ptr::without_provenance_mut(8);
        // SAFETY: `error` is a variable.
        assert_eq!(unsafe { guard(&raw mut error, || Ok(())) }, CPR_OK);
        assert!(error.is_null());
        // SAFETY: as above.
        let status = unsafe { guard(&raw mut error, || Err(Failure::new(CPR_E_BUSY, "in use"))) };
        assert_eq!((status, cpr_error_code(error)), (CPR_E_BUSY, CPR_E_BUSY));
        assert_eq!(message(error), "in use");
        cpr_error_free(error);
        // SAFETY: as above.
        let status =
            unsafe { guard(&raw mut error, || std::panic::resume_unwind(Box::new(String::from("boom")))) };
        assert_eq!(status, CPR_E_PANIC);
        assert_eq!(message(error), "bug in cprecover: boom");
        cpr_error_free(error);
        assert_eq!(cpr_error_code(error), crate::status::CPR_E_HANDLE);
    }

    #[test]
    fn no_place_for_an_error_is_fine() {
        // SAFETY: NULL is allowed.
        let status = unsafe { guard(std::ptr::null_mut(), || Err(Failure::new(CPR_E_BUSY, "in use"))) };
        assert_eq!(status, CPR_E_BUSY);
        assert_eq!(guard_value(3, || std::panic::resume_unwind(Box::new(1))), 3);
    }

    #[test]
    #[cfg_attr(miri, ignore = "what the payload throws in its turn is leaked on purpose")]
    fn a_payload_that_panics_when_dropped_does_not_unwind() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new("again"));
            }
        }
        assert_eq!(guard_value(5, || std::panic::resume_unwind(Box::new(Bomb))), 5);
    }
}
