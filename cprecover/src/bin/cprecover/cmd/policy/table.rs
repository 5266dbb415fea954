//! Recorded observations and the decisions that are expected of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cprecover::policy::guard::{self, Guarded, Ruling};
use cprecover::policy::{Observation, Policy};
use cprecover::sys::read_bounded;
use cprecover::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The file with the expected decisions in a corpus' folder.
const EXPECTED: &str = "expected.json";
const EXPECTED_SCHEMA: &str = "cprecover.dev/policy-expectations/v1";
const INPUT_SCHEMA: &str = "cprecover.dev/policy-input/v1";
/// The largest observation that is read, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// The most observations of a corpus.
const MAX_CASES: usize = 1_000;

/// Decisions by case and policy, each as `rule: action` with the guard rail that stopped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectations {
    pub(super) schema: String,
    pub(super) cases: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Expectations {
    pub(super) fn new() -> Self {
        Self { schema: EXPECTED_SCHEMA.into(), cases: BTreeMap::new() }
    }

    pub(super) fn read(corpus: &Path) -> Result<Self> {
        let path = corpus.join(EXPECTED);
        let read: Self = serde_json::from_slice(&read_bounded(&path, MAX_BYTES)?)
            .map_err(|source| Error::with_source(ErrorKind::Invalid, path.display().to_string(), source))?;
        if read.schema != EXPECTED_SCHEMA {
            let text = format!("{}: schema {} is not {EXPECTED_SCHEMA}", path.display(), read.schema);
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        Ok(read)
    }
}

/// Reads the observations of a corpus, sorted by name.
pub(super) fn observations(corpus: &Path) -> Result<Vec<(String, Observation)>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(corpus).map_err(|source| Error::path("open", corpus, source))? {
        let path = entry.map_err(|source| Error::path("read", corpus, source))?.path();
        let is_case = path.extension().is_some_and(|extension| extension == "json")
            && path.file_name().is_some_and(|name| name != EXPECTED);
        if is_case {
            paths.push(path);
        }
        if paths.len() > MAX_CASES {
            let text = format!("{} holds more than {MAX_CASES} observations", corpus.display());
            return Err(Error::new(ErrorKind::Limit, text));
        }
    }
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, observation(path)?))
        })
        .collect()
}

/// Reads what `cprecover observe --policy-input -o json` printed.
pub(super) fn observation(path: &Path) -> Result<Observation> {
    let invalid = |source| {
        Error::with_source(ErrorKind::Invalid, format!("{} is no observation", path.display()), source)
    };
    let mut value: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&read_bounded(path, MAX_BYTES)?).map_err(invalid)?;
    match value.remove("schema") {
        None => {}
        Some(schema) if schema == INPUT_SCHEMA => {}
        Some(schema) => {
            let text = format!("{}: schema {schema} is not {INPUT_SCHEMA}", path.display());
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
    }
    serde_json::from_value(value.into()).map_err(invalid)
}

/// Asks a policy and lets the guard rails rule.
pub(super) fn decided(policy: &Policy, observation: &Observation) -> Vec<String> {
    let outcome = policy.decide(observation);
    guard::check(observation, &outcome.decisions).iter().map(line).collect()
}

fn line(guarded: &Guarded) -> String {
    let decision = &guarded.decision;
    let stopped = match &guarded.ruling {
        Ruling::Refused { rail, .. } => format!(" [refused: {}]", rail_name(*rail)),
        Ruling::Deferred { rail, .. } => format!(" [deferred: {}]", rail_name(*rail)),
        _ => String::new(),
    };
    format!("{}: {}{stopped}", decision.rule_id, decision.action)
}

/// Returns a guard rail's name as it is in JSON.
pub(super) fn rail_name(rail: guard::Rail) -> String {
    match serde_json::to_value(rail) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{rail:?}"),
    }
}
