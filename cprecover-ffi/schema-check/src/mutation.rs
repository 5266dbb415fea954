//! What a schema is worth: a document with one field renamed, removed, of another type or with an unknown
//! name in place of a known one must be refused.

use std::collections::BTreeMap;

use jsonschema::Validator;
use serde_json::{Map, Value};

/// Documents of one schema, each kept for the kinds of places in it that no earlier one has.
#[derive(Default)]
pub(crate) struct Sample {
    /// A place with `*` for list indexes, with a document and the real pointer.
    places: BTreeMap<String, (usize, String)>,
    documents: Vec<Value>,
}

impl Sample {
    pub(crate) fn add(&mut self, document: &Value) {
        let index = self.documents.len();
        self.visit(document, index, "", "");
        self.documents.push(document.clone());
    }

    fn visit(&mut self, value: &Value, document: usize, place: &str, pointer: &str) {
        match value {
            Value::Object(fields) => {
                // A tag tells one form of an object from another.
                let form = ["kind", "state", "verdict", "outcome", "event", "step", "reason"]
                    .iter()
                    .filter_map(|tag| fields.get(*tag).and_then(Value::as_str).filter(|text| text.len() < 40))
                    .fold(String::new(), |form, tag| form + "=" + tag);
                for (name, value) in fields {
                    let escaped = name.replace('~', "~0").replace('/', "~1");
                    let place = format!("{place}{form}/{name}");
                    let pointer = format!("{pointer}/{escaped}");
                    self.places.entry(place.clone()).or_insert_with(|| (document, pointer.clone()));
                    self.visit(value, document, &place, &pointer);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.visit(item, document, &format!("{place}/*"), &format!("{pointer}/{index}"));
                }
            }
            _ => {}
        }
    }

    /// Mutates every place; returns how many mutations were tried and which the schema accepts.
    ///
    /// A renamed, removed or retyped field must be refused by the schema as it is published, where fields
    /// may be added; a field that may be missing is known only to the strict one.
    pub(crate) fn mutate(
        &self,
        thing: &str,
        published: &Validator,
        strict: &Validator,
    ) -> (usize, Vec<String>) {
        let mut tried = 0;
        let mut passed = Vec::new();
        for (place, (document, pointer)) in &self.places {
            if DATA.iter().any(|data| place.contains(data)) {
                continue;
            }
            let may_miss = OPTIONAL.iter().any(|(of, end)| of.contains(&thing) && place.ends_with(end));
            for (how, mutated) in mutations(&self.documents[*document], pointer) {
                let validator = match how {
                    Mutation::Remove | Mutation::Rename if may_miss => continue,
                    Mutation::Add => strict,
                    _ => published,
                };
                tried += 1;
                if validator.is_valid(&mutated) {
                    passed.push(format!("{how:?} {place}"));
                }
            }
        }
        (tried, passed)
    }
}

/// Fields that are left out when they are empty (`skip_serializing_if`).
const OPTIONAL: [(&[&str], &str); 11] = [
    (&["audit"], "/items/*=begin/undo"),
    (&["backup-list"], "/snapshots/*/snapshot"),
    (&["observation"], "/arguments"),
    (SNAPSHOTS, "/sha256"),
    (SNAPSHOTS, "/link"),
    (SNAPSHOTS, "/view"),
    (SNAPSHOTS, "/view/component"),
    (SNAPSHOTS, "/node"),
    (SNAPSHOTS, "/kubernetesVersion"),
    (SNAPSHOTS, "/previous"),
    (SNAPSHOTS, "/previousSha256"),
];

const SNAPSHOTS: &[&str] = &["backup-list", "snapshot"];

/// Maps whose keys are the node's own, and values of any type.
const DATA: [&str; 8] = [
    "/annotations/",
    "/arguments/",
    "/labels/",
    "/xattrs/",
    "/containers/*/ports/",
    "/probes/",
    "/errors/",
    "/fields/*/value",
];

/// What was done to a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mutation {
    Remove,
    Rename,
    /// A field that no schema knows, beside it.
    Add,
    /// A value of another type.
    Retype,
}

fn mutations(document: &Value, pointer: &str) -> Vec<(Mutation, Value)> {
    let (parent, name) = pointer.rsplit_once('/').expect("a place");
    let name = name.replace("~1", "/").replace("~0", "~");
    let edit = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut copy = document.clone();
        change(copy.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object"));
        copy
    };
    let old = document.pointer(pointer).expect("a value");
    let mut all = vec![
        (Mutation::Remove, edit(&|fields| drop(fields.shift_remove(&name)))),
        (
            Mutation::Rename,
            edit(&|fields| {
                let value = fields.shift_remove(&name).expect("the field");
                fields.insert(format!("{name}Renamed"), value);
            }),
        ),
        (Mutation::Add, edit(&|fields| drop(fields.insert("unheardOf".into(), 1.into())))),
    ];
    let other = match old {
        Value::Object(_) => Value::from(true),
        // No option is of this type.
        Value::Null => serde_json::json!([[["unheard of"]]]),
        Value::Bool(_) => Value::from("true"),
        Value::Number(_) => Value::from("1"),
        Value::String(_) => Value::from(1),
        Value::Array(_) => Value::Object(Map::new()),
    };
    all.push((Mutation::Retype, edit(&|fields| drop(fields.insert(name.clone(), other.clone())))));
    all
}
