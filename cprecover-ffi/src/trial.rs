//! A function that panics, for the misuse tests only (feature `test-panic`).

use crate::error::cpr_error;
use crate::guard::guard;
use crate::handle;
use crate::node::cpr_node;
use crate::status::cpr_status;

/// Panics while it uses the node.
#[unsafe(no_mangle)]
#[allow(clippy::panic, reason = "this is what it is for")]
pub unsafe extern "C" fn cpr_test_panic(node: *const cpr_node, err: *mut *mut cpr_error) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        guard(err, || {
            let _node = handle::share(node)?;
            panic!("asked for")
        })
    }
}
