//! The short way through YAML as kubeadm writes it.
//!
//! A manifest of kubeadm is block mappings and sequences of plain words. Reading just that takes a fraction
//! of what a whole YAML parser takes, and a backup reads every manifest. Whatever is not beyond doubt (comments,
//! anchors, tags, flow and multi-line text, words that may be numbers) is left to the whole parser; that both
//! give the same is what the tests are about.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::{Map, Value};

/// How deep a text may be nested to be read here; a pod is nested 8 deep.
const MAX_DEPTH: usize = 24;

/// Reads a document that is plain throughout; `None` says nothing about it.
pub(super) fn value(text: &str) -> Option<Value> {
    let mut lines = Vec::with_capacity(128);
    for line in text.strip_suffix('\n')?.split('\n') {
        let content = line.trim_start_matches(' ');
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'#';
        if content.is_empty() || content.ends_with(' ') || !content.bytes().all(plain) {
            return None;
        }
        lines.push((line.len() - content.len(), content));
    }
    let mut reader = Reader { lines, at: 0 };
    let value = reader.mapping(0, 0)?;
    (reader.at == reader.lines.len()).then_some(value)
}

struct Reader<'t> {
    /// Indentation and content of the lines.
    lines: Vec<(usize, &'t str)>,
    at: usize,
}

impl<'t> Reader<'t> {
    fn next(&self) -> Option<(usize, &'t str)> {
        self.lines.get(self.at).copied()
    }

    /// Passes a line whose value is complete; one that is indented deeper would go on with it.
    fn pass(&mut self, indent: usize) -> Option<()> {
        self.at += 1;
        self.next().is_none_or(|(deeper, _)| deeper <= indent).then_some(())
    }

