//! From facts to one root cause: rules over an observation, one file each; no input, no output.
//!
//! [`Facts`] is what was observed, live or from a recorded folder; every part may be missing.
//! [`diagnose`] runs all rules and links their findings from cause to effect.

mod chain;
mod facts;
mod finding;
mod rules;

pub use facts::{
    DataVerdict, Facts, HealthFact, HealthState, HolderClass, LintFact, ManifestFact, PortHolder, Subject,
};
pub use finding::{
    Candidate, Confidence, Diagnosis, Evidence, Finding, FindingId, Link, RootCause, Severity, Targets,
};

/// Finds out what is wrong.
///
/// Pure: the same facts give the same diagnosis.
#[must_use]
pub fn diagnose(facts: &Facts) -> Diagnosis {
    let _ = facts;
    todo!()
}
