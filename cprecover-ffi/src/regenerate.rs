//! Regenerating lost manifests with kubeadm.

use std::time::Duration;

use cprecover::kubeadm::{Acceptance, Options as RegenerateOptions, RegenerationPlan, Severity};
use cprecover::recover::{Host, apply_regeneration, plan_regeneration};
use serde::Serialize;

use crate::args::known_flags;
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
use crate::status::{CPR_E_ARGUMENT, cpr_status};

/// The caller accepts a component that no known good manifest can be compared with.
pub const CPR_ACCEPT_WITHOUT_COMPARISON: u64 = 16;

/// Manifests that kubeadm rendered into a staging folder, compared and checked.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_regeneration {
    _private: (),
}

impl Opaque for cpr_regeneration {
    type Inner = RegenerationPlan;
    const NAME: &'static str = "regeneration";
}

/// Renders the manifests of `components` (`CPR_ETCD`, ...) with the node's kubeadm into a staging folder;
/// nothing live is touched. Takes 2 min at most unless `call` says otherwise. `*regeneration` is freed
/// with `cpr_regeneration_free`.
///
/// Errors: `CPR_E_MISSING` when values are not known, `CPR_E_PEER` when kubeadm fails, ...
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_regenerate_plan(
    node: *const cpr_node,
    components_wanted: u64,
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
            let host = Host::new(node.options());
            let plan = plan_regeneration(&host, &wanted, &RegenerateOptions::default(), call.deadline())?;
            Ok(handle::create(plan))
        })
    }
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
