//! Arguments from C: checked before anything is read through them.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::buf::cpr_buf;
use crate::failure::Failure;
use crate::status::{CPR_E_ARGUMENT, CPR_E_INVALID, CPR_E_UNSUPPORTED};

/// No option struct will ever be larger than this many bytes; a larger size is a mistake.
const MAX_STRUCT_BYTES: usize = 4096;

/// An output that is written only on success.
pub(crate) struct Out<T> {
    to: *mut T,
}

/// A type whose empty value an output gets on entry.
pub(crate) trait Empty {
    const EMPTY: Self;
}

impl Empty for cpr_buf {
    const EMPTY: Self = Self::EMPTY;
}

impl<T> Empty for *mut T {
    const EMPTY: Self = std::ptr::null_mut();
}

/// Clears an output.
///
/// # Safety
/// `to` is NULL or valid for writes until the call returns.
pub(crate) unsafe fn out<T: Empty>(to: *mut T) -> Result<Out<T>, Failure> {
    if to.is_null() {
        return Err(Failure::new(CPR_E_ARGUMENT, "the output is NULL"));
    }
    // SAFETY: not NULL, and valid for writes by this function's contract.
    unsafe { to.write(T::EMPTY) };
    Ok(Out { to })
}

impl<T> Out<T> {
    /// Writes the result.
    #[allow(clippy::needless_pass_by_value, reason = "an output is written once")]
    pub(crate) fn set(self, value: T) {
        // SAFETY: `out` checked it, and its caller promised that it stays valid.
        unsafe { self.to.write(value) };
    }
}

/// Borrows `len` bytes; NULL is fine when there are none.
///
/// # Safety
/// `ptr` is NULL or valid for reads of `len` bytes during `'a`, and nobody writes them.
pub(crate) unsafe fn bytes<'a, C>(ptr: *const C, len: usize, name: &str) -> Result<&'a [u8], Failure> {
    const { assert!(size_of::<C>() == 1) };
    if len == 0 {
        return Ok(&[]);
    }
    if ptr.is_null() {
        return Err(Failure::new(CPR_E_ARGUMENT, format!("{name} is NULL but has {len} bytes")));
    }
    // A negative number that was cast to size_t ends here.
    if isize::try_from(len).is_err() || ptr.addr().checked_add(len).is_none() {
        return Err(Failure::new(CPR_E_ARGUMENT, format!("{name} cannot have {len} bytes")));
    }
    // SAFETY: not NULL, the length fits the address space, and valid by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(ptr.cast(), len) })
}

/// Borrows UTF-8.
///
/// # Safety
/// As [`bytes`].
pub(crate) unsafe fn text<'a, C>(ptr: *const C, len: usize, name: &str) -> Result<&'a str, Failure> {
    // SAFETY: by this function's contract.
    let bytes = unsafe { bytes(ptr, len, name) }?;
    std::str::from_utf8(bytes)
        .map_err(|error| Failure::new(CPR_E_INVALID, format!("{name} is not UTF-8: {error}")))
}

/// Copies a path; `None` for an empty one.
///
/// # Safety
/// As [`bytes`].
pub(crate) unsafe fn path<C>(ptr: *const C, len: usize, name: &str) -> Result<Option<PathBuf>, Failure> {
    // SAFETY: by this function's contract.
    let bytes = unsafe { bytes(ptr, len, name) }?;
    if bytes.contains(&0) {
        return Err(Failure::new(CPR_E_INVALID, format!("{name} has a NUL byte in it")));
    }
    Ok((!bytes.is_empty()).then(|| Path::new(OsStr::from_bytes(bytes)).to_owned()))
}

/// An option struct of C.
///
/// # Safety
/// All bytes zero is a valid value, and so is any value of its integers and pointers.
pub(crate) unsafe trait Options: Copy {
    /// How messages name it.
    const NAME: &'static str;
}

