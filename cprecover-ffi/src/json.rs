//! Results as JSON whose first key names its schema.

use serde::Serialize;

use crate::buf::cpr_buf;
use crate::failure::Failure;
use crate::status::CPR_E_INTERNAL;

/// Returns `value` as a JSON object with `schema` (`cprecover.dev/<thing>/v1`) as its first key; what is
/// no object becomes its `items`.
pub(crate) fn bytes(schema: &str, value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let invalid = |error| Failure::new(CPR_E_INTERNAL, format!("{schema} does not serialise: {error}"));
    let own = serde_json::to_vec(value).map_err(invalid)?;
    if own.starts_with(b"{\"schema\":") {
        return Ok(own);
    }
    let mut json = format!("{{\"schema\":\"{schema}\"").into_bytes();
    // Spliced as bytes: a detour over a tree of values would cost more than parsing a health answer.
    match own.strip_prefix(b"{") {
        Some(b"}") => json.push(b'}'),
        Some(fields) => {
            json.push(b',');
            json.extend_from_slice(fields);
        }
        None => {
            json.extend_from_slice(b",\"items\":");
            json.extend_from_slice(&own);
            json.push(b'}');
        }
    }
    Ok(json)
}

/// As [`bytes`], in a buffer for C.
pub(crate) fn buf(schema: &str, value: &impl Serialize) -> Result<cpr_buf, Failure> {
    bytes(schema, value).map(cpr_buf::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &impl Serialize) -> String {
        String::from_utf8(bytes("x/v1", value).expect("serialises")).expect("utf-8")
    }

    #[test]
    fn the_schema_comes_first_and_once() {
        assert_eq!(text(&serde_json::json!({"a": 1})), r#"{"schema":"x/v1","a":1}"#);
        assert_eq!(text(&serde_json::json!({})), r#"{"schema":"x/v1"}"#);
        assert_eq!(text(&[1, 2]), r#"{"schema":"x/v1","items":[1,2]}"#);
        assert_eq!(text(&serde_json::json!({"schema": "y", "a": 1})), r#"{"schema":"y","a":1}"#);
    }
}
