//! Results as JSON whose first key names its schema.

use serde::Serialize;

use crate::buf::cpr_buf;
use crate::failure::Failure;
use crate::status::CPR_E_INTERNAL;

/// Returns `value` as a JSON object with `schema` (`cprecover.dev/<thing>/v1`) as its first key; what is
/// no object becomes its `items`.
pub(crate) fn bytes(schema: &str, value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut json = Vec::with_capacity(512);
    json.extend_from_slice(b"{\"schema\":\"");
    json.extend_from_slice(schema.as_bytes());
    json.push(b'"');
    let start = json.len();
    serde_json::to_writer(&mut json, value)
        .map_err(|error| Failure::new(CPR_E_INTERNAL, format!("{schema} does not serialise: {error}")))?;
    // Joined as bytes: a detour over a tree of values would cost more than parsing a health answer.
    match json.get_mut(start..) {
        Some(own) if own.starts_with(b"{\"schema\":") => drop(json.drain(..start)),
        Some(own) if *own == *b"{}" => drop(json.remove(start)),
        Some([brace @ b'{', ..]) => *brace = b',',
        _ => {
            json.splice(start..start, *b",\"items\":");
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
