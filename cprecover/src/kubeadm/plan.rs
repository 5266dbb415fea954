//! Rendering into a staging folder, the checks and the comparison, and handing the files over.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::reconstruct::Reconstruction;
use super::sources::Sources;
use super::version::{ApiVersion, KubeadmVersion};
use crate::error::Result;
use crate::model::{Component, Digest, Observed};
use crate::node::NodeOptions;
use crate::sys::{Commands, Deadline};

/// How a regeneration is done.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The kubeadm program below the root; looked for when not given.
    pub kubeadm: Option<PathBuf>,
    /// Where the staging folder is made; `NodeOptions::store_dir` when not given.
    pub staging_parent: Option<PathBuf>,
    /// Uid that may own kubeadm besides root; the process's own when it is not root.
    pub trusted_uid: Option<u32>,
}

/// How much a difference matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// It changes nothing that the cluster depends on.
    Harmless,
    /// A person should look at it.
    NeedsReview,
    /// The cluster would lose data, addresses or protection.
    Dangerous,
}

/// One difference between the last known good manifest and the staged one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Difference {
    /// What differs: `--service-cluster-ip-range`, `image`, `volume k8s-certs`, `livenessProbe`.
    pub what: String,
    /// The last known good value; `None` when it was not there.
    pub before: Option<String>,
    /// The staged value; `None` when it is not there.
    pub after: Option<String>,
    /// How much it matters.
    pub severity: Severity,
    /// Why.
    pub reason: String,
}

/// All differences of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ComponentDiff {
    /// The component.
    pub component: Component,
    /// What it was compared with; `None` when no manifest of it is known.
    pub compared_with: Option<String>,
    /// The differences, worst first.
    pub differences: Vec<Difference>,
}

/// What a check before the installation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CheckOutcome {
    /// It holds.
    Pass,
    /// It could not be decided, or it is doubtful.
    Warn,
    /// It does not hold; nothing may be installed.
    Refuse,
}

/// One check before the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Check {
    /// Its name: `version-skew`, `certificates`, `host-paths`, `external-etcd`, `etcd-data`.
    pub name: String,
    /// The component it is about, if one.
    pub component: Option<Component>,
    /// What was found.
    pub outcome: CheckOutcome,
    /// Why, and what to do.
    pub message: String,
}

/// One manifest that kubeadm rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StagedFile {
    /// The component.
    pub component: Component,
    /// The file exactly as kubeadm wrote it.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The live file at planning time; the installer must find it unchanged.
    pub replaces: Observed<Digest>,
}

/// What a regeneration would do; nothing live was touched to make it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RegenerationPlan {
    /// The program that rendered.
    pub kubeadm: PathBuf,
    /// Its version.
    pub kubeadm_version: KubeadmVersion,
    /// The config API version that was used.
    pub api_version: ApiVersion,
    /// The config document that kubeadm got.
    #[serde(skip)]
    pub config: Vec<u8>,
    /// The reconstructed config, origins, unknowns and conflicts.
    pub reconstruction: Reconstruction,
    /// What kubeadm rendered.
    pub files: Vec<StagedFile>,
    /// The comparison with what is known good.
    pub diffs: Vec<ComponentDiff>,
    /// The checks.
    pub checks: Vec<Check>,
}

/// Renders `components` with kubeadm into a staging folder and judges the result.
///
/// # Errors
/// [`crate::ErrorKind::Missing`] when values are not known (the message lists them);
/// [`crate::ErrorKind::Refused`] for a kubeadm that is not trustworthy; [`crate::ErrorKind::Unsupported`] for a
/// kubeadm too old or too new; [`crate::ErrorKind::NotFound`] when there is none; [`crate::ErrorKind::Peer`]
/// when it fails or prints or writes nonsense; [`crate::ErrorKind::Timeout`] when it hangs.
pub fn plan(
    node: &NodeOptions,
    components: &[Component],
    sources: &Sources,
    options: &Options,
    commands: &dyn Commands,
    deadline: &Deadline,
) -> Result<RegenerationPlan> {
    let _ = (node, components, sources, options, commands, deadline);
    todo!()
}

/// What the caller accepts beyond harmless differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Acceptance {
    /// Differences up to this severity are accepted.
    pub severity: Option<Severity>,
    /// A component without a known good manifest to compare with is accepted.
    pub without_comparison: bool,
}

/// Puts regenerated manifests in place, all or none.
pub trait Installer {
    /// Installs the files atomically in one transaction, after finding each live file as
    /// [`StagedFile::replaces`] says.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Changed`] when a live file changed since the plan; nothing was installed then.
    fn install(&self, files: &[StagedFile], deadline: &Deadline) -> Result<()>;
}

/// What was installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Applied {
    /// The installed manifests.
    pub components: Vec<(Component, Digest)>,
}

impl RegenerationPlan {
    /// Returns why this plan may not be applied with `acceptance`; empty when it may.
    #[must_use]
    pub fn objections(&self, acceptance: Acceptance) -> Vec<String> {
        let _ = acceptance;
        todo!()
    }
}

/// Installs a plan when every check holds and every difference is accepted.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] with the objections; the installer's errors otherwise.
pub fn apply(
    plan: &RegenerationPlan,
    acceptance: Acceptance,
    installer: &dyn Installer,
    deadline: &Deadline,
) -> Result<Applied> {
    let _ = (plan, acceptance, installer, deadline);
    todo!()
}
