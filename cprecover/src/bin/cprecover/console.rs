//! What the program says beside its results.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Says a line on stderr.
///
/// Whoever read it may be gone: a terminal that hung up must not end a recovery between two effects, as the
/// panic of `eprintln!` would.
pub(crate) fn say(line: Arguments<'_>) {
    write(io::stderr(), &format!("{line}\n"));
}

/// As [`say`], without ending the line.
pub(crate) fn say_on(text: Arguments<'_>) {
    write(io::stderr(), &text.to_string());
}

/// Prints a line on stdout, as the stand-ins do; a command's result goes through [`crate::Context::emit`],
/// which tells what was not written.
pub(crate) fn print_line(line: Arguments<'_>) {
    write(io::stdout(), &format!("{line}\n"));
}

/// In one piece, so that lines of several threads stay whole.
fn write(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
