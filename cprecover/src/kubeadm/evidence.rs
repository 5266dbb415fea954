//! Collects what the sources say of each field and takes the most trusted value.

use serde::Serialize;
use serde_json::Value;

use super::config::Config;
use super::origin::{Conflict, Origin, OriginatedField, Unknown};
use crate::model::Component;

/// What is being put together.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) config: Config,
    pub(super) fields: Vec<OriginatedField>,
    pub(super) unknown: Vec<Unknown>,
    pub(super) conflicts: Vec<Conflict>,
}

/// What one source says of one field, in the order of trust.
pub(super) type Candidates<T> = Vec<(T, Origin)>;

impl Evidence {
    /// Takes the first candidate; later ones that differ are conflicts.
    pub(super) fn choose<T: PartialEq + Serialize>(
        &mut self,
        path: &str,
        candidates: Candidates<T>,
    ) -> Option<T> {
        let mut candidates = candidates.into_iter();
        let (value, origin) = candidates.next()?;
        let json = |value: &T| serde_json::to_value(value).unwrap_or(Value::Null);
        // One conflict a field says enough; the first is of the most trusted source.
        if let Some((other, other_origin)) = candidates.find(|(other, _)| *other != value) {
            self.conflicts.push(Conflict {
                path: path.to_owned(),
                taken: (json(&value), origin.clone()),
                other: (json(&other), other_origin),
            });
        }
        self.field(path, json(&value), origin);
        Some(value)
    }

    /// Records a value that is set.
    pub(super) fn field(&mut self, path: &str, value: Value, origin: Origin) {
        self.fields.push(OriginatedField { path: path.to_owned(), value, origin });
    }

    /// Records a value that no source tells.
    pub(super) fn unknown(&mut self, path: &str, reason: &str, affects: &[Component]) {
        self.unknown.push(Unknown {
            path: path.to_owned(),
            reason: reason.to_owned(),
            affects: affects.to_vec(),
        });
    }
}
