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
mod chain;
mod convert;
pub mod guard;
#[cfg(feature = "wasm")]
mod host;
#[cfg(feature = "wasm")]
mod limits;
mod outcome;

use std::path::Path;

use cprecover_policies::Profile;

pub use contract::{ActionKind, Metadata, Observation};
/// The types of the policy contract, as `policies/sdk/wit/policy.wit` defines them.
pub use cprecover_policy_sdk::contract;

pub use action::{Action, Decision};
pub use chain::Chain;
#[cfg(feature = "probe")]
pub(crate) use convert::contract_component;
#[cfg(feature = "wasm")]
pub use host::RunLimits;
#[cfg(feature = "wasm")]
pub use limits::CompileLimits;
pub use outcome::{Failure, Identity, LogLevel, LogLine, Outcome};

use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

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
    #[cfg(feature = "wasm")]
    Component(Box<host::Compiled>),
}

/// How a policy file is trusted, bounded and compiled.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The SHA-256 that the file must have.
    pub expected: Option<Digest>,
    /// What the component may contain.
    #[cfg(feature = "wasm")]
    pub compile: CompileLimits,
    /// What one answer may use.
    #[cfg(feature = "wasm")]
    pub run: RunLimits,
}

impl Policy {
    /// Names of the policies that come with this crate.
    pub const SHIPPED: [&str; 4] = ["default", "observe-only", "conservative", "aggressive-single-node"];

    /// Returns the embedded default policy; without feature `wasm` its rules run natively.
    ///
    /// # Errors
    /// [`ErrorKind::Policy`] when this build's component does not load.
    pub fn builtin() -> Result<Self> {
        Self::of_profile(Profile::Default)
    }

    /// Returns an embedded policy by its name, one of [`Policy::SHIPPED`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for another name, else as [`Policy::builtin`].
    pub fn shipped(name: &str) -> Result<Self> {
        let known =
            [Profile::Default, Profile::ObserveOnly, Profile::Conservative, Profile::AggressiveSingleNode];
        let profile = known.into_iter().find(|profile| profile.name() == name);
        let profile = profile.ok_or_else(|| {
            let names = Self::SHIPPED.join(", ");
            Error::new(ErrorKind::NotFound, format!("no policy {name:?} is shipped (there are {names})"))
        })?;
        Self::of_profile(profile)
    }

    #[cfg(feature = "wasm")]
    fn of_profile(profile: Profile) -> Result<Self> {
        Self::from_bytes(cprecover_policies::shipped::component(profile), &LoadOptions::default())
    }

    #[cfg(not(feature = "wasm"))]
    fn of_profile(profile: Profile) -> Result<Self> {
        Ok(Self::native(profile))
    }

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

    /// Loads a policy from a file.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for another digest, [`ErrorKind::Limit`] with the limit's name for a component
    /// that is too large to compile, [`ErrorKind::Policy`] for one that is no policy,
    /// [`ErrorKind::Unsupported`] without feature `wasm`.
    #[cfg(feature = "wasm")]
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self> {
        let bytes = crate::sys::read_bounded(path, options.compile.bytes)?;
        Self::from_bytes(&bytes, options).map_err(|error| error.context(path.display()))
    }

    /// Fails: this build has no WebAssembly engine.
    ///
    /// # Errors
    /// Always [`ErrorKind::Unsupported`].
    #[cfg(not(feature = "wasm"))]
    pub fn load(path: &Path, _options: &LoadOptions) -> Result<Self> {
        Err(Error::new(ErrorKind::Unsupported, format!("{}: this build runs no WebAssembly", path.display())))
    }

    /// Loads a policy from bytes.
    ///
    /// # Errors
    /// As [`Policy::load`].
    #[cfg(feature = "wasm")]
    pub fn from_bytes(bytes: &[u8], options: &LoadOptions) -> Result<Self> {
        let digest = Digest::of(bytes);
        if let Some(expected) = options.expected.filter(|expected| *expected != digest) {
            return Err(Error::new(ErrorKind::Corrupt, format!("sha256 is {digest}, expected {expected}")));
        }
        let (compiled, metadata) = host::Compiled::new(bytes, &options.compile, options.run)?;
        let identity = Identity {
            name: metadata.name.clone(),
            version: metadata.version.clone(),
            digest: Some(digest),
            signed_by: None,
            agreed_with: Vec::new(),
        };
        Ok(Self { identity, metadata, rules: Rules::Component(Box::new(compiled)) })
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
            #[cfg(feature = "wasm")]
            Err(error) => Outcome::failed(self.identity.clone(), host::limit_of(&error), &error),
            #[cfg(not(feature = "wasm"))]
            Err(error) => Outcome::failed(self.identity.clone(), None, &error),
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
            #[cfg(feature = "wasm")]
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
