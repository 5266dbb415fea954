//! Patches of static pods (kubernetes `cmd/kubeadm/app/util/patches`), as far as they touch no lists: there
//! a strategic merge and a JSON merge (RFC 7396) are the same.

use std::path::Path;

use cprecover::model::Component;
use cprecover::parse::yaml;
use cprecover::{Error, Result};
use serde_json::Value;

use super::wrong;
use crate::console::print_line;

/// Applies the files `TARGET[SUFFIX][+TYPE].yaml|json` of `folder`, in the order of their names.
pub(super) fn apply(folder: &Path, component: Component, text: String) -> Result<String> {
    let entries = std::fs::read_dir(folder).map_err(|source| Error::path("list", folder, source))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let mut pod: Option<Value> = None;
    for name in names.iter().filter(|name| is_for(name, component)) {
        if name.contains("+json") {
            return Err(wrong("the double applies merge patches only"));
        }
        let path = folder.join(name);
        let bytes = std::fs::read(&path).map_err(|source| Error::path("read", &path, source))?;
        let patch: Value = yaml::from_slice(&bytes)?;
        let target = match pod.take() {
            Some(pod) => pod,
            None => yaml::from_slice(text.as_bytes())?,
        };
        pod = Some(merge(target, patch)?);
        print_line(format_args!(
            "[patches] Applied patch of type \"application/strategic-merge-patch+json\" to target \"{component}\""
        ));
    }
    // JSON is YAML; the real one writes block style.
    Ok(pod.map_or(text, |pod| format!("{pod:#}\n")))
}

fn is_for(name: &str, component: Component) -> bool {
    let is_patch = Path::new(name).extension().is_some_and(|end| end == "yaml" || end == "json");
    let rest = name.strip_prefix(component.as_str());
    is_patch && rest.is_some_and(|rest| rest.starts_with(['+', '.']) || rest.starts_with(char::is_numeric))
}

fn merge(target: Value, patch: Value) -> Result<Value> {
    match (target, patch) {
        (Value::Object(mut target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(&key);
                } else {
                    let old = target.remove(&key).unwrap_or(Value::Null);
                    target.insert(key, merge(old, value)?);
                }
            }
            Ok(Value::Object(target))
        }
        (_, Value::Array(_)) => Err(wrong("the double does not patch lists")),
        (_, patch) => Ok(patch),
    }
}
