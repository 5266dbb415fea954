//! Takes private keys out of text, whole or cut.

use super::looks::MARK;

/// How a line ends that begins or ends a private key (RFC 7468, section 10, and the older labels).
const MARKER: &str = "PRIVATE KEY-----";

/// What a marker is the end of.
enum Side {
    /// Of `-----BEGIN …`, which starts at this byte.
    Begin(usize),
    /// Of `-----END …`.
    End,
    /// Of what was cut off, or is not in its line.
    Unknown,
}

/// Takes private keys out, with line feeds or with the two characters that JSON has for them.
///
/// Where the beginning is missing all before the end goes, where the end is missing all after the beginning:
/// how much of it is a key cannot be told.
pub(super) fn private_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    let mut is_open = false;
    for (at, marker) in text.match_indices(MARKER) {
        let before = text.get(done..at).unwrap_or_default();
        match (side(before), is_open) {
            // Another beginning or an unknown one inside a key: only an end ends it.
            (Side::Begin(_) | Side::Unknown, true) => continue,
            (Side::Begin(start), false) => {
                out.push_str(before.get(..start).unwrap_or_default());
                out.push_str(MARK);
                is_open = true;
            }
            (Side::Unknown, false) => {
                out.push_str(MARK);
                is_open = true;
            }
            (Side::End, true) => is_open = false,
            (Side::End, false) => out.push_str(MARK),
        }
        done = at + marker.len();
    }
    if !is_open {
        out.push_str(text.get(done..).unwrap_or_default());
    }
    out
}

fn side(before: &str) -> Side {
    let start = before.rfind('\n').map_or(0, |feed| feed + 1);
    let line = before.get(start..).unwrap_or_default();
    let is_label =
        |label: &str| label.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ');
    let last = |what: &str| line.rfind(what).filter(|at| line.get(at + what.len()..).is_some_and(is_label));
    match (last("-----BEGIN"), last("-----END")) {
        (Some(begin), end) if end.is_none_or(|end| end < begin) => Side::Begin(start + begin),
        (_, Some(_)) => Side::End,
        _ => Side::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_keys_are_taken_out_and_nothing_around_them() {
        let (begin, end) = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----");
        for feed in ["\n", "\\n", "\\\\n"] {
            let key = format!("{begin}{feed}MIIEbody{feed}{end}");
            let text = format!("a {key}{feed}b {key} c");
            assert_eq!(private_keys(&text), format!("a {MARK}{feed}b {MARK} c"));
        }
        let public = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n";
        assert_eq!(private_keys(public), public);
        let both = format!("{public}{begin}\nMIIEbody\n{end}\n{public}");
        assert_eq!(private_keys(&both), format!("{public}{MARK}\n{public}"));
    }

    #[test]
    fn a_key_that_is_cut_at_its_start_is_taken_out_too() {
        for start in ["", "KEY-----\n", "RSA PRIVATE KEY-----\n", "MIIEhead\n"] {
            let text = format!(
                "{start}MIIEbody\n-----END RSA PRIVATE KEY-----\nwell\n-----BEGIN PRIVATE KEY-----\nMIIEmore\n\
                 -----END PRIVATE KEY-----\ngood\nMIIEthird\n-----END EC PRIVATE KEY-----\nlast"
            );
            let clean = private_keys(&text);
            assert!(!clean.contains("MIIE"), "{clean}");
            assert!(clean.contains("\nwell\n") && clean.ends_with("\nlast"), "{clean}");
        }
    }

    #[test]
    fn a_mention_of_a_beginning_turns_nothing_around() {
        let text = "no -----BEGIN PRIVATE KEY----- found\nlog\n-----BEGIN PRIVATE KEY-----\nMIIEbody\n\
                    -----END PRIVATE KEY-----\nlast";
        assert_eq!(private_keys(text), format!("no {MARK}\nlast"));
        assert_eq!(private_keys("a -----BEGIN PRIVATE KEY-----\nMIIE cut"), format!("a {MARK}"));
    }
}
