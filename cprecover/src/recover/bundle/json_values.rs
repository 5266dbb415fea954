//! Takes values out of variables and headers as JSON has them: `"name": "A", "value": "x"`.
//!
//! So they stand in a pod's `kubectl.kubernetes.io/last-applied-configuration`, in the probes of a manifest and in
//! what components log, there as text within JSON, with backslashes. Whatever its name, a value may be a secret.

use std::ops::Range;

use super::looks::MARK;

/// Takes the values out, also where the text is cut in their midst.
pub(super) fn json_values(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, _) in text.match_indices('"') {
        let Some(value) = (at >= done).then(|| value_of(text, at)).flatten() else { continue };
        out.push_str(text.get(done..value.start).unwrap_or_default());
        out.push_str(MARK);
        done = value.end;
    }
    out + text.get(done..).unwrap_or_default()
}

/// Where the value is of the name or the value that begins at a quote; none for one that is empty.
fn value_of(text: &str, quote: usize) -> Option<Range<usize>> {
    let rest = text.get(quote + 1..)?;
    let (key, other) =
        [("name", "value"), ("value", "name")].into_iter().find(|(key, _)| rest.starts_with(key))?;
    let slashes = slashes_before(text, quote);
    let mut reader = Reader { text, at: quote - slashes, slashes };
    reader.string().filter(|found| text.get(found.clone()) == Some(key))?;
    let first = reader.after(':')?;
    reader.after(',').filter(|found| text.get(found.clone()) == Some(other))?;
    // A manifest may have them the other way round.
    let value = if key == "name" { reader.after(':')? } else { first };
    // A value that is not there tells a person something.
    (!value.is_empty()).then_some(value)
}

/// Reads JSON whose quotes have some backslashes before them, since it is text within JSON.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    slashes: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The string that follows a mark.
    fn after(&mut self, mark: char) -> Option<Range<usize>> {
        self.skip_blanks();
        self.rest().strip_prefix(mark)?;
        self.at += mark.len_utf8();
        self.skip_blanks();
        self.string()
    }

    /// Also line feeds and tabs as JSON writes them.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let rest = rest.trim_start();
            let escape = rest.trim_start_matches('\\');
            let is_blank = escape.len() < rest.len() && escape.starts_with(['n', 't', 'r']);
            let left = if is_blank { escape.get(1..).unwrap_or_default() } else { rest };
            self.at = self.text.len() - left.len();
            if !is_blank {
                return;
            }
        }
    }

    /// The inside of a string: up to its quote, or to where the text is cut.
    fn string(&mut self) -> Option<Range<usize>> {
        let inner = self.rest().trim_start_matches('\\').strip_prefix('"')?;
        let start = self.text.len() - inner.len();
        if start - self.at != self.slashes + 1 {
            return None;
        }
        for (at, found) in inner.match_indices(['"', '\n', '\r']) {
            self.at = start + at;
            if found != "\"" {
                return Some(start..self.at);
            }
            let run = slashes_before(inner, at);
            // Fewer are those of the text around it. Of an escaped quote there are once more as many, and one.
            if run.checked_sub(self.slashes).is_none_or(|more| (more / (self.slashes + 1)).is_multiple_of(2))
            {
                self.at += 1;
                return Some(start..start + at - run.min(self.slashes));
            }
        }
        self.at = self.text.len();
        Some(start..self.at)
    }
}

fn slashes_before(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.len() - before.trim_end_matches('\\').len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [&str; 6] =
        ["Tr0ub4dor-la", "Tr0ub, \"4dor\"", "C:\\Tr0ub\\", "Tr0ub\n4dor\t", "\\\"Tr0ub\\\\\"", "\"Tr0ub"];

    fn pod(value: &str) -> String {
        let pod = serde_json::json!({
            "env": [{"name": "DB_PASSWORD", "value": value}, {"name": "EMPTY", "value": ""}, {"name": "FROM"}],
            "httpHeaders": [{"value": value, "name": "X-Hdr"}],
            "path": "/healthz",
        });
        serde_json::to_string_pretty(&pod).expect("serialises")
    }

    #[test]
    fn values_are_taken_out_in_json_and_in_text_within_json() {
        for value in VALUES {
            let mut text = pod(value);
            let mut wanted = pod(MARK);
            for depth in 0..4 {
                let clean = json_values(&text);
                assert_eq!(clean, wanted, "{value:?} in {depth} texts");
                assert_eq!(json_values(&clean), clean);
                text = serde_json::to_string(&serde_json::json!({"log": text, "b": 1})).expect("serialises");
                wanted =
                    serde_json::to_string(&serde_json::json!({"log": wanted, "b": 1})).expect("serialises");
            }
        }
    }

    #[test]
    fn a_cut_behind_the_name_leaves_no_value() {
        let whole =
            serde_json::to_string(&serde_json::json!([{"name": "A", "value": "Tr0ub4dor"}])).expect("is");
        for cut in 0..=whole.len() {
            let head = whole.get(..cut).expect("ASCII");
            let clean = json_values(&format!("{head}\ngood"));
            assert!(!clean.contains("Tr") && clean.ends_with("\ngood"), "{clean}");
            let json = serde_json::to_string(&serde_json::json!({"log": head, "b": 1})).expect("is");
            let clean: serde_json::Value = serde_json::from_str(&json_values(&json)).expect("is JSON still");
            assert_eq!(clean.get("b"), Some(&serde_json::Value::from(1)), "{clean}");
        }
    }

    #[test]
    fn other_text_stays() {
        for text in [
            "",
            "\"",
            "\"name\": \"A\"",
            "{\"name\": \"A\", \"mountPath\": \"/etc\"}, {\"value\": \"x\"}",
            "{\"name\": \"A\", \"values\": \"x\", \"value\": \"y\"}",
            "{\"name\": {\"value\": \"x\"}, \"value\": 3}",
            "\"name\": \"A\", \\\"value\\\": \\\"x\\\"",
        ] {
            assert_eq!(json_values(text), text);
        }
    }
}
