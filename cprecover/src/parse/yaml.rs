//! The one place that names the YAML crate.
//!
//! YAML is read only, never written: manifests are bytes. `serde-saphyr` reads scalars as kubelet's
//! `sigs.k8s.io/yaml` does (`yes`, `0644`, `1_000`).

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// The largest document that is read, in bytes; kubelet's own limit for a manifest is 10 MiB
/// (kubernetes `pkg/kubelet/config/file.go`, `maxConfigLength`), real ones are under 10 KiB.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Reads one YAML (or JSON) document.
///
/// # Errors
/// [`ErrorKind::Limit`] over [`MAX_DOCUMENT_BYTES`], [`ErrorKind::Invalid`] for text that is not
/// UTF-8 or not YAML, with a duplicate key, a second document, or of another shape than `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("document of {} bytes is larger than {MAX_DOCUMENT_BYTES}", bytes.len()),
        ));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|source| Error::with_source(ErrorKind::Invalid, "document is not UTF-8", source))?;
    serde_yaml::from_str(text).map_err(|source| {
        // The crate's long form draws the source line; one line is what an error message may have.
        let text = source.to_string();
        let first = text.lines().next().unwrap_or("malformed").to_owned();
        Error::new(ErrorKind::Invalid, format!("not valid YAML: {first}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn scalars_read_as_kubelet_reads_them() {
        let value: Value = from_slice(b"a: yes\nb: off\nc: 1_000\n").expect("yaml");
        assert_eq!(value, json!({"a": true, "b": false, "c": 1000}));
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
