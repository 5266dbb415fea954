//! The one place that names the YAML crate.
//!
//! YAML is read only, never written: manifests are bytes. `serde-saphyr` reads scalars as kubelet's
//! `sigs.k8s.io/yaml` does (`yes`, `0644`, `1_000`).

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

mod plain;

/// The largest document that is read, in bytes; kubelet's own limit for a manifest is 10 MiB
/// (kubernetes `pkg/kubelet/config/file.go`, `maxConfigLength`), real ones are under 10 KiB.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Reads one YAML (or JSON) document.
///
/// # Errors
/// [`ErrorKind::Limit`] over [`MAX_DOCUMENT_BYTES`], [`ErrorKind::Invalid`] for text that is not
/// UTF-8 or not YAML, with a duplicate key, a second document, or of another shape than `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    whole(text_of(bytes)?)
}

/// Reads YAML as kubelet does: the first document only, and of a duplicate key the last value.
///
/// Source: `sigs.k8s.io/yaml` (`YAMLToJSON`), which kubernetes `pkg/kubelet/config/common.go` calls.
///
/// # Errors
/// As [`from_slice`], without duplicate keys and second documents.
pub fn from_slice_as_kubelet<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    lenient(first_document(text_of(bytes)?))
}

/// Reads one document of whatever shape, as [`from_slice`] does.
///
/// # Errors
/// As [`from_slice`].
pub fn value(bytes: &[u8]) -> Result<Value> {
    let text = text_of(bytes)?;
    plain::value(text).map_or_else(|| whole(text), Ok)
}

/// Reads the first document of whatever shape, as [`from_slice_as_kubelet`] does.
///
/// # Errors
/// As [`from_slice_as_kubelet`].
pub fn value_as_kubelet(bytes: &[u8]) -> Result<Value> {
    let text = text_of(bytes)?;
    plain::value(text).map_or_else(|| lenient(first_document(text)), Ok)
}

fn whole<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_yaml::from_str(text).map_err(|source| malformed(&source))
}

fn lenient<T: DeserializeOwned>(text: &str) -> Result<T> {
    let options = serde_yaml::options! { duplicate_keys: serde_yaml::DuplicateKeyPolicy::LastWins };
    serde_yaml::from_str_with_options(text, options).map_err(|source| malformed(&source))
}

/// Returns the text of the first document of a YAML stream.
#[must_use]
pub fn first_document(text: &str) -> &str {
    let mut seen_content = false;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        let marker = bare == "---" || line.starts_with("--- ");
        if seen_content && (marker || bare == "...") {
            return text.get(..offset).unwrap_or(text);
        }
        // The first marker begins the document; what follows it on its line is content.
        seen_content |=
            line.starts_with("--- ") || !(marker || bare.is_empty() || bare.starts_with(['#', '%']));
        offset += line.len();
    }
    text
}

fn text_of(bytes: &[u8]) -> Result<&str> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("document of {} bytes is larger than {MAX_DOCUMENT_BYTES}", bytes.len()),
        ));
    }
    std::str::from_utf8(bytes)
        .map_err(|source| Error::with_source(ErrorKind::Invalid, "document is not UTF-8", source))
}

fn malformed(source: &serde_yaml::Error) -> Error {
    // The crate's long form draws the source line; one line is what an error message may have.
    let text = source.to_string();
    let first = text.lines().next().unwrap_or("malformed").to_owned();
    Error::new(ErrorKind::Invalid, format!("not valid YAML: {first}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_read_as_kubelet_reads_them() {
        let value: Value = from_slice(b"a: yes\nb: off\nc: 1_000\n").expect("yaml");
        assert_eq!(value, json!({"a": true, "b": false, "c": 1000}));
    }

    #[test]
    fn kubelet_reads_the_first_document_and_the_last_duplicate() {
        let text = b"# c\n---\na: 1\na: 2\n---\nb: 3\n";
        let value: Value = from_slice_as_kubelet(text).expect("yaml");
        assert_eq!(value, json!({"a": 2}));
        assert_eq!(first_document("a: 1\n"), "a: 1\n");
        assert_eq!(first_document("---\na: 1\n...\nb\n"), "---\na: 1\n");
    }

    #[test]
    fn bad_input_is_invalid_not_a_panic() {
        for bad in [&b"a: [1"[..], b"\xff\xfe", b"a: 1\na: 2\n", b"a: 1\n---\nb: 2\n"] {
            assert_eq!(from_slice::<Value>(bad).expect_err("bad").kind(), ErrorKind::Invalid);
        }
        let long = vec![b' '; MAX_DOCUMENT_BYTES + 1];
        assert_eq!(from_slice::<Value>(&long).expect_err("long").kind(), ErrorKind::Limit);
    }
}
