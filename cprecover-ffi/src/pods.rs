//! Folders of pods: the safe form of `rm -rf /var/lib/kubelet/pods/*`.

use std::ffi::c_char;
use std::time::Duration;

use cprecover::model::PodUid;
use cprecover::recover::{
    Host, NodeLock, list_pods, quarantine_leftover_pods, quarantine_pods, undo_quarantine,
};

use crate::args::{self, known_flags};
use crate::buf::cpr_buf;
use crate::call::cpr_call;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::on_node;
use crate::json;
use crate::node::cpr_node;
use crate::status::{CPR_E_ARGUMENT, cpr_status};

/// Every folder that nobody knows.
pub const CPR_PODS_ALL_LEFTOVER: u64 = 1;

/// How long a call on pod folders takes at most unless the caller says otherwise.
const USUAL: Duration = Duration::from_mins(2);

/// Writes who knows each pod folder of the node, and what was moved aside, as JSON
/// (`cprecover.dev/pods/v1`); changes nothing. Takes 2 min at most unless `call` says otherwise.
///
/// Errors: that of the runtime when it does not answer: then nothing is known to be left over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_pods_list(
    node: *const cpr_node,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, USUAL, json, err, |node, call| {
            let report = list_pods(&Host::new(node.options()), call.deadline())?;
            json::buf("cprecover.dev/pods/v1", &report)
        })
    }
}

/// Moves pod folders into a quarantine on the same file system, with kubelet stopped meanwhile, and writes
/// where they are as JSON (`cprecover.dev/pods-quarantine/v1`). `uids` has one pod UID a line; it is empty
/// when `flags` has `CPR_PODS_ALL_LEFTOVER`. Takes 2 min at most unless `call` says otherwise.
///
/// Errors: `CPR_E_REFUSED` when somebody knows one of the pods or a mount is below it: nothing is moved
/// then; `CPR_E_NOT_FOUND` when no folder is left over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_pods_quarantine(
    node: *mut cpr_node,
    uids: *const c_char,
    uids_len: usize,
    flags: u64,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, USUAL, json, err, |node, call| {
            let uids = args::text(uids, uids_len, "uids")?;
            known_flags(flags, CPR_PODS_ALL_LEFTOVER, "flags")?;
            let uids: Vec<PodUid> = uids.lines().filter(|uid| !uid.is_empty()).map(PodUid::new).collect();
            let all = flags & CPR_PODS_ALL_LEFTOVER != 0;
            if all != uids.is_empty() {
                return Err(Failure::new(CPR_E_ARGUMENT, "either uids or CPR_PODS_ALL_LEFTOVER"));
            }
            let _lock = NodeLock::acquire(&node.options().store())?;
            let host = Host::new(node.options());
            let made = if all {
                quarantine_leftover_pods(&host, call.deadline())?
            } else {
                quarantine_pods(&host, &uids, call.deadline())?
            };
            json::buf("cprecover.dev/pods-quarantine/v1", &made)
        })
    }
}

/// Moves the folders of a quarantine back to where they were and writes it as JSON, as
/// `cpr_pods_quarantine` does. `folder` is the quarantine's, as `cpr_pods_list` wrote it; the newest one
/// when empty. Takes 2 min at most unless `call` says otherwise.
///
/// Errors: `CPR_E_NOT_FOUND` when there is no such quarantine, `CPR_E_ALREADY_EXISTS` when a folder of
/// the same pod stands there again; nothing is moved then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_pods_undo(
    node: *mut cpr_node,
    folder: *const c_char,
    folder_len: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, USUAL, json, err, |node, call| {
            let folder = args::path(folder, folder_len, "folder")?;
            let _lock = NodeLock::acquire(&node.options().store())?;
            let undone = undo_quarantine(&Host::new(node.options()), folder.as_deref(), call.deadline())?;
            json::buf("cprecover.dev/pods-quarantine/v1", &undone)
        })
    }
}
