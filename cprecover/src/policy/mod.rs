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
#[cfg(feature = "wasm-runtime")]
mod cache;
mod chain;
#[cfg(feature = "wasm")]
mod compile;
mod convert;
#[cfg(feature = "wasm-runtime")]
mod engine;
pub mod guard;
#[cfg(feature = "wasm-runtime")]
mod host;
#[cfg(feature = "wasm")]
mod limits;
mod load;
#[cfg(feature = "wasm-runtime")]
mod memory;
mod outcome;
#[cfg(feature = "wasm-runtime")]
mod trust;
#[cfg(feature = "wasm")]
mod worker;

use cprecover_policies::Profile;

pub use contract::{ActionKind, Metadata, Observation};
/// The types of the policy contract, as `policies/sdk/wit/policy.wit` defines them.
pub use cprecover_policy_sdk::contract;

pub use action::{Action, Decision};
#[cfg(feature = "wasm-runtime")]
pub use cache::{CachedPolicy, PolicyCache};
pub use chain::Chain;
#[cfg(feature = "wasm")]
pub use compile::{CompileJob, Compiler, InProcess, serve_compile};
#[cfg(feature = "probe")]
pub(crate) use convert::contract_component;
#[cfg(feature = "wasm-runtime")]
pub use host::RunLimits;
#[cfg(feature = "wasm-runtime")]
#[doc(hidden)]
pub use host::Warm;
#[cfg(feature = "wasm")]
pub use limits::CompileLimits;
#[cfg(feature = "wasm")]
pub use load::Installed;
pub use load::LoadOptions;
pub use outcome::{Failure, Identity, LogLevel, LogLine, Outcome};
#[cfg(feature = "wasm-runtime")]
pub use trust::TrustedKey;
#[cfg(feature = "wasm")]
pub use worker::{WorkerCompiler, WorkerLimits};

use crate::error::Result;

/// A policy, ready to be asked; asking needs `&self` only and makes a fresh instance each time.
#[derive(Debug)]
pub struct Policy {
    identity: Identity,
    metadata: Metadata,
    rules: Rules,
}

#[derive(Debug)]
enum Rules {
    /// The shipped rules, compiled into this program.
    Native(Profile),
    /// A component in its sandbox.
    #[cfg(feature = "wasm-runtime")]
    Component(Box<host::Linked>),
}

impl Policy {
    /// Names of the policies that come with this crate.
    pub const SHIPPED: [&str; 4] = ["default", "observe-only", "conservative", "aggressive-single-node"];

    /// Returns the rules of a shipped policy as native code, without a sandbox.
    #[must_use]
    pub fn native(profile: Profile) -> Self {
        let metadata = cprecover_policies::describe(profile);
        let identity = Identity {
            name: metadata.name.clone(),
            version: metadata.version.clone(),
            digest: None,
            signed_by: None,
            agreed_with: Vec::new(),
        };
        Self { identity, metadata, rules: Rules::Native(profile) }
    }

    /// Says which policy this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns what the policy says about itself and its rules.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Asks the policy; a failure is an outcome that calls a person, never an error.
    #[must_use]
    pub fn decide(&self, observation: &Observation) -> Outcome {
        match self.answer(observation) {
            Ok(outcome) => outcome,
            #[cfg(feature = "wasm-runtime")]
            Err(error) => Outcome::failed(self.identity.clone(), host::limit_of(&error), &error),
            #[cfg(not(feature = "wasm-runtime"))]
            Err(error) => Outcome::failed(self.identity.clone(), None, &error),
        }
    }

    /// Keeps one instance of a component, for measurements; `None` for native rules.
    #[cfg(feature = "wasm-runtime")]
    #[doc(hidden)]
    pub fn warm(&self) -> Result<Option<Warm<'_>>> {
        match &self.rules {
            Rules::Native(_) => Ok(None),
            Rules::Component(linked) => linked.warm().map(Some),
        }
    }

    fn answer(&self, observation: &Observation) -> Result<Outcome> {
        let mut outcome = Outcome {
            policy: self.identity.clone(),
            decisions: Vec::new(),
            failure: None,
            log: Vec::new(),
            log_dropped: 0,
            fuel_used: 0,
        };
        let raw = match &self.rules {
            Rules::Native(profile) => cprecover_policies::decide(*profile, observation),
            #[cfg(feature = "wasm-runtime")]
            Rules::Component(compiled) => {
                let answer = compiled.decide(observation)?;
                outcome.log = answer.log;
                outcome.log_dropped = answer.dropped;
                outcome.fuel_used = answer.fuel_used;
                answer.decisions
            }
        };
        outcome.decisions = convert::decisions(raw)?;
        Ok(outcome)
    }
}
