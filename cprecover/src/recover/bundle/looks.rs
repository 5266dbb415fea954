//! Takes out of text what looks like a secret, on whatever node.

use super::go_values::go_values;
use super::json_values::json_values;
use super::keys::private_keys;

/// What stands in place of a secret.
pub(super) const MARK: &str = "[redacted]";

/// Words whose value is a secret, whatever it is.
const NAMES: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "key-data",
    "certificatekey",
    "certificate-key",
];
/// The same where they are a whole part of a name: `bypass` and `passthrough` are none.
const PARTS: [&str; 5] = ["credential", "credentials", "pass", "pwd", "pw"];
/// What follows such a part in names of other things: `--image-credential-provider-config`, `pass-through`.
const NO_SECRET_AFTER: [&str; 2] = ["provider", "through"];
/// What stands before `key` in the name of a secret one; a plain `key` is that of a map, or a pod's name.
const KEYS: [&str; 9] =
    ["x", "access", "account", "auth", "encryption", "master", "private", "shared", "signing"];
/// Words that name a secret only where a value is assigned: `auth=x`, and not `auth: no such user`.
const ASSIGNED: [&str; 5] = ["auth", "session", "sessionid", "session-id", "session_id"];
/// A number of fewer digits is a count, a port or a version.
const LEAST_OF_NUMBER: usize = 6;
/// Folders of a node that files are named in; base64 may begin with `/` too, but hardly so.
const ROOTS: [&str; 16] = [
    "/etc/", "/var/", "/run/", "/usr/", "/opt/", "/tmp/", "/root/", "/home/", "/srv/", "/mnt/", "/dev/",
    "/proc/", "/sys/", "/lib/", "/bin/", "/data/",
];

/// Takes out what looks like a secret.
pub(in crate::recover) fn by_looks(text: &str) -> String {
    values(&userinfo_of_urls(&json_values(&go_values(&private_keys(text)))))
}

/// Takes out the values of secret names, and words that are secrets by their form.
pub(super) fn values(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = "";
    // Between a name and its value stands a mark of YAML (`password: |`, `- --password`, `- x`).
    let mut held = false;
    loop {
        let (gap, after) = rest.split_at(gap_length(rest));
        out.push_str(gap);
        if after.is_empty() {
            return out;
        }
        let expected = held || announces(before, gap, after);
        let length = match expected {
            true if is_cookie(before) => cookies_length(gap, after),
            true => value_length(gap, after),
            false => word_length(after),
        };
        let (word, after) = after.split_at(length);
        held = expected && matches!(word, "-" | "|" | "|-" | "|+" | "+");
        if held {
            out.push_str(word);
        } else if (expected && !is_path(word) && !is_harmless(word)) || looks_secret(word) {
            out.push_str(MARK);
        } else {
            out.push_str(&userinfo(word, gap));
        }
        before = word;
        rest = after;
    }
}

pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_known = NAMES.iter().any(|known| name.contains(known));
    is_known || name.ends_with("authorization") || is_cookie(&name) || has_secret_part(&name)
}

/// Of a name in lower case.
fn has_secret_part(name: &str) -> bool {
    let parts: Vec<&str> = name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
    let is_secret = |(at, part): (usize, &&str)| {
        let next = parts.get(at + 1);
        PARTS.contains(part) && !next.is_some_and(|next| NO_SECRET_AFTER.contains(next))
    };
    let is_key = match parts.as_slice() {
        [first, .., "key"] if *first == "x" => true,
        [.., before, "key"] => KEYS.contains(before),
        _ => false,
    };
    is_key || parts.iter().enumerate().any(is_secret)
}

fn is_cookie(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("cookie")
}

/// Reports whether a value is assigned to one of those words that also stand in sentences.
fn is_assigned(name: &str, gap: &str) -> bool {
    let assigns = gap.contains(['=', '"', '\'']) && !gap.contains(['{', ',']);
    assigns && ASSIGNED.contains(&name.trim_start_matches('-'))
}

pub(super) fn is_path(word: &str) -> bool {
    let is_below = |root: &&str| word.starts_with(*root) || root.strip_suffix('/') == Some(word);
    word.starts_with("./") || ROOTS.iter().any(is_below)
}

/// Reports whether `next`, which follows `name` after `gap`, is what `name` names: `token: x`, `"token":"x"`,
/// `--token=x`, `Bearer x`, and as arguments `--token x` and `"--token", "x"`.
fn announces(name: &str, gap: &str, next: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    if lower == "bearer" || lower == "basic" {
        return true;
    }
    let is_secret = is_secret_name(&lower) || is_assigned(&lower, gap);
    let is_name = is_secret && !names_a_file(&lower) && !lower.ends_with("v1.secret");
    // `"password": "", "user": "x"`: the value is there, and empty.
    if !is_name || ["\"\"", "''", "[]", "{}"].iter().any(|empty| gap.contains(empty)) {
        return false;
    }
    let ends_line = gap.contains('\n') || gap.contains("\\n");
    if gap.contains([':', '=']) {
        return !ends_line;
    }
    let is_quoted = gap.contains(['"', '\'']);
    name.starts_with("--") && !next.starts_with("--") && (!ends_line || is_quoted || next.starts_with("- "))
}

