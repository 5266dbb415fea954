//! Answers in JSON: etcd's health, the API's Status and version.

use serde_json::Value;

use super::Report;
use super::text::Said;

/// Reads a JSON answer; returns `false` when it is not one, so that it is read as text.
pub(super) fn read(text: &str, report: &mut Report, said: &mut Said, nesting: u8) -> bool {
    // serde_json refuses more than 128 levels by itself.
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else { return false };
    let string = |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(health) = object.get("health") {
        // etcd writes a string, `"true"`; a boolean is taken as well.
        let healthy = health.as_bool().unwrap_or_else(|| health.as_str() == Some("true"));
        said.passed |= healthy;
        said.failed |= !healthy;
        report.endpoint.get_or_insert_with(|| "health".to_owned());
        report.message = string("reason").map(str::to_owned);
        return true;
    }
    if string("kind") == Some("Status") {
        status(&object, report, said, nesting);
        return true;
    }
    if let Some(version) = string("gitVersion").or_else(|| string("etcdserver")) {
        said.alive = true;
        report.message = Some(format!("version {version}"));
        return true;
    }
    false
}

/// Reads a `Status` (apimachinery `pkg/apis/meta/v1/types.go`).
fn status(object: &serde_json::Map<String, Value>, report: &mut Report, said: &mut Said, nesting: u8) {
    let code = object.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    report.code = code.or(report.code);
    said.alive = true;
    let message = object.get("message").and_then(Value::as_str);
    let causes = object.get("details").and_then(|details| details.get("causes")).and_then(Value::as_array);
    // client-go keeps the server's own words in a cause.
    let quoted = causes
        .into_iter()
        .flatten()
        .take(8)
        .filter_map(|cause| cause.get("message").and_then(Value::as_str))
        .chain(message)
        .find(|text| text.contains("[+]") || text.contains("[-]"));
    match quoted {
        Some(text) if nesting > 0 => super::read(text.trim(), report, said, nesting - 1),
        _ => report.message = message.map(str::to_owned),
    }
}
