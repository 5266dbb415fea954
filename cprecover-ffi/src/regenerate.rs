//! Regenerating lost manifests with kubeadm.

use std::ffi::c_char;
use std::time::Duration;

use cprecover::kubeadm::{Acceptance, Options as RegenerateOptions, RegenerationPlan, Severity};
use cprecover::parse::yaml::MAX_DOCUMENT_BYTES;
use cprecover::recover::{Host, apply_regeneration, plan_regeneration};
use serde::Serialize;

use crate::args::{self, Options, known_flags};
use crate::buf::cpr_buf;
use crate::call::cpr_call;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::{describe, on_node};
use crate::guard::guard_free;
use crate::handle::{self, Opaque};
use crate::json;
use crate::names::components;
use crate::node::cpr_node;
use crate::plan::CPR_ACCEPT_REGENERATED_CHANGES;
use crate::status::{CPR_E_ARGUMENT, CPR_E_LIMIT, cpr_status};

/// The caller accepts a component that no known good manifest can be compared with.
pub const CPR_ACCEPT_WITHOUT_COMPARISON: u64 = 16;
// No bit of CPR_DRY_RUN and CPR_ACCEPT_*: this word may cost a cluster its data, and is not said by a mix-up.
/// A healthy member has just removed this etcd member and added it again: it may start without data.
pub const CPR_REGENERATE_ETCD_MEMBER_JUST_ADDED: u64 = 32;

/// The names of kubeadm's values are short, and a node lacks a few dozen at most.
const MAX_ASSUMED_BYTES: usize = 16 << 10;

/// Manifests that kubeadm rendered into a staging folder, compared and checked.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_regeneration {
    _private: (),
}

impl Opaque for cpr_regeneration {
    type Inner = RegenerationPlan;
    const NAME: &'static str = "regeneration";
}

/// What the caller knows of the node's kubeadm config.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_regenerate_options {
    /// `CPR_REGENERATE_*`.
    pub flags: u64,
    /// A kubeadm config (`InitConfiguration`, `ClusterConfiguration`), YAML, 1 MiB at most, that is believed
    /// before all that is found on the node and in backups.
    pub config: *const c_char,
    /// Its length in bytes.
    pub config_len: usize,
    /// Unknown values for which kubeadm's defaults are taken, knowingly: one a line, by the names that
    /// `CPR_E_MISSING` tells (`scheduler.extraArgs`), 16 KiB at most.
    pub assume_defaults: *const c_char,
    /// Its length in bytes.
    pub assume_defaults_len: usize,
}

// SAFETY: integers and raw pointers.
unsafe impl Options for cpr_regenerate_options {
    const NAME: &'static str = "options";
}

/// Renders the manifests of `components_wanted` (`CPR_ETCD`, ...) with the node's kubeadm into a staging
/// folder; nothing live is touched. Takes 2 min at most unless `call` says otherwise. `*regeneration` is
/// freed with `cpr_regeneration_free`.
///
/// Errors: `CPR_E_MISSING` when values are not known; the message names them, and each is either in
/// `options.config` or named in `options.assume_defaults` next time. `CPR_E_LIMIT` when one of these is too
/// large, `CPR_E_INVALID` when the config is none, `CPR_E_PEER` when kubeadm fails, ...
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_regenerate_plan(
    node: *const cpr_node,
    components_wanted: u64,
    options: *const cpr_regenerate_options,
    options_size: usize,
    call: *const cpr_call,
    call_size: usize,
    regeneration: *mut *mut cpr_regeneration,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, Duration::from_mins(2), regeneration, err, |node, call| {
            let wanted = components(components_wanted, "components_wanted")?;
            if wanted.is_empty() {
                return Err(Failure::new(CPR_E_ARGUMENT, "components_wanted is empty"));
            }
            let options = regenerate_options(&args::options(options, options_size)?)?;
            let host = Host::new(node.options());
            Ok(handle::create(plan_regeneration(&host, &wanted, &options, call.deadline())?))
        })
    }
}

/// Copies what the caller says.
///
/// # Safety
/// Each pointer is NULL or valid for reads of its length until this returns.
unsafe fn regenerate_options(given: &cpr_regenerate_options) -> Result<RegenerateOptions, Failure> {
    known_flags(given.flags, CPR_REGENERATE_ETCD_MEMBER_JUST_ADDED, "options.flags")?;
    // SAFETY: by this function's contract.
    let (config, assumed) = unsafe {
        (
            args::text(given.config, given.config_len, "options.config")?,
            args::text(given.assume_defaults, given.assume_defaults_len, "options.assume_defaults")?,
        )
    };
    let mut options = RegenerateOptions::default();
    if !config.is_empty() {
        let config = bounded(config, MAX_DOCUMENT_BYTES, "options.config")?;
        options.config = Some(("the caller's config".to_owned(), config.into()));
    }
    let assumed = bounded(assumed, MAX_ASSUMED_BYTES, "options.assume_defaults")?;
    options.assume_defaults = assumed.lines().filter(|name| !name.is_empty()).map(str::to_owned).collect();
    options.etcd_member_just_added = given.flags & CPR_REGENERATE_ETCD_MEMBER_JUST_ADDED != 0;
    Ok(options)
}

