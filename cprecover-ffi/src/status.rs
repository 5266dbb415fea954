//! Status codes: what a call returns, and how an error's kind maps to one.

use cprecover::ErrorKind;

/// What a call returns: 0 for success, one of the negative `CPR_E_*` codes otherwise. Positive values
/// are reserved. Codes are never reused or renumbered; a new version may return new ones.
#[allow(non_camel_case_types, reason = "the name in C")]
pub type cpr_status = i32;

/// Success.
pub const CPR_OK: cpr_status = 0;
/// The library has a bug: this call panicked, or an earlier one on the same handle did. The handle is
/// good for nothing but freeing it.
pub const CPR_E_PANIC: cpr_status = -1;
/// An argument breaks the contract: NULL where a value is needed, an impossible length or size.
pub const CPR_E_ARGUMENT: cpr_status = -2;
/// A handle is not live: freed already, never made, or of another type.
pub const CPR_E_HANDLE: cpr_status = -3;
/// Another call works on the handle, or another process on the node or its store.
pub const CPR_E_BUSY: cpr_status = -4;
/// This build, the kernel or the peer lacks it; also an unknown flag or option.
pub const CPR_E_UNSUPPORTED: cpr_status = -5;
/// It does not exist, and that is proven.
pub const CPR_E_NOT_FOUND: cpr_status = -6;
/// It exists already and must not be replaced.
pub const CPR_E_ALREADY_EXISTS: cpr_status = -7;
/// The kernel refused; the state of the thing is unknown.
pub const CPR_E_PERMISSION: cpr_status = -8;
/// The input is malformed; the message says where.
pub const CPR_E_INVALID: cpr_status = -9;
/// Stored data does not match its digest.
pub const CPR_E_CORRUPT: cpr_status = -10;
/// The world changed between check and effect; nothing was done, a retry may succeed.
pub const CPR_E_CHANGED: cpr_status = -11;
/// A guard rail forbids it; a retry will not help.
pub const CPR_E_REFUSED: cpr_status = -12;
/// The call's time is up.
pub const CPR_E_TIMEOUT: cpr_status = -13;
/// The caller cancelled.
pub const CPR_E_CANCELLED: cpr_status = -14;
/// A limit (bytes, entries, depth) was exceeded.
pub const CPR_E_LIMIT: cpr_status = -15;
/// No space, inodes or quota left.
pub const CPR_E_NO_SPACE: cpr_status = -16;
/// The file system is read-only.
pub const CPR_E_READ_ONLY: cpr_status = -17;
/// Values that only the operator knows are missing; the message lists them.
pub const CPR_E_MISSING: cpr_status = -18;
/// A peer (runtime, kubeadm, API server, etcd) failed or answered nonsense.
pub const CPR_E_PEER: cpr_status = -19;
/// A policy failed.
pub const CPR_E_POLICY: cpr_status = -20;
/// Any other failure of the operating system; see `cpr_error_os_error`.
pub const CPR_E_IO: cpr_status = -21;
/// An invariant of the library does not hold, or an error that this version has no code for.
pub const CPR_E_INTERNAL: cpr_status = -22;

/// Maps an error's kind to its code.
pub(crate) const fn of_kind(kind: ErrorKind) -> cpr_status {
    match kind {
        ErrorKind::NotFound => CPR_E_NOT_FOUND,
        ErrorKind::AlreadyExists => CPR_E_ALREADY_EXISTS,
        ErrorKind::PermissionDenied => CPR_E_PERMISSION,
        ErrorKind::Invalid => CPR_E_INVALID,
        ErrorKind::Corrupt => CPR_E_CORRUPT,
        ErrorKind::Changed => CPR_E_CHANGED,
        ErrorKind::Busy => CPR_E_BUSY,
        ErrorKind::Refused => CPR_E_REFUSED,
        ErrorKind::Timeout => CPR_E_TIMEOUT,
        ErrorKind::Cancelled => CPR_E_CANCELLED,
        ErrorKind::Limit => CPR_E_LIMIT,
        ErrorKind::NoSpace => CPR_E_NO_SPACE,
        ErrorKind::ReadOnly => CPR_E_READ_ONLY,
        ErrorKind::Unsupported => CPR_E_UNSUPPORTED,
        ErrorKind::Missing => CPR_E_MISSING,
        ErrorKind::Peer => CPR_E_PEER,
        ErrorKind::Policy => CPR_E_POLICY,
        ErrorKind::Io => CPR_E_IO,
        // ErrorKind is non-exhaustive; the test below knows every kind of this version.
        _ => CPR_E_INTERNAL,
    }
}

/// Returns the name of a code, for messages.
pub(crate) const fn name(status: cpr_status) -> &'static std::ffi::CStr {
    match status {
        CPR_OK => c"ok",
        CPR_E_PANIC => c"panic",
        CPR_E_ARGUMENT => c"argument",
        CPR_E_HANDLE => c"handle",
        CPR_E_BUSY => c"busy",
        CPR_E_UNSUPPORTED => c"unsupported",
        CPR_E_NOT_FOUND => c"not-found",
        CPR_E_ALREADY_EXISTS => c"already-exists",
        CPR_E_PERMISSION => c"permission-denied",
        CPR_E_INVALID => c"invalid",
        CPR_E_CORRUPT => c"corrupt",
        CPR_E_CHANGED => c"changed",
        CPR_E_REFUSED => c"refused",
        CPR_E_TIMEOUT => c"timeout",
        CPR_E_CANCELLED => c"cancelled",
        CPR_E_LIMIT => c"limit",
        CPR_E_NO_SPACE => c"no-space",
        CPR_E_READ_ONLY => c"read-only",
        CPR_E_MISSING => c"missing",
        CPR_E_PEER => c"peer",
        CPR_E_POLICY => c"policy",
        CPR_E_IO => c"io",
        CPR_E_INTERNAL => c"internal",
        _ => c"unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_code_of_its_name() {
        use ErrorKind as K;
        let kinds = [
            K::NotFound,
            K::AlreadyExists,
            K::PermissionDenied,
            K::Invalid,
            K::Corrupt,
            K::Changed,
            K::Busy,
            K::Refused,
            K::Timeout,
            K::Cancelled,
            K::Limit,
            K::NoSpace,
            K::ReadOnly,
            K::Unsupported,
            K::Missing,
            K::Peer,
            K::Policy,
            K::Io,
            K::Internal,
        ];
        for kind in kinds {
            assert_eq!(name(of_kind(kind)).to_str().expect("ascii"), kind.as_str());
        }
        assert_eq!(name(1), c"unknown");
    }
}
