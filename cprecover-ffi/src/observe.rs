//! Looking at a node, and what is wrong with it.

use std::time::Duration;

use cprecover::diagnose::{Diagnosis, diagnose};
use cprecover::policy::contract::PastAction;
use cprecover::recover::{AuditLog, Host, Observation, history, observe};
use cprecover::{ErrorKind, NodeOptions};

use crate::buf::cpr_buf;
use crate::call::{Call, cpr_call};
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::{describe, on_node};
use crate::guard::guard_free;
use crate::handle::{self, Opaque};
use crate::json;
use crate::node::cpr_node;
use crate::status::cpr_status;

/// A node as it was seen at one moment.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_observation {
    _private: (),
}

impl Opaque for cpr_observation {
    type Inner = Seen;
    const NAME: &'static str = "observation";
}

/// What was seen, with what it means and what was done before.
pub(crate) struct Seen {
    pub(crate) observation: Observation,
    pub(crate) diagnosis: Diagnosis,
    pub(crate) history: Vec<PastAction>,
}

/// Looks at the node and changes nothing; what cannot be read is part of the observation and no error.
/// Takes 1 min at most unless `call` says otherwise. `*observation` is freed with `cpr_observation_free`.
///
/// Errors: `CPR_E_CORRUPT` when the node's audit log is not what was written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_observe(
    node: *const cpr_node,
    call: *const cpr_call,
    call_size: usize,
    observation: *mut *mut cpr_observation,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, Duration::from_mins(1), observation, err, |node, call| {
            Ok(handle::create(look(node.options(), call)?))
        })
    }
}

fn look(node: &NodeOptions, call: &Call) -> Result<Seen, Failure> {
    let history = match AuditLog::read(&node.store()) {
        Ok(entries) => history(&entries),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let observation = observe(&Host::new(node), call.deadline());
    // A look that was cancelled saw nothing after that; it is not handed out as if it had.
    if call.cancel().is_cancelled() {
        call.deadline().check("observe")?;
    }
    Ok(Seen { diagnosis: diagnose(&observation.facts), observation, history })
}

/// Writes an observation as JSON (`cprecover.dev/observation/v1`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_observation_json(
    observation: *const cpr_observation,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        describe(observation, json, err, |seen| json::buf("cprecover.dev/observation/v1", &seen.observation))
    }
}

/// Writes what is wrong and why as JSON (`cprecover.dev/diagnosis/v1`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_diagnose(
    observation: *const cpr_observation,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        describe(observation, json, err, |seen| json::buf("cprecover.dev/diagnosis/v1", &seen.diagnosis))
    }
}

/// Frees an observation. Nothing happens for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_observation_free(observation: *mut cpr_observation) {
    guard_free(|| handle::destroy(observation));
}
