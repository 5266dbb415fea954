//! What a person elsewhere needs to help.

use std::ffi::c_char;
use std::time::Duration;

use cprecover::policy::contract;
use cprecover::recover::{Host, support_bundle_file};

use crate::args;
use crate::buf::cpr_buf;
use crate::call::cpr_call;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::on_node;
use crate::json;
use crate::node::cpr_node;
use crate::plan::policy_or_default;
use crate::policy::cpr_policy;
use crate::status::{CPR_E_ARGUMENT, cpr_status};

/// Writes a tar of what is seen, found, logged and was done, and of what a policy (the default one for
/// NULL) would do, to the new file `to`, a path of this machine; secrets are taken out. Writes what is in
/// it as JSON (`cprecover.dev/support-bundle/v1`). Takes 2 min at most unless `call` says otherwise.
///
/// Errors: `CPR_E_ALREADY_EXISTS` when there is such a file; that of a file with secrets which cannot be
/// read, so that it is not known what to take out. No file is left behind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_support_bundle(
    node: *const cpr_node,
    policy: *const cpr_policy,
    to: *const c_char,
    to_len: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, Duration::from_mins(2), json, err, |node, call| {
            let policy = policy_or_default(policy)?;
            let to = args::path(to, to_len, "to")?;
            let to = to.ok_or_else(|| Failure::new(CPR_E_ARGUMENT, "to is empty"))?;
            let decide = |seen: &contract::Observation| policy.decide(seen);
            let report = support_bundle_file(&Host::new(node.options()), &decide, &to, call.deadline())?;
            json::buf("cprecover.dev/support-bundle/v1", &report)
        })
    }
}
