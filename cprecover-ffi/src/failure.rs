//! Why a call did not succeed, before it becomes an error object.

use std::ffi::CString;

use crate::status::{self, cpr_status};

/// Why a call did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: cpr_status,
    os_error: i32,
    message: CString,
}

impl Failure {
    /// Describes a failure of the boundary itself.
    pub(crate) fn new(status: cpr_status, message: impl Into<String>) -> Self {
        Self { status, os_error: 0, message: c_text(message.into()) }
    }

    /// Returns the code.
    pub(crate) const fn status(&self) -> cpr_status {
        self.status
    }

    /// Returns the operating system's error number, 0 where there is none.
    pub(crate) const fn os_error(&self) -> i32 {
        self.os_error
    }

    /// Returns the message.
    pub(crate) fn message(&self) -> &std::ffi::CStr {
        &self.message
    }
}

impl From<cprecover::Error> for Failure {
    fn from(error: cprecover::Error) -> Self {
        Self {
            status: status::of_kind(error.kind()),
            os_error: error.os_error().unwrap_or(0),
            message: c_text(error.to_string()),
        }
    }
}

/// Makes a C string; NUL bytes, which a path of an error may hold, become U+FFFD.
fn c_text(text: String) -> CString {
    let clean = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    CString::new(clean).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_errno_and_message_arrive() {
        let denied = || std::io::Error::from_raw_os_error(13);
        let failure = Failure::from(cprecover::Error::path("open", "/x", denied()));
        assert_eq!(failure.status(), status::CPR_E_PERMISSION);
        assert_eq!(failure.os_error(), 13);
        // Miri's words for an errno are not those of libc.
        assert_eq!(failure.message().to_str().expect("utf-8"), format!("open /x: {}", denied()));
        assert_eq!(Failure::new(-2, "a\0b").message().to_str().expect("utf-8"), "a\u{fffd}b");
    }
}
