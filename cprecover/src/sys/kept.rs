//! Output of a program that may leave a daemon behind.
//!
//! A daemon that inherited a pipe as its stderr is ended by SIGPIPE at its next line once nobody reads it:
//! Go's runtime, and so kubelet, takes the signal for descriptors 1 and 2 (Go `os/signal`, "SIGPIPE"). The
//! output goes into a file in memory instead (`memfd_create(2)`), which is emptied and sealed when the
//! program itself has ended: the daemon's writes then fail with `EPERM`, without a signal, and take no
//! memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// One stream, kept in memory.
pub(super) struct Kept(File);

impl Kept {
    pub(super) fn new() -> Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Linux 6.3 can forbid files in memory that might be executed; older ones do not know the flag.
        let made = match memfd_create("cprecover-output", flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => memfd_create("cprecover-output", flags),
            other => other,
        };
        made.map(|fd| Self(File::from(fd))).map_err(|source| Error::io("make a file in memory", source))
    }

    /// Returns the stream as a child takes it.
    pub(super) fn stdio(&self) -> Result<Stdio> {
        self.0.try_clone().map(Stdio::from).map_err(|source| Error::io("pass a file in memory on", source))
    }

    /// Lets it grow no more once it is longer than `limit`.
    pub(super) fn bound(&self, limit: usize) -> Result<()> {
        let length = self.0.metadata().map_err(|source| Error::io("stat kept output", source))?.len();
        if usize::try_from(length).is_ok_and(|length| length <= limit) {
            return Ok(());
        }
        self.seal()
    }

    /// Returns at most `limit` bytes of what was written so far, and whether there was more; takes no more.
    pub(super) fn finish(self, limit: usize) -> Result<(Vec<u8>, bool)> {
        let mut bytes = vec![0; limit.saturating_add(1)];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let offset = u64::try_from(filled).unwrap_or(u64::MAX);
            match self.0.read_at(rest, offset) {
                Ok(0) => break,
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::io("read kept output", source)),
            }
        }
        self.0.set_len(0).map_err(|source| Error::io("empty kept output", source))?;
        self.seal()?;
        bytes.truncate(filled.min(limit));
        Ok((bytes, filled > limit))
    }

    fn seal(&self) -> Result<()> {
        fcntl_add_seals(&self.0, SealFlags::GROW).map_err(|source| Error::io("seal kept output", source))
    }
}
