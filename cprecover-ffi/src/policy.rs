//! Policies.

use std::ffi::c_char;
use std::sync::Arc;

use cprecover::model::Digest;
use cprecover::policy::{LoadOptions, Policy};

use crate::args;
use crate::buf::cpr_buf;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::{describe, produce};
use crate::guard::guard_free;
use crate::handle::{self, Opaque};
use crate::json;
use crate::status::{CPR_E_ARGUMENT, cpr_status};

/// Decides when to act; sandboxed WebAssembly, or shipped rules.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_policy {
    _private: (),
}

impl Opaque for cpr_policy {
    type Inner = Arc<Policy>;
    const NAME: &'static str = "policy";
}

/// Loads a policy: a shipped one by its name (`default`, `observe-only`, ...) or a file by a path with a
/// `/` in it. `sha256` is the digest that a file must have, 64 hex digits, or empty. `*policy` is freed
/// with `cpr_policy_free`, also while plans use it.
///
/// Errors: `CPR_E_CORRUPT` for another digest, `CPR_E_POLICY` for a file that is no policy,
/// `CPR_E_UNSUPPORTED` for a file in a build without WebAssembly.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_policy_load(
    name: *const c_char,
    name_len: usize,
    sha256: *const c_char,
    sha256_len: usize,
    policy: *mut *mut cpr_policy,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        produce(policy, err, || {
            let sha256 = args::text(sha256, sha256_len, "sha256")?;
            let name = args::path(name, name_len, "name")?;
            let name = name.ok_or_else(|| Failure::new(CPR_E_ARGUMENT, "name is empty"))?;
            Ok(handle::create(Arc::new(load(&name, sha256)?)))
        })
    }
}

fn load(name: &std::path::Path, sha256: &str) -> Result<Policy, Failure> {
    let shipped = name.to_str().filter(|name| !name.contains('/'));
    if let Some(shipped) = shipped {
        if !sha256.is_empty() {
            return Err(Failure::new(
                CPR_E_ARGUMENT,
                "sha256 is for files; a shipped policy is part of the library",
            ));
        }
        return Ok(Policy::shipped(shipped)?);
    }
    let mut options = LoadOptions::default();
    if !sha256.is_empty() {
        options.expected = Some(sha256.parse::<Digest>()?);
    }
    Ok(Policy::load(name, &options)?)
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
