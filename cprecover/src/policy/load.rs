//! Loading a policy: trust first, then the cache, then counting and compiling.

use std::path::Path;
#[cfg(feature = "wasm")]
use std::sync::Arc;

use cprecover_policies::Profile;
#[cfg(feature = "wasm")]
use cprecover_policy_artifact as artifact;
#[cfg(feature = "wasm-runtime")]
use cprecover_policy_artifact::Admission;
#[cfg(feature = "wasm-runtime")]
use wasmtime::component::Component;

#[cfg(feature = "wasm")]
use super::CompileLimits;
use super::Policy;
#[cfg(feature = "wasm")]
use super::compile::{CompileJob, Compiler, InProcess};
#[cfg(feature = "wasm")]
use super::engine::engine_id;
#[cfg(feature = "wasm-runtime")]
use super::{Identity, PolicyCache, Rules, RunLimits, TrustedKey, engine::engine, host, trust};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

/// The largest policy file that is read, in bytes; what may be compiled is far smaller.
#[cfg(feature = "wasm-runtime")]
const MAX_FILE_BYTES: usize = 64 << 20;

/// How a policy file is trusted, bounded and compiled.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The SHA-256 that the file must have.
    pub expected: Option<Digest>,
    /// When there are any, the file must be signed by one of them.
    #[cfg(feature = "wasm-runtime")]
    pub keys: Vec<TrustedKey>,
    /// The detached signature, for [`Policy::from_bytes`]; [`Policy::load`] reads it from `FILE.sig`.
    #[cfg(feature = "wasm-runtime")]
    pub signature: Option<Vec<u8>>,
    /// Where compiled policies lie; it is read only, [`Policy::install`] writes it.
    #[cfg(feature = "wasm-runtime")]
    pub cache: Option<PolicyCache>,
    /// What the component may contain; not asked about what the cache holds.
    #[cfg(feature = "wasm")]
    pub compile: CompileLimits,
    /// Who compiles; this process when not given.
    #[cfg(feature = "wasm")]
    pub compiler: Option<Arc<dyn Compiler>>,
    /// What one answer may use.
    #[cfg(feature = "wasm-runtime")]
    pub run: RunLimits,
}

/// What came of [`Policy::install`].
#[cfg(feature = "wasm")]
#[derive(Debug)]
#[non_exhaustive]
pub struct Installed {
    /// The policy, loaded from its new entry.
    pub policy: Policy,
    /// The lowest limits that admit it: what was counted in it.
    pub size: CompileLimits,
    /// The entry's file name.
    pub file: String,
    /// Size of the compiled policy, in bytes.
    pub compiled_bytes: usize,
}

impl Policy {
    /// Returns the embedded default policy; its rules run natively in a build that cannot compile.
    ///
    /// # Errors
    /// [`ErrorKind::Policy`] when this build's component does not load.
    pub fn builtin() -> Result<Self> {
        Self::of_profile(Profile::Default, &LoadOptions::default())
    }

    /// Returns an embedded policy by its name, one of [`Policy::SHIPPED`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for another name, else as [`Policy::builtin`].
    pub fn shipped(name: &str) -> Result<Self> {
        Self::shipped_with(name, &LoadOptions::default())
    }

    /// Returns an embedded policy; of `options` the cache, the compiler and the limits of running are used.
    ///
    /// Compiling in this process adds some 20 MB to it; a compiler that is another process, or a cache into
    /// which the policy was installed, keeps that out of it.
    ///
    /// # Errors
    /// As [`Policy::shipped`].
    pub fn shipped_with(name: &str, options: &LoadOptions) -> Result<Self> {
        let profile = Profile::from_name(name).ok_or_else(|| {
            let names = Self::SHIPPED.join(", ");
            Error::new(ErrorKind::NotFound, format!("no policy {name:?} is shipped (there are {names})"))
        })?;
        Self::of_profile(profile, options)
    }

    #[cfg(feature = "wasm")]
    fn of_profile(profile: Profile, options: &LoadOptions) -> Result<Self> {
        let options = LoadOptions {
            cache: options.cache.clone(),
            compiler: options.compiler.clone(),
            run: options.run,
            ..LoadOptions::default()
        };
        Self::from_bytes(cprecover_policies::shipped::component(profile), &options)
    }

