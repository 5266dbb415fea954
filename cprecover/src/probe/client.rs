//! One request over one connection.

use super::{Limits, Outcome, Target};
use crate::error::Result;
use crate::sys::Deadline;

/// Asks `target` once.
///
/// Returns within `limits` and `deadline` whatever the peer does; a peer that misbehaves is an
/// [`Outcome`], not an error.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] for PEM or a server name that cannot be used,
/// [`crate::ErrorKind::Cancelled`] when the caller cancelled, and the kinds of a failed `socket` or `poll`.
pub fn probe(target: &Target, limits: &Limits, deadline: &Deadline) -> Result<Outcome> {
    let _ = (target, limits, deadline);
    todo!()
}
