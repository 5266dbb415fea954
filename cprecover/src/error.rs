//! The crate's one error type.

use std::fmt;
use std::path::Path;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Classifies an [`Error`], so that a caller can decide what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing named in the message does not exist, and that is proven.
    NotFound,
    /// It exists already and must not be replaced.
    AlreadyExists,
    /// The kernel refused for lack of permission; the state of the thing is unknown.
    PermissionDenied,
    /// The input is malformed; the message says where.
    Invalid,
    /// Stored data does not match its recorded digest, or a journal or log chain is broken.
    Corrupt,
    /// The world changed between the check and the effect; nothing was done, a retry may succeed.
    Changed,
    /// Another process or thread holds the resource.
    Busy,
    /// A guard rail forbids the action; retrying will not help.
    Refused,
    /// A deadline passed.
    Timeout,
    /// The caller cancelled.
    Cancelled,
    /// A configured or built-in limit (bytes, entries, depth) was exceeded.
    Limit,
    /// No space, inodes or quota left on the file system.
    NoSpace,
    /// The file system is read-only.
    ReadOnly,
    /// The kernel, the build or the peer lacks the feature.
    Unsupported,
    /// Values that only the operator knows are missing; the message lists them.
    Missing,
    /// A peer (runtime, kubeadm, apiserver, etcd) failed or answered nonsense.
    Peer,
    /// A policy failed: trap, limit, digest or version mismatch.
    Policy,
    /// Any other failure of the operating system.
    Io,
    /// An invariant of this crate does not hold: a bug.
    Internal,
}

impl ErrorKind {
    /// Returns the stable, lower-case name used in JSON output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::PermissionDenied => "permission-denied",
            Self::Invalid => "invalid",
            Self::Corrupt => "corrupt",
            Self::Changed => "changed",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Limit => "limit",
            Self::NoSpace => "no-space",
            Self::ReadOnly => "read-only",
            Self::Unsupported => "unsupported",
            Self::Missing => "missing",
            Self::Peer => "peer",
            Self::Policy => "policy",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says what failed, on which path, port or pid, and why.
///
/// The message is one line in lower case without a final period. Match on [`Error::kind`]; error
/// types of other crates appear only as [`std::error::Error::source`].
#[derive(Debug)]
pub struct Error(Box<Repr>);

#[derive(Debug)]
struct Repr {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

impl Error {
    /// Makes an error without a source.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Repr { kind, message: message.into(), source: None }))
    }

    /// Makes an error that carries `source` as its cause.
    pub fn with_source(kind: ErrorKind, message: impl Into<String>, source: impl Into<Source>) -> Self {
        Self(Box::new(Repr { kind, message: message.into(), source: Some(source.into()) }))
    }

    /// Makes an error from a failed system call; `what` names operation and object, as in `open pid 7`.
    pub fn io(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        Self::with_source(kind_of_io(&source), what, source)
    }

    /// Makes an error from a failed system call on a path; reads as `open /etc/x: …`.
    pub fn path(op: &str, path: impl AsRef<Path>, source: impl Into<std::io::Error>) -> Self {
        Self::io(format!("{op} {}", path.as_ref().display()), source)
    }

    /// Returns the classification of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Reports whether the same call may succeed later without anyone changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Changed | ErrorKind::Busy | ErrorKind::Timeout)
    }

    /// Returns the OS error number behind this error, where there is one.
    #[must_use]
    pub fn os_error(&self) -> Option<i32> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(self);
        // Eight levels are more than any chain built in this crate.
        for _ in 0..8 {
            let current = cause?;
            if let Some(io) = current.downcast_ref::<std::io::Error>()
                && let Some(code) = io.raw_os_error()
            {
                return Some(code);
            }
            cause = current.source();
        }
        None
    }

    /// Puts what the caller was doing in front: `restore etcd.yaml: open /x: …`.
    #[must_use]
    pub fn context(self, doing: impl fmt::Display) -> Self {
        let Repr { kind, message, source } = *self.0;
        Self(Box::new(Repr { kind, message: format!("{doing}: {message}"), source }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut cause: Option<&(dyn std::error::Error + 'static)> =
            self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static));
        // The chain is printed here, so that a log line or a C caller sees the whole reason.
        for _ in 0..8 {
            let Some(current) = cause else { break };
            write!(f, ": {current}")?;
            if current.is::<Error>() {
                break;
            }
            cause = current.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

/// Maps an OS error to the kind a caller can act on.
fn kind_of_io(error: &std::io::Error) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound => ErrorKind::NotFound,
        Io::AlreadyExists => ErrorKind::AlreadyExists,
        Io::PermissionDenied => ErrorKind::PermissionDenied,
        Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
        Io::ReadOnlyFilesystem => ErrorKind::ReadOnly,
        Io::TimedOut | Io::WouldBlock => ErrorKind::Timeout,
        Io::Unsupported => ErrorKind::Unsupported,
        Io::ResourceBusy | Io::ExecutableFileBusy => ErrorKind::Busy,
        Io::InvalidData | Io::InvalidInput => ErrorKind::Invalid,
        _ => ErrorKind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_the_path_and_the_reason() {
        let error = Error::path("open", "/etc/x", std::io::Error::from_raw_os_error(2)).context("lint");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.os_error(), Some(2));
        assert_eq!(error.to_string(), "lint: open /etc/x: No such file or directory (os error 2)");
    }

    #[test]
    fn full_disk_is_told_apart() {
        assert_eq!(
            Error::path("write", "/x", std::io::Error::from_raw_os_error(28)).kind(),
            ErrorKind::NoSpace
        );
        assert_eq!(
            Error::path("write", "/x", std::io::Error::from_raw_os_error(30)).kind(),
            ErrorKind::ReadOnly
        );
        assert_eq!(
            Error::path("write", "/x", std::io::Error::from_raw_os_error(122)).kind(),
            ErrorKind::NoSpace
        );
    }
}
