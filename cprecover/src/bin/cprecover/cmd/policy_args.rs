//! The policy that the command line names.

use std::path::Path;

use cprecover::model::Digest;
use cprecover::policy::{Chain, LoadOptions, Observation, Outcome, Policy};
use cprecover::{Error, ErrorKind, Result};

/// Which policy decides.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PolicyArgs {
    /// A shipped policy's name, or FILE.wasm with its digest as FILE.wasm@sha256:HEX. Given more than
    /// once, the first proposes and all others must agree.
    #[arg(long, value_name = "POLICY", default_value = "default")]
    policy: Vec<String>,
}

/// The policies that the command line named, ready to be asked.
pub(crate) struct LoadedPolicy(Chain);

impl PolicyArgs {
    /// Loads the policies.
    pub(crate) fn load(&self) -> Result<LoadedPolicy> {
        let mut loaded = self.policy.iter().map(|text| load(text));
        let first = loaded.next().unwrap_or_else(Policy::builtin)?;
        Ok(LoadedPolicy(Chain::new(first, loaded.collect::<Result<_>>()?)))
    }
}

impl LoadedPolicy {
    /// Asks the policies.
    pub(crate) fn decide(&self, observation: &Observation) -> Outcome {
        self.0.decide(observation)
    }
}

fn load(text: &str) -> Result<Policy> {
    let (name, digest) = match text.split_once("@sha256:") {
        Some((name, hex)) => (name, Some(hex.parse::<Digest>()?)),
        None => (text, None),
    };
    let path = Path::new(name);
    if path.extension().is_none() && !name.contains('/') {
        return Policy::shipped(name).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::new(
                ErrorKind::NotFound,
                format!("no shipped policy is called {name:?}; a file is named with its path and .wasm"),
            ),
            _ => error,
        });
    }
    let mut options = LoadOptions::default();
    options.expected = digest;
    Policy::load(path, &options)
}
