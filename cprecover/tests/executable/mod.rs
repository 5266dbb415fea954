//! Puts programs where tests run them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes `bytes` to `path` as a program that all may run.
///
/// Another process does the writing: a child that a test beside this one starts would inherit a descriptor
/// of ours, and the program could not be run (`ETXTBSY`, execve(2)) until that child calls exec.
pub(crate) fn install(path: &Path, bytes: &[u8]) {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "umask 022 && cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("/bin/sh");
    shell.stdin.take().expect("piped").write_all(bytes).expect("the shell reads");
    assert!(shell.wait().expect("waits").success(), "{} was not written", path.display());
}
