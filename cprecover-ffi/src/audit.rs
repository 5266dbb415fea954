//! The audit log.

use cprecover::recover::AuditLog;

use crate::buf::cpr_buf;
use crate::error::cpr_error;
use crate::frame::describe;
use crate::json;
use crate::node::cpr_node;
use crate::status::cpr_status;

/// Reads the node's audit log, checks its chain, and writes every entry as JSON (`cprecover.dev/audit/v1`),
/// oldest first. Changes nothing.
///
/// Errors: `CPR_E_NOT_FOUND` when there is none, `CPR_E_CORRUPT` naming the line where the chain breaks,
/// or when the log does not end where it did.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_audit(
    node: *const cpr_node,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        describe(node, json, err, |node| {
            json::buf("cprecover.dev/audit/v1", &AuditLog::read(&node.options().store())?)
        })
    }
}