    #[cfg(not(feature = "wasm"))]
    #[allow(clippy::unnecessary_wraps)] // With a compiler it can fail.
    fn of_profile(profile: Profile, _options: &LoadOptions) -> Result<Self> {
        Ok(Self::native(profile))
    }

    /// Fails: this build has no WebAssembly engine.
    ///
    /// # Errors
    /// Always [`ErrorKind::Unsupported`].
    #[cfg(not(feature = "wasm-runtime"))]
    pub fn load(path: &Path, _options: &LoadOptions) -> Result<Self> {
        Err(Error::new(ErrorKind::Unsupported, format!("{}: this build runs no WebAssembly", path.display())))
    }

    /// Loads a policy from a file.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for another digest, [`ErrorKind::Refused`] for a missing or wrong signature,
    /// [`ErrorKind::Limit`] with the limit's name for a component that is too large to compile,
    /// [`ErrorKind::Policy`] for one that is no policy, [`ErrorKind::Unsupported`] in a build that cannot
    /// compile for one that is not in the cache.
    #[cfg(feature = "wasm-runtime")]
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self> {
        let (bytes, options) = read(path, options)?;
        Self::from_bytes(&bytes, &options).map_err(|error| error.context(path.display()))
    }

    /// Loads a policy from bytes.
    ///
    /// # Errors
    /// As [`Policy::load`].
    #[cfg(feature = "wasm-runtime")]
    pub fn from_bytes(bytes: &[u8], options: &LoadOptions) -> Result<Self> {
        let (digest, signer) = trusted(bytes, options)?;
        let (component, admission) = match cached(options, &digest) {
            Ok(Some(found)) => found,
            Ok(None) => (compiled(bytes, &digest, options)?, Admission::Strict),
            Err(refused) => {
                tracing::warn!(%refused, "compiling the policy anew");
                let component = compiled(bytes, &digest, options);
                (component.map_err(|error| error.context(refused))?, Admission::Strict)
            }
        };
        Self::linked(&component, admission, options.run, digest, signer)
    }

    /// Loads a policy that was installed before, by its digest alone; `None` where the cache has none.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for an entry that was changed, [`ErrorKind::Policy`] for one that is no policy.
    #[cfg(feature = "wasm-runtime")]
    pub fn installed(cache: &PolicyCache, digest: &Digest, run: RunLimits) -> Result<Option<Self>> {
        let Some((component, admission)) = cache.load(engine()?, digest)? else { return Ok(None) };
        Self::linked(&component, admission, run, *digest, None).map(Some)
    }

    /// Compiles a policy file into the cache, ahead of need.
    ///
    /// Components that carry a language's runtime take up to minutes and gigabytes: give them
    /// [`CompileLimits::raised`] and a [`WorkerCompiler`](super::WorkerCompiler). A later [`Policy::load`]
    /// of the same file with this cache takes what lies there and asks no limits of compiling.
    ///
    /// # Errors
    /// As [`Policy::load`], [`ErrorKind::Missing`] without a cache, and the kinds of a failed write.
    #[cfg(feature = "wasm")]
    pub fn install(path: &Path, options: &LoadOptions) -> Result<Installed> {
        let (bytes, options) = read(path, options)?;
        Self::install_bytes(&bytes, &options).map_err(|error| error.context(path.display()))
    }

    /// Compiles a policy into the cache; see [`Policy::install`].
    ///
    /// # Errors
    /// As [`Policy::install`].
    #[cfg(feature = "wasm")]
    pub fn install_bytes(bytes: &[u8], options: &LoadOptions) -> Result<Installed> {
        let cache = options.cache.as_ref();
        let cache = cache.ok_or_else(|| Error::new(ErrorKind::Missing, "no cache to install into"))?;
        let (digest, signer) = trusted(bytes, options)?;
        let size = options.compile.check(bytes)?;
        let strict = CompileLimits::default().check(bytes).is_ok();
        let admission = if strict { Admission::Strict } else { Admission::Raised };
        let sealed = compile(&CompileJob::new(bytes, cache.key(), admission), options)?;
        // A policy that does not load is not kept: it has to be one, not only to compile.
        let component = open(&digest, cache.key(), &sealed)?;
        let policy = Self::linked(&component, admission, options.run, digest, signer)?;
        let file = cache.store(&digest, &sealed)?;
        Ok(Installed { policy, size, file, compiled_bytes: sealed.len() })
    }

