//! Policies decide when to act; the guard rails here decide what is safe.
//!
//! The engine fills an [`Observation`], asks a [`Policy`] (or a [`Chain`] of them), and does what
//! [`guard::check`] allows: one step, then it observes again.
//!
//! ```no_run
//! use cprecover::policy::{Observation, Policy, guard};
//!
//! let policy = Policy::builtin()?;
//! let observation = Observation::default();
//! let outcome = policy.decide(&observation);
//! for guarded in guard::check(&observation, &outcome.decisions) {
//!     println!("{}: {:?}", guarded.decision.action, guarded.ruling);
//! }
//! # Ok::<(), cprecover::Error>(())
//! ```

mod action;
pub mod guard;
mod outcome;

use std::path::Path;

pub use contract::{ActionKind, Metadata, Observation};
/// The types of the policy contract, as `policies/sdk/wit/policy.wit` defines them.
pub use cprecover_policy_sdk::contract;

pub use action::{Action, Decision};
pub use outcome::{Failure, Identity, LogLevel, LogLine, Outcome};

use crate::error::Result;
use crate::model::Digest;

/// A policy, ready to be asked; asking needs `&self` only and makes a fresh instance each time.
#[derive(Debug)]
pub struct Policy {
    identity: Identity,
}

/// How a policy file is trusted, bounded and compiled.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The SHA-256 that the file must have.
    pub expected: Option<Digest>,
}

impl Policy {
    /// Returns the embedded default policy.
    ///
    /// # Errors
    /// [`ErrorKind::Policy`](crate::ErrorKind::Policy) when this build's component does not load.
    pub fn builtin() -> Result<Self> {
        todo!("follows")
    }

    /// Returns an embedded policy by its name: `default`, `observe-only`, `conservative` or
    /// `aggressive-single-node`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) for another name, else as [`Policy::builtin`].
    pub fn shipped(_name: &str) -> Result<Self> {
        todo!("follows")
    }

    /// Loads a policy from a file.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) for another digest,
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) for a signature that no trusted key made,
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) with the limit's name for a component that is too
    /// large to compile, [`ErrorKind::Policy`](crate::ErrorKind::Policy) for one that is no policy.
    pub fn load(_path: &Path, _options: &LoadOptions) -> Result<Self> {
        todo!("follows")
    }

    /// Says which policy this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Asks the policy; a failure is an outcome that calls a person, never an error.
    #[must_use]
    pub fn decide(&self, _observation: &Observation) -> Outcome {
        todo!("follows")
    }
}

/// Policies that must agree: what changes the node is done only if every one of them decides it.
///
/// The first policy proposes. An action that changes the node stays when each further policy decides
/// the same action on the same target, and becomes a call to a person naming the policy that denied it
/// otherwise. Waits and escalations of all policies are kept. A policy that fails denies everything.
#[derive(Debug)]
pub struct Chain {
    policies: Vec<Policy>,
}

impl Chain {
    /// Makes a chain; `first` proposes, all of `others` must agree.
    #[must_use]
    pub fn new(first: Policy, others: Vec<Policy>) -> Self {
        let mut policies = vec![first];
        policies.extend(others);
        Self { policies }
    }

    /// Asks all policies and returns what they agree on.
    #[must_use]
    pub fn decide(&self, _observation: &Observation) -> Outcome {
        let _ = &self.policies;
        todo!("follows")
    }
}
