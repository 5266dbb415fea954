//! The policy that the command line names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cprecover::model::Digest;
use cprecover::policy::{
    Chain, LoadOptions, Observation, Outcome, Policy, PolicyCache, TrustedKey, WorkerCompiler,
};
use cprecover::{Error, ErrorKind, NodeOptions, Result};

use crate::console::say;

/// The program that compiles policies, in a process that can be killed: this one, also after an update
/// replaced its file.
const WORKER: &str = "/proc/self/exe";

/// Which policy decides.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PolicyArgs {
    /// A shipped policy's name, or FILE.wasm with its digest as FILE.wasm@sha256:HEX. Given more than
    /// once, the first proposes and all others must agree.
    #[arg(long, value_name = "POLICY", default_value = "default")]
    policy: Vec<String>,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Whose policies are trusted.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TrustArgs {
    /// Trust policy files only with a FILE.wasm.sig by this key (ed25519, PEM); besides the node's
    /// configured `policyKeys`. May be given more than once.
    #[arg(long, value_name = "FILE.pem")]
    policy_key: Vec<PathBuf>,
}

/// The policies that the command line named, ready to be asked.
pub(crate) struct LoadedPolicy(Chain);

impl PolicyArgs {
    /// Loads the policies.
    pub(crate) fn load(&self, node: &NodeOptions) -> Result<LoadedPolicy> {
        match self.trust.load_all(&self.policy, node)? {
            Some(loaded) => Ok(loaded),
            None => Ok(LoadedPolicy(Chain::new(Policy::builtin()?, Vec::new()))),
        }
    }
}

impl LoadedPolicy {
    /// Asks the policies.
    pub(crate) fn decide(&self, observation: &Observation) -> Outcome {
        self.0.decide(observation)
    }
}

impl TrustArgs {
    /// Loads the policies that `texts` name; `None` where it names none.
    pub(crate) fn load_all(&self, texts: &[String], node: &NodeOptions) -> Result<Option<LoadedPolicy>> {
        if texts.is_empty() {
            return Ok(None);
        }
        let options = self.options(node, texts)?;
        let mut loaded = texts.iter().map(|text| load(text, &options)).collect::<Result<Vec<_>>>()?;
        let first = loaded.remove(0);
        Ok(Some(LoadedPolicy(Chain::new(first, loaded))))
    }

    /// Puts together how the policies that `texts` name are trusted, found compiled, and compiled.
    pub(crate) fn options<T: AsRef<str>>(&self, node: &NodeOptions, texts: &[T]) -> Result<LoadOptions> {
        let mut options = LoadOptions::default();
        options.keys = self.keys(node, texts)?;
        options.cache = match PolicyCache::open(&PolicyCache::folder(node)) {
            Ok(cache) => cache,
            // Only speed is lost.
            Err(error) => {
                say(format_args!("cprecover: compiled policies are not used: {error}"));
                None
            }
        };
        options.compiler = Some(Arc::new(WorkerCompiler::new(WORKER)));
        Ok(options)
    }

    /// Reads the trusted keys where one of `texts` is a file: what is shipped has no signature, and a key that
    /// a broken node lost must not keep it from being brought back.
    fn keys<T: AsRef<str>>(&self, node: &NodeOptions, texts: &[T]) -> Result<Vec<TrustedKey>> {
        let mut is_needed = false;
        for text in texts {
            is_needed |= matches!(Named::parse(text.as_ref())?, Named::File { .. });
        }
        if !is_needed {
            return Ok(Vec::new());
        }
        let configured = node.policy_keys.iter().map(|path| ("policyKeys", node.resolve(path)));
        let given = self.policy_key.iter().map(|path| ("--policy-key", path.clone()));
        let load = |(from, path): (&str, PathBuf)| {
            TrustedKey::load(&path).map_err(|error| error.context(format_args!("a policy key from {from}")))
        };
        configured.chain(given).map(load).collect()
    }
}

/// Loads what `text` names: a shipped policy, or a file with or without its digest.
pub(crate) fn load(text: &str, options: &LoadOptions) -> Result<Policy> {
    match Named::parse(text)? {
        Named::Shipped(name) => shipped(name, options),
        Named::File { path, digest } => {
            let mut options = options.clone();
            options.expected = digest;
            Policy::load(path, &options)
        }
    }
}

fn shipped(name: &str, options: &LoadOptions) -> Result<Policy> {
    let mut options = options.clone();
    // What is shipped needs no bounds, and a machine in trouble may not start another process.
    options.compiler = None;
    Policy::shipped_with(name, &options).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(
            ErrorKind::NotFound,
            format!("no shipped policy is called {name:?}; a file is named with its path and .wasm"),
        ),
        _ => error,
    })
}

/// What a policy argument names.
pub(crate) enum Named<'a> {
    Shipped(&'a str),
    File { path: &'a Path, digest: Option<Digest> },
}

impl<'a> Named<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let (name, digest) = match text.split_once("@sha256:") {
            Some((name, hex)) => (name, Some(hex.parse::<Digest>()?)),
            None => (text, None),
        };
        let path = Path::new(name);
        if path.extension().is_some() || name.contains('/') {
            return Ok(Self::File { path, digest });
        }
        match digest {
            None => Ok(Self::Shipped(name)),
            Some(_) => Err(Error::new(
                ErrorKind::Invalid,
                format!("{name:?} is a shipped policy and part of this program; a digest is for files"),
            )),
        }
    }
}
