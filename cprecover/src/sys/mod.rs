//! Effects behind small traits, with their Linux implementations.

mod clock;
mod collect;
mod command;
mod kept;
pub(crate) mod left_over;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

pub use clock::{CancelToken, Clock, Deadline, ManualClock, SystemClock, later, millis};
pub use command::{CommandOutput, CommandSpec, Commands, SystemCommands, find_program};

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// [`ErrorKind::Limit`] when the file is longer; the kinds of a failed open or read otherwise.
pub fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|source| Error::path("open", path, source))?;
    read_at_most(file, path, limit)
}

/// As [`read_bounded`], of a file that is open.
pub(crate) fn read_at_most(file: File, path: &Path, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells "exactly the limit" from "too long".
    let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(cap).read_to_end(&mut bytes).map_err(|source| Error::path("read", path, source))?;
    if bytes.len() > limit {
        return Err(Error::new(ErrorKind::Limit, format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}
