//! What would be done, and doing it.

use std::ffi::c_char;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use cprecover::policy::contract::{self, Consent};
use cprecover::policy::{Policy, guard as rails};
use cprecover::recover::{Host, Plan, RecoverOptions, Report, policy_view, recover};

use crate::args::{self, Options, known_flags};
use crate::buf::cpr_buf;
use crate::call::{Call, cpr_call};
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::{describe, on_node, produce};
use crate::guard::guard_free;
use crate::handle::{self, Opaque, Use};
use crate::json;
use crate::node::{NodeState, cpr_node};
use crate::observe::{Seen, cpr_observation};
use crate::policy::cpr_policy;
use crate::port::CPR_DRY_RUN;
use crate::status::cpr_status;

/// The caller agrees to installing regenerated manifests that need a review.
pub const CPR_ACCEPT_REGENERATED_CHANGES: u64 = 2;
/// The caller agrees to acting on an etcd member although the quorum is not known.
pub const CPR_ACCEPT_UNKNOWN_QUORUM: u64 = 4;
/// The caller agrees to renewing certificates.
pub const CPR_ACCEPT_RENEWED_CERTIFICATES: u64 = 8;

/// How long a recovery takes at most unless the caller says otherwise.
const LONGEST: Duration = Duration::from_mins(5);

/// What would be done, in order, with the policy that decided.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_plan {
    _private: (),
}

impl Opaque for cpr_plan {
    type Inner = Decided;
    const NAME: &'static str = "plan";
}

/// A plan and who decides again while it is applied.
pub(crate) struct Decided {
    plan: Plan,
    policy: Arc<Policy>,
}

/// What the caller agrees to.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_recover_options {
    /// `CPR_DRY_RUN` and `CPR_ACCEPT_*`.
    pub flags: u64,
    /// How long the node may take to become healthy after the last effect, in milliseconds; 0 for 90 s.
    pub settle_ms: u64,
}

// SAFETY: integers.
unsafe impl Options for cpr_recover_options {
    const NAME: &'static str = "options";
}

/// Lets a policy (the default one for NULL) decide over an observation. Reads and changes nothing.
/// `*plan` is freed with `cpr_plan_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_plan_new(
    observation: *const cpr_observation,
    policy: *const cpr_policy,
    plan: *mut *mut cpr_plan,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        produce(plan, err, || {
            let policy = policy_or_default(policy)?;
            Ok(handle::create(decide(&*handle::share(observation)?, &policy)?))
        })
    }
}

fn decide(seen: &Seen, policy: &Arc<Policy>) -> Result<Decided, Failure> {
    let view = policy_view(&seen.observation, &seen.diagnosis, seen.history.clone(), &[]);
    let outcome = policy.decide(&view);
    let guarded = rails::check(&view, &outcome.decisions);
    Ok(Decided { plan: Plan::new(&seen.observation, &outcome, &guarded)?, policy: Arc::clone(policy) })
}

/// A policy for one call. The caller's stays in use as long: a panic in it poisons its handle.
pub(crate) enum Chosen {
    Builtin(Arc<Policy>),
    Given(Use<Arc<Policy>>),
}

impl Deref for Chosen {
    type Target = Arc<Policy>;

    fn deref(&self) -> &Arc<Policy> {
        match self {
            Self::Builtin(policy) => policy,
            Self::Given(used) => used,
        }
    }
}

pub(crate) fn policy_or_default(policy: *const cpr_policy) -> Result<Chosen, Failure> {
    if policy.is_null() {
        return Ok(Chosen::Builtin(Arc::new(Policy::builtin()?)));
    }
    Ok(Chosen::Given(handle::share(policy)?))
}

/// Reads a plan that `cpr_plan_json` (or `cprecover plan -o json`) wrote, and checks its digest.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_plan_read(
    json: *const c_char,
    json_len: usize,
    policy: *const cpr_policy,
    plan: *mut *mut cpr_plan,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        produce(plan, err, || {
            let plan = Plan::from_json(args::bytes(json, json_len, "json")?)?;
            Ok(handle::create(Decided { plan, policy: Arc::clone(&*policy_or_default(policy)?) }))
        })
    }
}

