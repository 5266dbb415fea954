//! What was found and on what evidence.

use serde::{Deserialize, Serialize};
#[cfg(feature = "component")]
use wasmtime::component::{ComponentType, Lift, Lower};

use super::{Component, Verdict};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    #[cfg_attr(feature = "component", component(name = "info"))]
    #[default]
    Info,
    /// Will hurt, or hurts a little.
    #[cfg_attr(feature = "component", component(name = "warning"))]
    Warning,
    /// Keeps the control plane down.
    #[cfg_attr(feature = "component", component(name = "critical"))]
    Critical,
}

/// Whether a finding explains something, is explained by something else, or is only worth a note.
/// Effects are never acted on alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(enum))]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Stands alone.
    #[cfg_attr(feature = "component", component(name = "note"))]
    #[default]
    Note,
    /// Explained by something else.
    #[cfg_attr(feature = "component", component(name = "effect"))]
    Effect,
    /// Explains others.
    #[cfg_attr(feature = "component", component(name = "cause"))]
    Cause,
}

/// One piece of evidence; findings and decisions refer to it by `id`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Evidence {
    /// Unique in the observation.
    pub id: String,
    /// Where it comes from: a file, a log, an endpoint, a command.
    pub source: String,
    /// What was seen.
    pub text: String,
}

/// What a diagnosis rule found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Finding {
    /// The diagnosis rule.
    pub id: String,
    /// Cause, effect or note.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// From 0 to 1.
    pub confidence: f32,
    /// The static pod that it is about, where it is about one.
    pub component: Option<Component>,
    /// One sentence for a person.
    pub summary: String,
    /// Ids of evidence.
    pub evidence: Vec<String>,
}

/// One health endpoint and what it said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "component", derive(ComponentType, Lift, Lower), component(record))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthCheck {
    /// The static pod that serves it.
    pub component: Option<Component>,
    /// URL or socket.
    pub endpoint: String,
    /// What the answer means.
    pub healthy: Verdict,
    /// What it said.
    pub detail: String,
}
