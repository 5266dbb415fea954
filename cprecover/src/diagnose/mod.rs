//! From facts to one root cause: rules over an observation, one file each; no input, no output.
//!
//! [`Facts`] is what was observed, live or from a recorded folder; every part may be missing.
//! [`diagnose`] runs all rules and links their findings from cause to effect.

mod chain;
mod facts;
mod finding;
mod log_of;
mod query;
mod recording;
mod rules;

pub use facts::{
    DataVerdict, Facts, HealthFact, HealthState, HolderClass, LintFact, ManifestFact, PortHolder,
    ProcessCgroup, Subject,
};
pub use finding::{
    Candidate, Confidence, Diagnosis, Evidence, EvidenceKind, Finding, FindingId, Link, RootCause, Severity,
    Targets,
};

pub use recording::from_recording;

/// Finds out what is wrong.
///
/// Pure: the same facts give the same diagnosis.
#[must_use]
pub fn diagnose(facts: &Facts) -> Diagnosis {
    chain::conclude(facts, rules::run(facts))
}

#[cfg(test)]
mod present_tests;
#[cfg(test)]
mod tests;
