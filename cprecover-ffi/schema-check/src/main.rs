//! Holds the documents that the behaviour suite wrote (`target/tmp/documents`) to `include/schema`: each is
//! valid, and no longer so with one field renamed, removed, added or of another type.
//!
//! Usage: `schema-check SCHEMAS DOCUMENTS`

mod mutation;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use jsonschema::Validator;
use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [schemas, documents] = arguments.as_slice() else {
        eprintln!("usage: schema-check SCHEMAS DOCUMENTS");
        return ExitCode::from(2);
    };
    let faults = run(Path::new(schemas), Path::new(documents));
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The files of a folder whose names end in `.json`, by their names, read.
fn read(folder: &Path) -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<(String, Value)> = entries
        .map(|entry| entry.expect("a file").path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
            let bytes = std::fs::read(&path).expect("read");
            Some((
                name,
                serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            ))
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

fn run(schemas: &Path, documents: &Path) -> Vec<String> {
    let mut samples: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    for (name, document) in read(documents) {
        let schema = document["schema"].as_str().unwrap_or_default();
        let thing = schema.strip_prefix("cprecover.dev/").and_then(|rest| rest.strip_suffix("/v1"));
        samples.entry(thing.unwrap_or(&name).to_owned()).or_default().push((name, document));
    }
    let mut faults = Vec::new();
    for (thing, schema) in read(schemas) {
        let documents = samples.remove(&thing).unwrap_or_default();
        faults.extend(judge(&thing, &schema, &documents));
    }
    faults.extend(samples.keys().map(|thing| format!("{thing}: no schema")));
    faults
}

fn judge(thing: &str, schema: &Value, documents: &[(String, Value)]) -> Vec<String> {
    if let Err(error) = jsonschema::draft202012::meta::validate(schema) {
        return vec![format!("{thing}: no schema of draft 2020-12: {error}")];
    }
    if documents.is_empty() {
        return vec![format!("{thing}: the suite wrote no such document")];
    }
    let published = jsonschema::draft202012::new(schema).expect("a schema");
    let mut closed = schema.clone();
    close(&mut closed);
    let strict = jsonschema::draft202012::new(&closed).expect("a schema");
    let mut faults = Vec::new();
    for (name, document) in documents {
        faults.extend(wrong(&strict, document).into_iter().map(|error| format!("{name}: {error}")));
    }
    if !faults.is_empty() {
        return faults;
    }
    let mut sample = mutation::Sample::default();
    documents.iter().for_each(|(_, document)| sample.add(document));
    let (tried, passed) = sample.mutate(thing, &published, &strict);
    println!("{thing}: {} documents, {tried} mutations, {} accepted", documents.len(), passed.len());
    passed.into_iter().map(|passed| format!("{thing}: the schema accepts: {passed}")).collect()
}

fn wrong(validator: &Validator, document: &Value) -> Vec<String> {
    validator.iter_errors(document).map(|error| format!("{}: {error:.300}", error.instance_path())).collect()
}

/// Forbids what a schema does not describe: the published ones let fields be added, as the header says; in
/// this version's own documents an unknown field was renamed or never described.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("type").is_some_and(|kind| kind == "object") && fields.contains_key("properties") {
                fields.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
