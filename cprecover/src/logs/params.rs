//! Reads names and numbers out of a line, as the table says.

/// One thing to read out of a line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Param {
    /// The text after `after` up to one of the characters `stop`.
    After { name: &'static str, after: &'static str, stop: &'static str },
    /// The word before `before`.
    Before { name: &'static str, before: &'static str },
    /// `host:port` after `after`; gives `address` and `port`.
    Address { after: &'static str },
}

/// Longest value that is kept, in bytes.
const MAX_VALUE: usize = 256;

/// Characters around values that are not part of them.
const QUOTES: [char; 8] = ['"', '\'', '`', ',', ';', '(', ')', ' '];

/// Reads all `params` out of `line`; what is not there is left out.
pub(super) fn read(params: &[Param], line: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: &str| {
        let value = value.trim_matches(QUOTES);
        // A row may list several places for one name; the first that is there counts.
        if !value.is_empty() && !found.iter().any(|(known, _)| known == name) {
            found.push((name.to_owned(), clip(value, MAX_VALUE).to_owned()));
        }
    };
    for param in params {
        match *param {
            Param::After { name, after, stop } => {
                if let Some((_, rest)) = split_once(line, after) {
                    let end = rest.find(|c: char| stop.contains(c)).unwrap_or(rest.len());
                    add(name, rest.get(..end).unwrap_or(rest));
                }
            }
            Param::Before { name, before } => {
                if let Some((text, _)) = split_once(line, before) {
                    add(name, text.rsplit([' ', '=']).next().unwrap_or(text));
                }
            }
            Param::Address { after } => {
                if let Some((address, port)) = split_once(line, after).and_then(|(_, rest)| host_port(rest)) {
                    add("address", address);
                    add("port", port);
                }
            }
        }
    }
    found
}

/// As [`str::split_once`], with the vector search.
fn split_once<'a>(text: &'a str, at: &str) -> Option<(&'a str, &'a str)> {
    let start = memchr::memmem::find(text.as_bytes(), at.as_bytes())?;
    Some((text.get(..start)?, text.get(start + at.len()..)?))
}

/// Splits `tcp4 10.0.0.1:2380: bind: …` into host and port; the network's name is optional.
fn host_port(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(['4', '6']).trim_start();
    let word = text.split([' ', '"', ',']).next()?.trim_end_matches(':');
    let (host, port) = word.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    is_port.then_some((if host.is_empty() { "::" } else { host }, port))
}

/// Returns at most `limit` bytes of `text`, cut between characters.
pub(super) fn clip(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or("")
}
