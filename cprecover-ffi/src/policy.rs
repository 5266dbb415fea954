//! Policies.

use std::ffi::c_char;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cprecover::model::Digest;
use cprecover::policy::{LoadOptions, Policy};
#[cfg(feature = "wasm-runtime")]
use cprecover::policy::{PolicyCache, RunLimits, TrustedKey};

use crate::args::{self, Options};
use crate::buf::cpr_buf;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::{describe, produce};
use crate::guard::guard_free;
use crate::handle::{self, Opaque};
use crate::json;
#[cfg(feature = "wasm-runtime")]
use crate::status::CPR_E_NOT_FOUND;
#[cfg(not(feature = "wasm-runtime"))]
use crate::status::CPR_E_UNSUPPORTED;
use crate::status::{CPR_E_ARGUMENT, cpr_status};

const WITHOUT_NAME: &str =
    "without a name, options.cache and options.sha256 say which policy, and no key is asked";

/// Decides when to act; sandboxed WebAssembly, or shipped rules.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_policy {
    _private: (),
}

impl Opaque for cpr_policy {
    type Inner = Arc<Policy>;
    const NAME: &'static str = "policy";
}

/// How a policy is trusted and where it is compiled already. All zero for a shipped one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_policy_options {
    /// The digest that a file must have, 64 hex digits; any when empty.
    pub sha256: *const c_char,
    /// Its length in bytes.
    pub sha256_len: usize,
    /// A public key (ed25519, PEM): a file is loaded only with a `FILE.sig` by it.
    pub key: *const c_char,
    /// Its length in bytes.
    pub key_len: usize,
    /// The folder of compiled policies, where `cprecover policy install` put them: what lies there is not
    /// compiled again. `/var/lib/cprecover/policy-cache` on a node with the default store.
    pub cache: *const c_char,
    /// Its length in bytes.
    pub cache_len: usize,
}

// SAFETY: integers and raw pointers.
unsafe impl Options for cpr_policy_options {
    const NAME: &'static str = "options";
}

/// Loads a policy: a shipped one by its name (`default`, `observe-only`, ...), or a file by a path with a
/// `/` in it. With an empty name, the one that `options.cache` holds under `options.sha256`. `*policy` is
/// freed with `cpr_policy_free`, also while plans use it.
///
/// Errors: `CPR_E_CORRUPT` for another digest or a changed cache, `CPR_E_REFUSED` for a missing or wrong
/// signature and for a cache that others can write, `CPR_E_POLICY` for a file that is no policy,
/// `CPR_E_UNSUPPORTED` for a file in a build without WebAssembly, or without a compiler when the cache
/// does not have it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_policy_load(
    name: *const c_char,
    name_len: usize,
    options: *const cpr_policy_options,
    options_size: usize,
    policy: *mut *mut cpr_policy,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        produce(policy, err, || {
            let given = args::options(options, options_size)?;
            let trust = Trust {
                sha256: args::text(given.sha256, given.sha256_len, "options.sha256")?,
                key: args::text(given.key, given.key_len, "options.key")?,
                cache: args::path(given.cache, given.cache_len, "options.cache")?,
            };
            let name = args::path(name, name_len, "name")?;
            Ok(handle::create(Arc::new(trust.load(name.as_deref())?)))
        })
    }
}

/// What [`cpr_policy_options`] say.
struct Trust<'a> {
    sha256: &'a str,
    key: &'a str,
    cache: Option<PathBuf>,
}

impl Trust<'_> {
    fn load(&self, name: Option<&Path>) -> Result<Policy, Failure> {
        let Some(name) = name else { return self.installed() };
        if let Some(shipped) = name.to_str().filter(|name| !name.contains('/')) {
            if !self.sha256.is_empty() || !self.key.is_empty() {
                let text =
                    "options.sha256 and options.key are for files; a shipped policy is part of the library";
                return Err(Failure::new(CPR_E_ARGUMENT, text));
            }
            return Ok(Policy::shipped_with(shipped, &self.options()?)?);
        }
        Ok(Policy::load(name, &self.options()?)?)
    }

    fn digest(&self) -> Result<Option<Digest>, Failure> {
        if self.sha256.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.sha256.parse().map_err(|error: cprecover::Error| error.context("options.sha256"))?))
    }

    #[cfg(feature = "wasm-runtime")]
    fn options(&self) -> Result<LoadOptions, Failure> {
        let mut options = LoadOptions::default();
        options.expected = self.digest()?;
        if !self.key.is_empty() {
            options.keys.push(TrustedKey::from_pem("options.key", self.key)?);
        }
        if let Some(cache) = &self.cache {
            options.cache = PolicyCache::open(cache)?;
        }
        Ok(options)
    }

    /// Shipped rules are native and files are refused whatever is said about them.
    #[cfg(not(feature = "wasm-runtime"))]
    fn options(&self) -> Result<LoadOptions, Failure> {
        let mut options = LoadOptions::default();
        options.expected = self.digest()?;
        Ok(options)
    }

    #[cfg(feature = "wasm-runtime")]
    fn installed(&self) -> Result<Policy, Failure> {
        let (Some(cache), Some(digest), "") = (&self.cache, self.digest()?, self.key) else {
            return Err(Failure::new(CPR_E_ARGUMENT, WITHOUT_NAME));
        };
        let found = match PolicyCache::open(cache)? {
            Some(cache) => Policy::installed(&cache, &digest, RunLimits::default())?,
            None => None,
        };
        found.ok_or_else(|| {
            Failure::new(CPR_E_NOT_FOUND, format!("{}: policy {digest} is not installed", cache.display()))
        })
    }

    #[cfg(not(feature = "wasm-runtime"))]
    fn installed(&self) -> Result<Policy, Failure> {
        if self.cache.is_none() || self.digest()?.is_none() || !self.key.is_empty() {
            return Err(Failure::new(CPR_E_ARGUMENT, WITHOUT_NAME));
        }
        Err(Failure::new(CPR_E_UNSUPPORTED, "this build runs no WebAssembly"))
    }
}

/// Writes name, version and digest of a policy as JSON (`cprecover.dev/policy/v1`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_policy_json(
    policy: *const cpr_policy,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe { describe(policy, json, err, |policy| json::buf("cprecover.dev/policy/v1", policy.identity())) }
}

/// Frees a policy. Nothing happens for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_policy_free(policy: *mut cpr_policy) {
    guard_free(|| handle::destroy(policy));
}
