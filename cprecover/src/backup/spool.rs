//! What comes from outside, on the store's own disk: the store is not locked while a pipe or a network is
//! waited for.

use std::fs::File;
use std::io::{ErrorKind as Io, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::Store;
use super::vault::BUFFER;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::Deadline;

/// The most that is taken in at once; a node's whole recovery set has some megabytes.
pub(super) const MAX_SPOOLED_BYTES: u64 = 4 << 30;

/// A file without a name, mode 0600.
pub(super) struct Spool {
    file: File,
    /// The folder that it is in.
    folder: PathBuf,
    size: u64,
}

impl Store {
    /// Makes a file beside the snapshots for what is about to be taken in.
    pub(super) fn spool(&self) -> Result<Spool> {
        self.check_writable()?;
        if self.look()?.is_none() {
            self.make()?;
        }
        Spool::new(self.path())
    }
}

impl Spool {
    fn new(folder: &Path) -> Result<Self> {
        let file =
            tempfile::tempfile_in(folder).map_err(|source| Error::path("make a file in", folder, source))?;
        Ok(Self { file, folder: folder.to_owned(), size: 0 })
    }

    /// Reads `from` to its end; a reader that says [`Io::Interrupted`] has nothing yet.
    pub(super) fn fill(&mut self, from: &mut dyn Read, deadline: &Deadline) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            deadline.check("read archive")?;
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == Io::Interrupted => continue,
                Err(error) => return Err(Error::io("read archive", error)),
            };
            self.append(buffer.get(..count).unwrap_or_default())?;
        }
    }

    /// Appends bytes and returns where they begin.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.size;
        self.size = at.saturating_add(bytes.len() as u64);
        if self.size > MAX_SPOOLED_BYTES {
            let text = format!("more than the {MAX_SPOOLED_BYTES} bytes that are taken in at once");
            return Err(Error::new(ErrorKind::Limit, text));
        }
        self.file.write_all(bytes).map_err(|source| Error::path("write a file in", &self.folder, source))?;
        Ok(at)
    }

    /// Goes back to `at`, for reading from there on.
    pub(super) fn read_from(&self, at: u64) -> Result<&File> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at))
            .map_err(|source| Error::path("read a file in", &self.folder, source))?;
        Ok(file)
    }
}
