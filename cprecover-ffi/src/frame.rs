//! What the exported functions share: one output that is cleared first, one error, one use of a handle.

use std::time::Duration;

use crate::args::{Empty, out};
use crate::buf::cpr_buf;
use crate::call::{Call, cpr_call};
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::Taken;
use crate::node::NodeState;
use crate::status::cpr_status;

/// Makes something of its arguments alone.
///
/// # Safety
/// `to` and `err` are NULL or valid for writes until this returns.
pub(crate) unsafe fn produce<T: Empty>(
    to: *mut T,
    err: *mut *mut cpr_error,
    body: impl FnOnce() -> Result<T, Failure>,
) -> cpr_status {
    // SAFETY: by this function's contract.
    unsafe {
        guard(err, || {
            let to = out(to)?;
            to.set(body()?);
            Ok(())
        })
    }
}

/// Writes what a handle holds.
///
/// # Safety
/// As [`produce`].
pub(crate) unsafe fn describe<H: Taken>(
    handle: H,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
    body: impl FnOnce(&H::Inner) -> Result<cpr_buf, Failure>,
) -> cpr_status {
    // SAFETY: by this function's contract.
    unsafe { produce(json, err, || body(&*handle.take()?)) }
}

/// Runs one call on a node: shared for `*const cpr_node`, alone for `*mut cpr_node`. It may take `usual`
/// when the caller does not say how long.
///
/// # Safety
/// As [`produce`] and [`Call::start`].
pub(crate) unsafe fn on_node<H: Taken<Inner = NodeState>, T: Empty>(
    node: H,
    call: *const cpr_call,
    call_size: usize,
    usual: Duration,
    to: *mut T,
    err: *mut *mut cpr_error,
    body: impl FnOnce(&NodeState, &Call) -> Result<T, Failure>,
) -> cpr_status {
    // SAFETY: by this function's contract.
    unsafe {
        guard(err, || {
            // Cleared before anything can fail, complained about only after the call was read: the
            // caller's callback is dropped whatever else is wrong.
            let to = out(to);
            let call = Call::start(call, call_size, usual)?;
            let to = to?;
            on(node, &call, |node| {
                to.set(body(node, &call)?);
                Ok(())
            })
        })
    }
}

/// Uses a node for a call, which `cpr_node_cancel` reaches.
pub(crate) fn on<H: Taken<Inner = NodeState>>(
    node: H,
    call: &Call,
    body: impl FnOnce(&NodeState) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let node = node.take()?;
    let _running = call.on(&node);
    body(&node)
}
