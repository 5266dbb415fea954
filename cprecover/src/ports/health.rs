//! Asking a port holder whether it is healthy: the question only, see `probe::Prober` for an answer.

use super::evidence::Evidence;
use super::query::Query;
use crate::model::Observed;
use crate::sys::Deadline;

/// Asks port holders whether they are healthy.
///
/// Health is evidence, never a proof: an orphan may answer that it is healthy and still has to go, and
/// a live container that does not answer is the runtime's to stop.
pub trait AskHealth {
    /// Asks the process itself, not whoever answers at the place where it should: present with what it
    /// says, absent when it does not answer, unknown when it cannot be asked. Never outlasts `deadline`.
    ///
    /// `query` tells the network namespace and the procfs in which the evidence was collected.
    fn ask(&self, evidence: &Evidence, query: &Query, deadline: &Deadline) -> Observed<bool>;
}