    fn node(&mut self, indent: usize, depth: usize) -> Option<Value> {
        match self.next() {
            _ if depth > MAX_DEPTH => None,
            Some((_, content)) if content.starts_with("- ") => self.sequence(indent, depth),
            _ => self.mapping(indent, depth),
        }
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Option<Value> {
        let mut map = Map::new();
        while let Some((_, content)) =
            self.next().filter(|(at, line)| *at == indent && !line.starts_with('-'))
        {
            let (key, rest) = entry(content)?;
            let value = if rest.is_empty() {
                self.at += 1;
                match self.next() {
                    Some((deeper, _)) if deeper > indent => self.node(deeper, depth + 1)?,
                    // A sequence may stand as far left as its key.
                    Some((same, line)) if same == indent && line.starts_with("- ") => {
                        self.sequence(indent, depth + 1)?
                    }
                    _ => Value::Null,
                }
            } else {
                self.pass(indent)?;
                scalar(rest)?
            };
            // Which of two equal keys counts depends on who asks.
            if map.insert(key.to_owned(), value).is_some() {
                return None;
            }
        }
        (!map.is_empty()).then_some(Value::Object(map))
    }

    fn sequence(&mut self, indent: usize, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        while let Some((_, content)) = self.next().filter(|(at, _)| *at == indent) {
            let Some(item) = content.strip_prefix("- ") else { break };
            if entry(item).is_some() {
                // The mapping goes on in lines that are indented as its first key is.
                *self.lines.get_mut(self.at)? = (indent + 2, item);
                items.push(self.node(indent + 2, depth + 1)?);
            } else {
                self.pass(indent)?;
                items.push(scalar(item)?);
            }
        }
        Some(Value::Array(items))
    }
}

/// Splits `key: value`; the value of a `key:` alone is empty.
fn entry(content: &str) -> Option<(&str, &str)> {
    let (key, rest) = content.split_once(':')?;
    let rest = if rest.is_empty() { rest } else { rest.strip_prefix(' ')? };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    let named = key.starts_with(|first: char| first.is_ascii_alphabetic()) && key.bytes().all(plain);
    (named && !is_special(key)).then_some((key, rest))
}

/// Reads a value that stands on its key's line.
fn scalar(text: &str) -> Option<Value> {
    let word = match text {
        "null" => return Some(Value::Null),
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        "{}" => return Some(Value::Object(Map::new())),
        "[]" => return Some(Value::Array(Vec::new())),
        _ if text.starts_with(|first: char| first.is_ascii_digit()) => return digits(text),
        _ => text,
    };
    // A flag's dashes, or what cannot begin anything but a word.
    let start = word.strip_prefix("--").unwrap_or(word);
    let is_word = start.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let splits = word.contains(": ") || word.ends_with(':');
    (is_word && !splits && !is_special(word)).then(|| Value::String(word.to_owned()))
}

/// Reads a whole number, an address or a quantity; all else that begins with a digit is in doubt.
fn digits(text: &str) -> Option<Value> {
    let rest = text.trim_start_matches(|byte: char| byte.is_ascii_digit());
    if rest.is_empty() {
        // A leading zero makes it octal, or not.
        let doubtful = text.len() > 15 || (text.len() > 1 && text.starts_with('0'));
        return if doubtful { None } else { text.parse().ok().map(|number: u64| number.into()) };
    }
    let address = text.parse::<Ipv4Addr>().is_ok() || text.parse::<SocketAddrV4>().is_ok();
    let quantity = matches!(rest, "m" | "Ki" | "Mi" | "Gi");
    (address || quantity).then(|| Value::String(text.to_owned()))
}

/// Reports whether a word that begins with a letter may be more than a word.
fn is_special(word: &str) -> bool {
    const WORDS: [&str; 12] =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"];
    word.len() <= 8 && WORDS.iter().any(|special| word.eq_ignore_ascii_case(special))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECORDED: [&str; 4] = [
        include_str!("../../../testdata/kubeadm-1.36/manifests/etcd.yaml"),
        include_str!("../../../testdata/kubeadm-1.36/manifests/kube-apiserver.yaml"),
        include_str!("../../../testdata/kubeadm-1.36/manifests/kube-controller-manager.yaml"),
        include_str!("../../../testdata/kubeadm-1.36/manifests/kube-scheduler.yaml"),
    ];

    const IN_DOUBT: &[&str] = &[
        "",
        "\n",
        "a",
        "a\n",
        "a: b",
        "- a\n",
        "a: # b\n",
        "# a\n",
        "a: b #c\n",
        "a: 'b'\n",
        "a: \"b\"\n",
        "a: yes\n",
        "a: On\n",
        "yes: a\n",
        "a: 010\n",
        "a: 1_0\n",
        "a: 1.5\n",
        "a: 1e3\n",
        "a: 0x1f\n",
        "a: 1:30\n",
        "a: -1\n",
        "a: .5\n",
        "a: .inf\n",
        "a: NaN\n",
        "a: ~\n",
        "a: Null\n",
        "a: &b c\n",
        "a: *b\n",
        "a: !!str 1\n",
        "a: |\n  b\n",
        "a: >-\n  b\n",
        "a: {b: c}\n",
        "a: [b]\n",
        "a: b\n  c\n",
        "a: b: c\n",
        "a: b:\n",
        "a: \tb\n",
        "\ta: b\n",
        "a: b \n",
        "a:  b\n",
        "a: b\r\n",
        "a: b\na: c\n",
        "---\na: b\n",
        "a: b\n---\nc: d\n",
        "a: b\n...\n",
        "a: b\n\nc: d\n",
        "a:\n  b: c\n d: e\n",
        "a:\n-b\n",
        "a:\n-\n",
        "a:\n- b\n  c\n",
        "a:\n- b: c\n  - d\n",
        "a: b\n- c\n",
        "a: ä\n",
        "1: b\n",
        "<<: a\n",
        "? a\n",
        "a: @b\n",
        "a: `b\n",
        "a: %b\n",
        "a: 1234567890123456\n",
        "a: - b\n",
        "a: -\n",
    ];

    fn whole(text: &str) -> Result<Value, String> {
        super::super::whole(text).map_err(|error| error.to_string())
    }

    /// Fails where the short way reads something else than the whole parser, or something that it refuses.
    fn same(text: &str) -> bool {
        let Some(value) = value(text) else { return false };
        assert_eq!(Ok(value), whole(text), "{text}");
        true
    }

    #[test]
    fn manifests_of_kubeadm_go_the_short_way_and_read_the_same() {
        assert!(RECORDED.iter().all(|text| same(text)));
    }

    #[test]
    fn what_is_in_doubt_goes_the_long_way() {
        for text in IN_DOUBT {
            assert_eq!(value(text), None, "{text:?}");
        }
        let deep: Vec<String> = (0..40).map(|n| " ".repeat(n) + "a:").collect();
        assert_eq!(value(&(deep.join("\n") + "\n")), None);
    }

    #[test]
    fn what_is_plain_reads_as_the_whole_parser_reads_it() {
        for text in [
            "a:\n",
            "a: null\n",
            "a: {}\nb: []\n",
            "a: 0\nb: 6443\n",
            "a: true\nb: false\n",
            "a: 127.0.0.1\nb: 10.0.0.1:6443\n",
            "a: 100m\nb: 100Mi\n",
            "a: /b\n",
            "a: b c  d\n",
            "a: b:c\n",
            "a: --b=c,d\n",
            "a: it's [b] {c} \"d\"\n",
            "a:\n- b\n- c: d\n  e: f\n",
            "a:\n  - b\n  - --c\nd: e\n",
            "a:\n-  \n".trim_end(),
            "a:\n- b:\n  - c\n",
            "a:\n- b:\n    c: d\n  e:\n- f:\n",
            "a.b/c-d_e: f\n",
            "a:\nb:\n  c:\nd: e\n",
            "a: infinite\n",
        ] {
            assert!(same(text) || !text.ends_with('\n'), "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        /// What an editor may have done to a manifest.
        #[test]
        fn whatever_is_read_the_short_way_reads_the_same(
            text in prop::sample::select(RECORDED.to_vec()),
            from in 0..60_usize,
            edits in prop::collection::vec((0..1_000_usize, 0..3_usize, PIECES), 1..5),
        ) {
            let lines: Vec<&str> = text.lines().skip(from).take(24).collect();
            let mut text = lines.join("\n") + "\n";
            for (at, cut, piece) in edits {
                let at = at % text.len();
                let end = (at + cut).min(text.len());
                if text.is_char_boundary(at) && text.is_char_boundary(end) {
                    text.replace_range(at..end, &piece);
                }
            }
            same(&text);
        }

        #[test]
        fn whatever_is_made_of_pieces_reads_the_same(text in "((  ){0,2}(- ){0,2}(a|b|no|1)?(:)?( )?(|x|1|01|1\\.2|y|null|\\{\\}|--f|-|'q'|x: y)(\n|\n\n)){1,6}") {
            same(&text);
        }
    }

    const PIECES: &str = "(\n|\n  |\n    - |- |: |:|  | |#| #|a|1|0|\\.|e|x|-|--|_|~|\\{\\}|\\[|\\]|\"|'|&a|\\*a|!|\\||>|%|@|`|,|\\?|<<|y|no|null|true|=|\t|é|\r)";
}
