//! How a recovery is done, and what it tells while it runs.

use std::time::Duration;

use crate::diagnose::Diagnosis;
use crate::policy::contract::Consent;
use crate::recover::plan::{Plan, Step};
use crate::recover::report::DoneStep;
use crate::recover::verification::Verification;

/// How a recovery is done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecoverOptions {
    /// Makes the plan and changes nothing.
    pub dry_run: bool,
    /// How long the node may take to become healthy after the last effect.
    pub settle: Duration,
    /// How long to wait between two looks while it settles.
    pub poll: Duration,
    /// What the caller agreed to beforehand.
    pub consents: Vec<Consent>,
    /// Agrees to steps on an etcd member whose data could be saved first, but saving failed.
    pub accept_unsaved_member: bool,
    /// Only steps of this plan are done, on its node and by its policy. Another step, when four looks in a
    /// row want it, ends the run.
    pub approved: Option<Plan>,
}

impl Default for RecoverOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            settle: Duration::from_secs(90),
            poll: Duration::from_millis(100),
            consents: Vec::new(),
            accept_unsaved_member: false,
            approved: None,
        }
    }
}

/// What happens, as it happens; for a progress display.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The node was looked at and explained.
    Diagnosed(&'a Diagnosis),
    /// The first plan.
    Planned(&'a Plan),
    /// An effect begins.
    Begins(&'a Step),
    /// Something was saved first.
    Saved(&'a str),
    /// Nothing could be saved first, and why.
    NotSaved(&'a str),
    /// It ended.
    Ended(&'a DoneStep),
    /// Nothing to do but wait; what is not healthy yet.
    Waiting(&'a Verification),
}