    #[cfg(feature = "wasm-runtime")]
    fn linked(
        component: &Component,
        admission: Admission,
        run: RunLimits,
        digest: Digest,
        signed_by: Option<String>,
    ) -> Result<Self> {
        let run = match admission {
            Admission::Strict => run,
            Admission::Raised => run.at_least(RunLimits::raised()),
        };
        let (linked, metadata) = host::Linked::new(component, run)?;
        let identity = Identity {
            name: metadata.name.clone(),
            version: metadata.version.clone(),
            digest: Some(digest),
            signed_by,
            agreed_with: Vec::new(),
        };
        Ok(Self { identity, metadata, rules: Rules::Component(Box::new(linked)) })
    }
}

/// Reads a policy file and, where keys are trusted, its signature.
#[cfg(feature = "wasm-runtime")]
fn read(path: &Path, options: &LoadOptions) -> Result<(Vec<u8>, LoadOptions)> {
    let bytes = crate::sys::read_bounded(path, MAX_FILE_BYTES)?;
    let mut options = options.clone();
    if !options.keys.is_empty() && options.signature.is_none() {
        options.signature = trust::signature_of(path)?;
    }
    Ok((bytes, options))
}

/// Checks digest and signature; returns the digest and who signed.
#[cfg(feature = "wasm-runtime")]
fn trusted(bytes: &[u8], options: &LoadOptions) -> Result<(Digest, Option<String>)> {
    let digest = Digest::of(bytes);
    if let Some(expected) = options.expected.filter(|expected| *expected != digest) {
        return Err(Error::new(ErrorKind::Corrupt, format!("sha256 is {digest}, expected {expected}")));
    }
    if options.keys.is_empty() {
        return Ok((digest, None));
    }
    let signer = trust::verify(&options.keys, bytes, options.signature.as_deref())?;
    Ok((digest, Some(signer)))
}

#[cfg(feature = "wasm-runtime")]
fn cached(options: &LoadOptions, digest: &Digest) -> Result<Option<(Component, Admission)>> {
    match &options.cache {
        Some(cache) => cache.load(engine()?, digest),
        None => Ok(None),
    }
}

/// Counts and compiles under a key that is used once.
#[cfg(feature = "wasm")]
fn compiled(bytes: &[u8], digest: &Digest, options: &LoadOptions) -> Result<Component> {
    options.compile.check(bytes).map_err(|error| match error.kind() {
        ErrorKind::Limit => error.context("not compiled; `cprecover policy install` can do so ahead of need"),
        _ => error,
    })?;
    let mut key = [0; 32];
    getrandom::fill(&mut key)
        .map_err(|source| Error::with_source(ErrorKind::Io, "make a random key", source))?;
    let key = artifact::Key::from_bytes(key);
    let sealed = compile(&CompileJob::new(bytes, &key, Admission::Strict), options)?;
    open(digest, &key, &sealed)
}

#[cfg(all(feature = "wasm-runtime", not(feature = "wasm")))]
fn compiled(_bytes: &[u8], digest: &Digest, _options: &LoadOptions) -> Result<Component> {
    let text = format!("policy {digest} is not in the cache, and this build cannot compile");
    Err(Error::new(ErrorKind::Unsupported, text))
}

#[cfg(feature = "wasm")]
fn compile(job: &CompileJob<'_>, options: &LoadOptions) -> Result<Vec<u8>> {
    match &options.compiler {
        Some(compiler) => compiler.compile(job),
        None => InProcess.compile(job),
    }
}

#[cfg(feature = "wasm")]
fn open(digest: &Digest, key: &artifact::Key, sealed: &[u8]) -> Result<Component> {
    let opened =
        artifact::open(engine()?, engine_id()?, digest.as_bytes(), key, sealed).map_err(|refusal| {
            Error::new(ErrorKind::Policy, format!("what the policy compiler answered is not used: {refusal}"))
        })?;
    opened.load().map_err(|source| super::engine::policy_error("load the compiled policy", &source))
}