/// Copies an option struct of `size` bytes: what a caller's older struct lacks is zero, what a newer
/// one has beyond ours must be zero.
///
/// # Safety
/// `ptr` is NULL or valid for reads of `size` bytes.
pub(crate) unsafe fn options<T: Options>(ptr: *const T, size: usize) -> Result<T, Failure> {
    // A size in the middle of a field would make half a pointer of it.
    if size > MAX_STRUCT_BYTES || !size.is_multiple_of(align_of::<T>()) {
        return Err(Failure::new(CPR_E_ARGUMENT, format!("{} cannot have {size} bytes", T::NAME)));
    }
    // SAFETY: by this function's contract; the bound above keeps the length sane.
    let given = unsafe { bytes(ptr.cast::<u8>(), size, T::NAME) }?;
    let (known, tail) = given.split_at(given.len().min(size_of::<T>()));
    if tail.iter().any(|byte| *byte != 0) {
        return Err(Failure::new(
            CPR_E_UNSUPPORTED,
            format!("{} has options that this version does not know", T::NAME),
        ));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` is no longer than `T`; a fresh local does not overlap the caller's struct.
    unsafe { std::ptr::copy_nonoverlapping(known.as_ptr(), value.as_mut_ptr().cast(), known.len()) };
    // SAFETY: zero bytes and the caller's integers and pointers are valid by `Options`' contract.
    Ok(unsafe { value.assume_init() })
}

/// Fails for flag bits that this version does not know.
pub(crate) fn known_flags(flags: u64, known: u64, name: &str) -> Result<(), Failure> {
    if flags & !known == 0 {
        return Ok(());
    }
    Err(Failure::new(CPR_E_UNSUPPORTED, format!("{name} has unknown flags {:#x}", flags & !known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Example {
        a: u64,
        b: u64,
    }

    // SAFETY: integers only.
    unsafe impl Options for Example {
        const NAME: &'static str = "example";
    }

    fn read(source: &[u64], size: usize) -> Result<Example, i32> {
        assert!(size <= size_of_val(source));
        // SAFETY: the source has at least `size` bytes.
        unsafe { options(source.as_ptr().cast::<Example>(), size) }.map_err(|failure| failure.status())
    }

    #[test]
    fn structs_grow_both_ways() {
        assert_eq!(read(&[1, 2], 16), Ok(Example { a: 1, b: 2 }));
        assert_eq!(read(&[1, 2], 8), Ok(Example { a: 1, b: 0 }));
        assert_eq!(read(&[1, 2], 0), Ok(Example { a: 0, b: 0 }));
        assert_eq!(read(&[1, 2, 0, 0], 32), Ok(Example { a: 1, b: 2 }));
        assert_eq!(read(&[1, 2, 0, 1 << 56], 32), Err(CPR_E_UNSUPPORTED));
        // SAFETY: nothing is read through NULL or beyond the bound.
        unsafe {
            assert_eq!(options::<Example>(std::ptr::null(), 0).ok(), Some(Example { a: 0, b: 0 }));
            assert_eq!(
                options::<Example>(std::ptr::null(), 8).err().map(|f| f.status()),
                Some(CPR_E_ARGUMENT)
            );
            for size in [4097, 4104, usize::MAX, 1, 7, 9, 15] {
                let example = Example { a: 0, b: 0 };
                let failure = options(&raw const example, size).expect_err("no size of a struct");
                assert_eq!(failure.status(), CPR_E_ARGUMENT);
            }
        }
    }

    #[test]
    #[allow(clippy::cast_ptr_alignment, reason = "that is what is tested")]
    fn an_unaligned_struct_is_copied() {
        let mut bytes = [0_u8; 17];
        bytes[1..9].copy_from_slice(&5_u64.to_ne_bytes());
        // SAFETY: sixteen bytes from the second one on.
        let read = unsafe { options(bytes.as_ptr().wrapping_add(1).cast::<Example>(), 16) };
        assert_eq!(read.ok(), Some(Example { a: 5, b: 0 }));
    }

    #[test]
    fn strings_are_checked_before_they_are_read() {
        let status = |result: Result<&[u8], Failure>| result.err().map(|failure| failure.status());
        // SAFETY: only the valid ones are read.
        unsafe {
            assert_eq!(bytes::<u8>(std::ptr::null(), 0, "x").ok(), Some(&[][..]));
            assert_eq!(status(bytes::<u8>(std::ptr::null(), 1, "x")), Some(CPR_E_ARGUMENT));
            assert_eq!(status(bytes(b"a".as_ptr(), usize::MAX, "x")), Some(CPR_E_ARGUMENT));
            assert_eq!(text(b"\xff".as_ptr(), 1, "x").err().map(|f| f.status()), Some(CPR_E_INVALID));
            assert_eq!(path(b"a\0b".as_ptr(), 3, "x").err().map(|f| f.status()), Some(CPR_E_INVALID));
            assert_eq!(path(b"/a".as_ptr(), 2, "x").ok(), Some(Some(PathBuf::from("/a"))));
            assert_eq!(out::<cpr_buf>(std::ptr::null_mut()).err().map(|f| f.status()), Some(CPR_E_ARGUMENT));
        }
        assert!(known_flags(3, 3, "x").is_ok());
        assert_eq!(known_flags(4, 3, "x").expect_err("unknown").status(), CPR_E_UNSUPPORTED);
    }
}
