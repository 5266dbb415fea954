//! Handing regenerated manifests over, when everything not harmless is accepted.

use serde::Serialize;

use super::checks::CheckOutcome;
use super::plan::{RegenerationPlan, StagedFile};
use super::severity::Severity;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Digest};
use crate::sys::Deadline;

/// What the caller accepts beyond harmless differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acceptance {
    /// Differences up to this severity are accepted.
    pub severity: Severity,
    /// A component without a known good manifest to compare with is accepted.
    pub without_comparison: bool,
}

impl Default for Acceptance {
    fn default() -> Self {
        Self { severity: Severity::Harmless, without_comparison: false }
    }
}

impl Acceptance {
    /// Accepts differences up to `severity`.
    #[must_use]
    pub const fn up_to(severity: Severity) -> Self {
        Self { severity, without_comparison: false }
    }

    /// Accepts components that there is nothing to compare with.
    #[must_use]
    pub const fn without_comparison(mut self) -> Self {
        self.without_comparison = true;
        self
    }
}

/// Puts regenerated manifests in place, all or none.
pub trait Installer {
    /// Installs the files atomically in one transaction, after finding each live file as
    /// [`StagedFile::replaces`] says.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] when a live file changed since the plan; nothing was installed then.
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
        let mut objections: Vec<String> = self
            .checks
            .iter()
            .filter(|check| check.outcome == CheckOutcome::Refuse)
            .map(|check| format!("{}: {}", check.name, check.message))
            .collect();
        for diff in &self.diffs {
            let component = diff.component;
            if diff.compared_with.is_none() && !acceptance.without_comparison {
                objections.push(format!("{component}: no known good manifest to compare with"));
            }
            // What a comparison would show has to be told apart from it here.
            if diff.compared_with.is_none() && acceptance.severity < Severity::NeedsReview {
                let doubts = self.reconstruction.doubts(component).into_iter();
                objections.extend(doubts.map(|doubt| format!("{component}: {doubt}")));
            }
            for difference in diff.differences.iter().filter(|d| d.severity > acceptance.severity) {
                objections.push(format!("{component}: {difference}"));
            }
        }
        objections
    }
}

/// Installs a plan when every check holds and every difference is accepted.
///
/// # Errors
/// [`ErrorKind::Refused`] with the objections; [`ErrorKind::Invalid`] for a plan without files; the
/// installer's errors otherwise.
pub fn apply(
    plan: &RegenerationPlan,
    acceptance: Acceptance,
    installer: &dyn Installer,
    deadline: &Deadline,
) -> Result<Applied> {
    let objections = plan.objections(acceptance);
    if !objections.is_empty() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("regenerated manifests are not installed: {}", objections.join("; ")),
        ));
    }
    if plan.files.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "the plan regenerates nothing"));
    }
    for file in &plan.files {
        // A plan that travelled (a replay, another thread) must still be what was judged.
        if Digest::of(&file.bytes) != file.digest {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("staged {} is not what was planned", file.component),
            ));
        }
    }
    deadline.check("install regenerated manifests")?;
    installer.install(&plan.files, deadline)?;
    Ok(Applied { components: plan.files.iter().map(|file| (file.component, file.digest)).collect() })
}