fn bounded<'a>(text: &'a str, most: usize, name: &str) -> Result<&'a str, Failure> {
    if text.len() <= most {
        return Ok(text);
    }
    Err(Failure::new(CPR_E_LIMIT, format!("{name} has {} bytes, more than {most}", text.len())))
}

/// Writes a regeneration as JSON (`cprecover.dev/regeneration-plan/v1`): origins, differences, checks,
/// and what has to be accepted or mended before it may be applied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_regeneration_json(
    regeneration: *const cpr_regeneration,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        describe(regeneration, json, err, |plan| {
            let objections = plan.objections(Acceptance::default());
            json::buf("cprecover.dev/regeneration-plan/v1", &Shown { plan, objections })
        })
    }
}

/// What a regeneration would install.
#[derive(Serialize)]
struct Shown<'a> {
    /// The manifests with their origins, differences and checks.
    #[serde(flatten)]
    plan: &'a RegenerationPlan,
    /// What has to be accepted or mended before it may be applied.
    objections: Vec<String>,
}

/// Installs regenerated manifests, all or none; what stood there is snapshotted first. Writes what was
/// installed as JSON (`cprecover.dev/regeneration/v1`). `flags`: `CPR_ACCEPT_REGENERATED_CHANGES`,
/// `CPR_ACCEPT_WITHOUT_COMPARISON`.
///
/// Errors: `CPR_E_REFUSED` with the objections, `CPR_E_CHANGED` when a live file changed since the plan.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_regenerate_apply(
    node: *mut cpr_node,
    regeneration: *const cpr_regeneration,
    flags: u64,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, Duration::from_mins(2), json, err, |node, call| {
            let acceptance = acceptance(flags)?;
            let plan = handle::share(regeneration)?;
            let host = Host::new(node.options());
            let applied = apply_regeneration(&host, &plan, acceptance, call.deadline())?;
            json::buf("cprecover.dev/regeneration/v1", &applied)
        })
    }
}

fn acceptance(flags: u64) -> Result<Acceptance, Failure> {
    known_flags(flags, CPR_ACCEPT_REGENERATED_CHANGES | CPR_ACCEPT_WITHOUT_COMPARISON, "flags")?;
    let acceptance = if flags & CPR_ACCEPT_REGENERATED_CHANGES != 0 {
        Acceptance::up_to(Severity::NeedsReview)
    } else {
        Acceptance::default()
    };
    Ok(if flags & CPR_ACCEPT_WITHOUT_COMPARISON != 0 { acceptance.without_comparison() } else { acceptance })
}

/// Frees a regeneration. Nothing happens for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_regeneration_free(regeneration: *mut cpr_regeneration) {
    guard_free(|| handle::destroy(regeneration));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{CPR_E_INVALID, CPR_E_UNSUPPORTED};

    fn given(flags: u64, config: &[u8], assumed: &[u8]) -> Result<RegenerateOptions, i32> {
        let given = cpr_regenerate_options {
            flags,
            config: config.as_ptr().cast(),
            config_len: config.len(),
            assume_defaults: assumed.as_ptr().cast(),
            assume_defaults_len: assumed.len(),
        };
        // SAFETY: both slices outlive the call.
        unsafe { regenerate_options(&given) }.map_err(|failure| failure.status())
    }

    #[test]
    fn what_the_caller_knows_is_copied() {
        let nothing = given(0, b"", b"").expect("the defaults");
        assert!(nothing.config.is_none() && nothing.assume_defaults.is_empty());
        assert!(!nothing.etcd_member_just_added);
        let all =
            given(CPR_REGENERATE_ETCD_MEMBER_JUST_ADDED, b"kind: x", b"a b\n\nc.d\r\n").expect("options");
        assert_eq!(all.config, Some(("the caller's config".to_owned(), b"kind: x".to_vec())));
        assert_eq!(all.assume_defaults, ["a b", "c.d"]);
        assert!(all.etcd_member_just_added);
    }

    #[test]
    fn what_is_unknown_too_large_or_no_text_is_refused() {
        for flags in [1, CPR_REGENERATE_ETCD_MEMBER_JUST_ADDED | 1 << 63, CPR_ACCEPT_WITHOUT_COMPARISON] {
            assert_eq!(given(flags, b"", b"").err(), Some(CPR_E_UNSUPPORTED), "{flags:#x}");
        }
        let lines = |count: usize| vec![b'\n'; count];
        assert!(given(0, &lines(MAX_DOCUMENT_BYTES), &lines(MAX_ASSUMED_BYTES)).is_ok());
        assert_eq!(given(0, &lines(MAX_DOCUMENT_BYTES + 1), b"").err(), Some(CPR_E_LIMIT));
        assert_eq!(given(0, b"", &lines(MAX_ASSUMED_BYTES + 1)).err(), Some(CPR_E_LIMIT));
        assert_eq!(given(0, b"\xff", b"").err(), Some(CPR_E_INVALID));
        assert_eq!(given(0, b"", b"\xff").err(), Some(CPR_E_INVALID));
    }
}