/// Writes a plan as JSON (`cprecover.dev/plan/v1`): the dry run, with a digest that binds it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_plan_json(
    plan: *const cpr_plan,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe { describe(plan, json, err, |decided| json::buf("cprecover.dev/plan/v1", &decided.plan)) }
}

/// Applies a plan: each step is decided anew right before it, nothing outside the plan is done, and every
/// effect is in the node's audit log. Writes a report as JSON (`cprecover.dev/recovery/v1`), also when
/// the node did not become healthy: that is `ending.state`, no error. A plan of another node or another
/// policy ends `refused`. Takes 5 min at most unless `call` says otherwise.
///
/// A step on a member of an etcd cluster of several is refused while another node of the cluster is worked
/// on, as far as the node's API server can be asked (the lease `kube-system/cprecover`).
///
/// Errors: `CPR_E_BUSY` when another engine works on the node, `CPR_E_CORRUPT` when its audit log is broken,
/// and the kinds of a failed write to it: an effect that cannot be recorded is not begun.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_plan_apply(
    node: *mut cpr_node,
    plan: *const cpr_plan,
    options: *const cpr_recover_options,
    options_size: usize,
    call: *const cpr_call,
    call_size: usize,
    report: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, LONGEST, report, err, |node, call| {
            let mut options = recover_options(args::options(options, options_size)?)?;
            let decided = handle::share(plan)?;
            options.approved = Some(decided.plan.clone());
            recovery(node, &decided.policy, &options, call)
        })
    }
}

/// Recovers the node: looks, decides by a policy (the default one for NULL), acts and verifies, until it is
/// healthy or nothing more may be done. Report, time and errors are as for `cpr_plan_apply`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_recover(
    node: *mut cpr_node,
    policy: *const cpr_policy,
    options: *const cpr_recover_options,
    options_size: usize,
    call: *const cpr_call,
    call_size: usize,
    report: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, LONGEST, report, err, |node, call| {
            let options = recover_options(args::options(options, options_size)?)?;
            let policy = policy_or_default(policy)?;
            recovery(node, &policy, &options, call)
        })
    }
}

fn recover_options(given: cpr_recover_options) -> Result<RecoverOptions, Failure> {
    let consents = [
        (CPR_ACCEPT_REGENERATED_CHANGES, Consent::AcceptRegeneratedChanges),
        (CPR_ACCEPT_UNKNOWN_QUORUM, Consent::UnknownQuorum),
        (CPR_ACCEPT_RENEWED_CERTIFICATES, Consent::RenewCertificates),
    ];
    let known = consents.iter().fold(CPR_DRY_RUN, |known, (bit, _)| known | bit);
    known_flags(given.flags, known, "options.flags")?;
    let mut options = RecoverOptions::default();
    options.dry_run = given.flags & CPR_DRY_RUN != 0;
    options.consents =
        consents.iter().filter(|(bit, _)| given.flags & bit != 0).map(|(_, consent)| *consent).collect();
    if given.settle_ms != 0 {
        options.settle = Duration::from_millis(given.settle_ms);
    }
    Ok(options)
}

fn recovery(
    node: &NodeState,
    policy: &Policy,
    options: &RecoverOptions,
    call: &Call,
) -> Result<cpr_buf, Failure> {
    json::buf("cprecover.dev/recovery/v1", &run(node, policy, options, call)?)
}

fn run(node: &NodeState, policy: &Policy, options: &RecoverOptions, call: &Call) -> Result<Report, Failure> {
    let decide = |observation: &contract::Observation| policy.decide(observation);
    Ok(recover(&Host::new(node.options()), &decide, options, call.deadline(), &mut |_| {})?)
}

/// Frees a plan. Nothing happens for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_plan_free(plan: *mut cpr_plan) {
    guard_free(|| handle::destroy(plan));
}
