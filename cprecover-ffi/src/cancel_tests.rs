//! Tests: which calls a cancel reaches.

use std::path::Path;
use std::ptr::{null, null_mut};
use std::time::Duration;

use crate::call::Call;
use crate::handle;
use crate::*;

fn open(root: &Path) -> *mut cpr_node {
    let root = root.to_str().expect("utf-8");
    let options = cpr_node_options {
        root: root.as_ptr().cast(),
        root_len: root.len(),
        config: null(),
        config_len: 0,
        flags: 0,
    };
    let mut node = null_mut();
    // SAFETY: all arguments are live, and the output is a variable.
    let status =
        unsafe { cpr_node_open(&raw const options, size_of_val(&options), &raw mut node, null_mut()) };
    assert_eq!(status, CPR_OK);
    node
}

fn bounded(cancel: *const cpr_cancel) -> cpr_call {
    cpr_call {
        timeout_ms: 0,
        cancel,
        log: None,
        log_user: null_mut(),
        log_drop: None,
        log_level: 0,
        reserved: 0,
    }
}

fn observes(node: *const cpr_node, call: &cpr_call) -> cpr_status {
    let mut seen = null_mut();
    // SAFETY: all arguments are live, and the output is a variable.
    let status = unsafe { cpr_observe(node, &raw const *call, size_of_val(call), &raw mut seen, null_mut()) };
    cpr_observation_free(seen);
    status
}

/// The header: only calls that run on the node then are asked to end.
#[test]
fn cancelling_a_node_ends_no_other_call_that_has_the_same_cancel() {
    let root = tempfile::tempdir().expect("a folder");
    let (one, other) = (open(root.path()), open(root.path()));
    let mut cancel = null_mut();
    // SAFETY: the output is a variable.
    assert_eq!(unsafe { cpr_cancel_new(&raw mut cancel, null_mut()) }, CPR_OK);
    let given = bounded(cancel);
    // SAFETY: the struct is live and has no callbacks.
    let start = || unsafe { Call::start(&raw const given, size_of_val(&given), Duration::from_mins(1)) };
    let (ended, goes_on) = (start().expect("a call"), start().expect("a call"));
    let (used, also_used) =
        (handle::share(one.cast_const()).expect("free"), handle::share(other.cast_const()).expect("free"));
    let (running, also_running) = (ended.on(&used), goes_on.on(&also_used));
    cpr_node_cancel(one);
    assert!(ended.cancel().is_cancelled(), "the call on the node");
    assert!(!goes_on.cancel().is_cancelled(), "the call on another node");
    drop((running, also_running));
    assert_eq!([observes(one, &given), observes(other, &given)], [CPR_OK; 2], "later calls");
    cpr_cancel_trigger(cancel);
    assert!(goes_on.cancel().is_cancelled(), "the caller's cancel ends all that have it");
    assert_eq!([observes(one, &given), observes(other, &given)], [CPR_E_CANCELLED; 2]);
    drop((used, also_used));
    cpr_cancel_free(cancel);
    cpr_node_free(one);
    cpr_node_free(other);
}
