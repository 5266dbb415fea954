//! Writes this crate's own config documents as YAML.
//!
//! Manifests are never written by this: they stay the bytes that kubeadm or the operator wrote. The
//! style is that of `sigs.k8s.io/yaml` (block style, list items not indented), so that people see what
//! they know from kubeadm.

use std::fmt::Write as _;

use serde_json::Value;

/// Returns `value` as one YAML document, keys in their order.
#[must_use]
pub fn yaml_text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(&mut out, map, 0, false),
        Value::Array(items) if !items.is_empty() => array(&mut out, items, 0),
        other => {
            scalar(&mut out, other);
            out.push('\n');
        }
    }
    out
}

fn object(out: &mut String, map: &serde_json::Map<String, Value>, indent: usize, first_inline: bool) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 || !first_inline {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        string(out, key);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                object(out, inner, indent + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                array(out, items, indent);
            }
            other => {
                out.push(' ');
                scalar(out, other);
                out.push('\n');
            }
        }
    }
}

fn array(out: &mut String, items: &[Value], indent: usize) {
    for item in items {
        out.extend(std::iter::repeat_n(' ', indent));
        out.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => object(out, inner, indent + 2, true),
            // A list in a list occurs in no config of kubeadm; JSON is YAML too.
            other => {
                scalar(out, other);
                out.push('\n');
            }
        }
    }
}

fn scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => string(out, text),
        other => {
            // Writing to a String cannot fail.
            let _ = write!(out, "{other}");
        }
    }
}

fn string(out: &mut String, text: &str) {
    if resolves_to_another_type(text) || text.chars().any(char::is_control) {
        // JSON's escapes are a subset of YAML's double-quoted style.
        let _ = write!(out, "{}", Value::from(text));
    } else if is_plain(text) {
        out.push_str(text);
    } else {
        let _ = write!(out, "'{}'", text.replace('\'', "''"));
    }
}

/// Reports text that YAML 1.1, as Go reads it, takes for a bool, null, number, sexagesimal or date.
fn resolves_to_another_type(text: &str) -> bool {
    const WORDS: [&str; 15] =
        ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<", ".nan", ".inf", "-.inf"];
    let lower = text.to_ascii_lowercase();
    if WORDS.contains(&lower.as_str()) {
        return true;
    }
    if !lower.contains(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let digits = lower.replace('_', "");
    let unsigned = digits.trim_start_matches(['+', '-']);
    let radix = |prefix: &str, radix: u32| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    digits.parse::<f64>().is_ok()
        || radix("0x", 16)
        || radix("0o", 8)
        || radix("0b", 2)
        || is_sexagesimal(unsigned)
        || is_date(unsigned)
}

/// `12:30:45`: YAML 1.1 reads base 60.
fn is_sexagesimal(text: &str) -> bool {
    text.contains(':') && text.split(':').all(|part| part.parse::<f64>().is_ok_and(|_| !part.contains('e')))
}

fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let year = parts.next().is_some_and(|y| y.len() == 4 && y.parse::<u16>().is_ok());
    let month = parts.next().is_some_and(|m| (1..=2).contains(&m.len()) && m.parse::<u8>().is_ok());
    year && month && parts.next().is_some_and(|day| day.starts_with(|c: char| c.is_ascii_digit()))
}

fn is_plain(text: &str) -> bool {
    let first_is_special = text.starts_with(|c: char| "!&*{}[]|>@`%\"'#,".contains(c));
    let indicator = matches!(text.as_bytes(), [b'-' | b'?' | b':'] | [b'-' | b'?' | b':', b' ', ..]);
    !first_is_special
        && !indicator
        && text.trim() == text
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with(':')
        && !text.starts_with("---")
        && !text.starts_with("...")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::yaml;
    use serde_json::json;

    #[test]
    fn style_of_sigs_yaml() {
        let value = json!({"a": "7", "b": [{"name": "x", "value": "*"}, {"nn": {"m": 1}}], "c": {}, "d": [], "e": "10.10.17.210:6443"});
        assert_eq!(
            yaml_text(&value),
            "a: \"7\"\nb:\n- name: x\n  value: '*'\n- nn:\n    m: 1\nc: {}\nd: []\ne: 10.10.17.210:6443\n"
        );
    }

    #[test]
    fn every_string_reads_back_as_itself() {
        for text in [
            "",
            "~",
            "yes",
            "0644",
            "1_000",
            "1e3",
            "0x1F",
            "12:30:45",
            "2024-01-02",
            ".5",
            "+1",
            "- a",
            "a: b",
            "a #b",
            "'quoted'",
            "\"d\"",
            "a\nb",
            "tab\t",
            "--controllers=*,x",
            "*",
            "&a",
            "v1.36.2",
            "10.96.0.0/12",
            "é",
            "::1",
            "a:",
            "{}",
            "[x]",
            "%d",
            "@x",
            "null",
            "N",
            "-",
            "---",
            "0o17",
            "0b1",
            "https://[::1]:2379",
        ] {
            let back: serde_json::Value =
                yaml::from_slice(yaml_text(&json!({"k": text, "l": [text]})).as_bytes()).expect(text);
            assert_eq!(back, json!({"k": text, "l": [text]}), "{text:?}");
        }
    }
}
