//! `cprecover backup export|import`: snapshots as tar files.

use std::io::{BufWriter, Read, Write as _};
use std::os::fd::AsFd;
use std::path::Path;

use cprecover::backup::Store;
use cprecover::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::backup::{deadline, shown};
use crate::console::say;
use crate::{Context, Exit};

/// Runs `cprecover backup export`.
pub(crate) fn export(ctx: &Context, store: &Store, name: &str, file: &Path) -> Result<Exit> {
    let id = store.resolve(name)?;
    if file == Path::new("-") {
        let mut stdout = std::io::stdout().lock();
        store.export(&id, &mut stdout, &deadline(ctx))?;
        stdout.flush().map_err(|source| Error::io("write to stdout", source))?;
        return Ok(Exit::Done);
    }
    let failed = |source| Error::path("write", file, source);
    if file.symlink_metadata().is_ok() {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Under its own name only when it is whole, so that a failed export can be tried again.
    let out = tempfile::Builder::new().prefix(".cprecover-export-").tempfile_in(folder).map_err(failed)?;
    let mut writer = BufWriter::new(&out);
    store.export(&id, &mut writer, &deadline(ctx))?;
    writer.flush().and_then(|()| out.as_file().sync_all()).map_err(failed)?;
    drop(writer);
    out.persist_noclobber(file).map_err(|error| failed(error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    say(format_args!("snapshot {id} written to {}", file.display()));
    Ok(Exit::Done)
}

/// How soon a deadline or a cancel is seen while a pipe has nothing.
const POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Reads a file or a pipe; one that has nothing yet is an interrupted read.
struct Patient<T>(T);

impl<T: AsFd> Read for Patient<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut waited = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut waited, Some(&POLL))? {
            0 => Err(std::io::ErrorKind::Interrupted.into()),
            _ => Ok(rustix::io::read(&self.0, buffer)?),
        }
    }
}

/// Runs `cprecover backup import`.
pub(crate) fn import(ctx: &Context, store: &Store, file: &Path) -> Result<Exit> {
    let snapshot = if file == Path::new("-") {
        store.import(&mut Patient(std::io::stdin()), &deadline(ctx))
    } else {
        let from = std::fs::File::open(file).map_err(|source| Error::path("open", file, source))?;
        store.import(&mut Patient(from), &deadline(ctx))
    };
    let snapshot = snapshot.map_err(|error| error.context(file.display()))?;
    ctx.emit("cprecover.dev/snapshot/v1", &snapshot, || shown(&snapshot))?;
    Ok(Exit::Done)
}
