//! What the program says beside its results.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Says a line on stderr; control characters, which may come from a file's name or content, are spelled out.
///
/// Whoever read it may be gone: a terminal that hung up must not end a recovery between two effects, as the
/// panic of `eprintln!` would.
pub(crate) fn say(line: Arguments<'_>) {
    write(io::stderr(), &format!("{}\n", plain(&line.to_string())));
}

/// Spells out what a terminal would obey.
fn plain(text: &str) -> String {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if obeyed(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

/// As [`say`], as it is and without ending the line.
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

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_terminal_obeys_nothing_that_is_said() {
        assert_eq!(plain("a\x1b[2Jb\rc\u{9b}d"), "a\\u{1b}[2Jb\\rc\\u{9b}d");
        assert_eq!(plain("lines\n\tstay \u{e9}"), "lines\n\tstay \u{e9}");
    }
}