/// Up to the first character of a word; a line feed as JSON has it is part of no word.
fn gap_length(text: &str) -> usize {
    let mut length = 0;
    loop {
        let rest = text.get(length..).unwrap_or_default();
        let next = match rest.chars().next() {
            _ if rest.starts_with("\\n") => 2,
            Some(c) if is_delimiter(c) => c.len_utf8(),
            _ => return length,
        };
        length += next;
    }
}

fn word_length(text: &str) -> usize {
    text.find(is_delimiter).unwrap_or(text.len())
}

/// How long the value at the start of `text` is: up to the quote that ends it, or to the next white space.
fn value_length(gap: &str, text: &str) -> usize {
    let backslashes = |text: &str| text.len() - text.trim_end_matches('\\').len();
    let before = |at: usize| text.get(..at).unwrap_or_default();
    let opened = gap.rfind(['"', '\'']).filter(|at| Some(*at) > gap.rfind([':', '=', ',']));
    if let Some((at, quote)) = opened.and_then(|at| Some((at, gap.get(at..)?.chars().next()?))) {
        let opening = backslashes(gap.get(..at).unwrap_or_default());
        let line = before(text.find(['\n', '\r']).unwrap_or(text.len()));
        for (at, _) in line.match_indices(quote) {
            let run = backslashes(before(at));
            if run <= opening {
                return at - run;
            }
            if opening == 0 && run.is_multiple_of(2) {
                return at;
            }
        }
        return line.len();
    }
    let ends = |(at, c): &(usize, char)| {
        c.is_whitespace() || (*c == '"' && backslashes(before(*at)).is_multiple_of(2))
    };
    let end = text.char_indices().find(ends).map_or(text.len(), |(at, _)| at);
    // What ends a list or an object around it is no part of it; a word begins with none of these.
    before(end).trim_end_matches(['"', '\'', ',', ';', ':', ')', ']', '}', '>', '\\']).len()
}

/// The same of cookies, of which one line has several: `session=x; user=y`.
fn cookies_length(gap: &str, text: &str) -> usize {
    let mut length = value_length(gap, text);
    while let Some(next) = text.get(length..).and_then(|rest| rest.strip_prefix("; ")) {
        length += 2 + value_length("", next);
    }
    length
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || "\"',;=:{}[]()&<>\\".contains(c)
}

fn names_a_file(name: &str) -> bool {
    ["-path", "-dir", "file", "-ttl", "-hash"].iter().any(|end| name.ends_with(end))
}

fn is_harmless(word: &str) -> bool {
    word.trim_end_matches(']') == MARK.trim_matches(['[', ']'])
        || (word.len() < LEAST_OF_NUMBER && word.parse::<f64>().is_ok())
        || matches!(word, "true" | "false" | "null")
        // `Authorization: Bearer x`: the word after this one is the secret.
        || word.eq_ignore_ascii_case("bearer")
        || word.eq_ignore_ascii_case("basic")
}

/// JSON web tokens and bootstrap tokens (kubernetes `cluster-bootstrap/token/api`, `BootstrapTokenPattern`), also
/// at the end of a sentence.
fn looks_secret(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let parts: Vec<&str> = word.split('.').collect();
    match parts.as_slice() {
        [head, _, _] => head.starts_with("eyJ") && word.len() >= 40,
        [id, secret] => {
            let plain = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)
        }
        _ => false,
    }
}

/// Takes user and password out of every `scheme://user:password@host`, whatever the host is named.
pub(super) fn userinfo_of_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let ends = |c: char| c.is_whitespace() || "/\"'<>`\\?#".contains(c);
        let end = after.find(ends).unwrap_or(after.len());
        // Of a list of URLs each has its own.
        let end = after.find("://").map_or(end, |next| end.min(next));
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => out.extend([MARK, "@", host]),
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out + rest
}

/// `user:password@host` without a scheme: by delimiters the password and the host are one word here.
fn userinfo(word: &str, gap: &str) -> String {
    match word.rsplit_once('@') {
        // `registry:5000/etcd@sha256:…` is an image.
        Some((user, host)) if !user.is_empty() && !host.starts_with("sha256") => {
            if gap == ":" || word.starts_with("//") || host.contains('.') {
                format!("{MARK}@{host}")
            } else {
                word.to_owned()
            }
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
#[path = "looks_tests.rs"]
mod tests;
