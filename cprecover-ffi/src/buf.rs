//! Bytes that the library hands out.

use std::ffi::c_void;

use crate::guard::guard_free;
use crate::handle::{self, Opaque};

/// Bytes that belong to the caller: `len` bytes at `ptr`, followed by a NUL that `len` does not count.
/// Freed with `cpr_buf_free`, never with `free`. All zero when there is nothing.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_buf {
    /// The bytes; NULL when there are none to free.
    pub ptr: *mut u8,
    /// How many, without the NUL.
    pub len: usize,
    /// For the library.
    pub reserved: *mut c_void,
}

/// The owner of a buffer's bytes.
struct Owner;

impl Opaque for Owner {
    type Inner = Vec<u8>;
    const NAME: &'static str = "buffer";
}

impl cpr_buf {
    /// The buffer that holds nothing.
    pub(crate) const EMPTY: Self = Self { ptr: std::ptr::null_mut(), len: 0, reserved: std::ptr::null_mut() };

    /// Hands bytes to C.
    pub(crate) fn new(mut bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        bytes.push(0);
        // Moving a Vec does not move its bytes, and nobody looks at this one until it is dropped.
        let ptr = bytes.as_mut_ptr();
        Self { ptr, len, reserved: handle::create::<Owner>(bytes).cast() }
    }
}

/// Frees the bytes of a buffer and makes it empty. Nothing happens for NULL and for an empty buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_buf_free(buf: *mut cpr_buf) {
    guard_free(|| {
        if !buf.is_null() {
            // SAFETY: not NULL, and by the contract of the header valid for reads and writes.
            let old = unsafe { buf.replace(cpr_buf::EMPTY) };
            // A copy of a buffer that was freed already, or one that was never filled, is not live.
            handle::destroy::<Owner>(old.reserved.cast());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_end_with_nul_and_are_freed_once() {
        let mut buf = cpr_buf::new(b"abc".to_vec());
        // SAFETY: the buffer has three bytes and a NUL.
        assert_eq!(unsafe { std::slice::from_raw_parts(buf.ptr, buf.len + 1) }, b"abc\0");
        let mut copy = buf;
        // SAFETY: both are variables.
        unsafe {
            cpr_buf_free(&raw mut buf);
            cpr_buf_free(&raw mut buf);
            cpr_buf_free(&raw mut copy);
            cpr_buf_free(std::ptr::null_mut());
        }
        assert!(buf.ptr.is_null() && copy.ptr.is_null());
        let mut empty = cpr_buf::new(Vec::new());
        assert!(!empty.ptr.is_null() && empty.len == 0);
        // SAFETY: a variable.
        unsafe { cpr_buf_free(&raw mut empty) };
    }
}
