//! The node's own etcd member.

use std::ffi::c_char;
use std::time::Duration;

use cprecover::etcd::{CheckOptions, Client, check_node, check_with, snapshot, status};

use crate::args;
use crate::buf::cpr_buf;
use crate::call::cpr_call;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::on_node;
use crate::json;
use crate::node::cpr_node;
use crate::status::{CPR_E_ARGUMENT, cpr_status};

/// Asks the node's member how it and its cluster are doing and writes that as JSON
/// (`cprecover.dev/etcd-status/v1`): members, quorum, leader, alarms, sizes. Address and certificates are
/// those of the node's manifest. Takes 1 min at most unless `call` says otherwise.
///
/// Errors: `CPR_E_NOT_FOUND` without a manifest, `CPR_E_PEER`, `CPR_E_TIMEOUT`, ...; a cluster without a
/// quorum is an answer (`healthy` is false).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_etcd_status(
    node: *const cpr_node,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, Duration::from_mins(1), json, err, |node, call| {
            let said = status(&Client::of_manifest(node.options())?, call.deadline())?;
            json::buf("cprecover.dev/etcd-status/v1", &said)
        })
    }
}

/// Judges a data directory of etcd, a path of this machine, without starting etcd and without changing
/// anything, and writes the verdict as JSON (`cprecover.dev/etcd-check/v1`): state, what etcd would do with
/// it, every finding. Empty for the node's own, by its manifest. Takes 10 min at most unless `call` says
/// otherwise; what was not read by then is unfinished.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_etcd_check(
    node: *const cpr_node,
    data_dir: *const c_char,
    data_dir_len: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, Duration::from_mins(10), json, err, |node, call| {
            let node = node.options();
            let verdict = match args::path(data_dir, data_dir_len, "data_dir")? {
                None => check_node(node, call.deadline()),
                Some(data_dir) => {
                    let mut options = CheckOptions::default();
                    options.proc_dir.clone_from(&node.proc_dir);
                    check_with(&data_dir, &options, call.deadline())
                }
            };
            json::buf("cprecover.dev/etcd-check/v1", &verdict)
        })
    }
}

/// Saves a snapshot of the node's running member to the new file `to`, a path of this machine, compares
/// the digest that etcd sends, walks every page, and writes what was saved as JSON
/// (`cprecover.dev/etcd-snapshot/v1`). Address and certificates are those of the node's manifest. Takes
/// 10 min at most unless `call` says otherwise.
///
/// Errors: `CPR_E_ALREADY_EXISTS` when there is such a file, `CPR_E_CORRUPT` when digest or pages are
/// wrong, `CPR_E_NO_SPACE`, `CPR_E_PEER`, ...; no file is left behind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_etcd_snapshot(
    node: *const cpr_node,
    to: *const c_char,
    to_len: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, Duration::from_mins(10), json, err, |node, call| {
            let to = args::path(to, to_len, "to")?;
            let to = to.ok_or_else(|| Failure::new(CPR_E_ARGUMENT, "to is empty"))?;
            let saved = snapshot(&Client::of_manifest(node.options())?, &to, call.deadline())?;
            json::buf("cprecover.dev/etcd-snapshot/v1", &saved)
        })
    }
}
