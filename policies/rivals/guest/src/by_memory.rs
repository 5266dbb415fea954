//! The least that a host can do with: it asks for room, writes there, and reads where it is told to.

use std::sync::Mutex;

/// Held until the next answer, so that the host can read it and nothing leaks.
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Returns room for `len` bytes; [`decide`] takes it back.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(len: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; len].into_boxed_slice()).cast()
}

/// Returns where the answer is and how long: address in the upper half, length in the lower.
///
/// # Safety
/// `at` and `len` are of one call of [`alloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn decide(at: *mut u8, len: usize) -> u64 {
    // SAFETY: as the caller promises, this is the boxed slice that `alloc` gave away.
    let json = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at, len)) };
    let mut answer = ANSWER.lock().expect("one thread");
    *answer = crate::answer(&json).expect("an observation");
    (answer.as_ptr() as u64) << 32 | answer.len() as u64
}
