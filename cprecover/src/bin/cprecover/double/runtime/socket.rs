//! Unix sockets whose path is too long for `sockaddr_un`.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Listens at `path`, replacing a socket that is there.
pub(super) fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_folder, short) = shortened(path)?;
    UnixListener::bind(short)
}

/// Connects to `path`.
pub(super) fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let (_folder, short) = shortened(path)?;
    UnixStream::connect(short)
}

/// Names the socket through a descriptor of its folder, which stays open as long as the name is used.
fn shortened(path: &Path) -> std::io::Result<(OwnedFd, PathBuf)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "a socket needs a folder"));
    };
    let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((folder, short))
}
