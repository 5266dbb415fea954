//! Snapshots: made, listed, checked, restored; manifests held and released.

use std::ffi::c_char;
use std::time::Duration;

use cprecover::backup::{CreateOptions, Held, Listed, RestoreOptions, Selection, SnapshotId, Store};
use cprecover::model::Component;
use cprecover::sys::Deadline;
use serde::Serialize;

use crate::args::{self, Options, known_flags};
use crate::buf::cpr_buf;
use crate::call::cpr_call;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::{describe, on_node};
use crate::json;
use crate::names::{components, groups};
use crate::node::{NodeState, cpr_node};
use crate::port::CPR_DRY_RUN;
use crate::status::{CPR_E_ARGUMENT, cpr_status};

/// The caller verified the node's health just now: the snapshot is a last known good.
pub const CPR_BACKUP_HEALTH_VERIFIED: u64 = 2;
/// No new snapshot when nothing has changed since the newest one, which is returned then.
pub const CPR_BACKUP_IF_CHANGED: u64 = 4;
/// Also removes files that the snapshot does not have.
pub const CPR_RESTORE_EXACT: u64 = 8;
/// Also restores manifests that are held, and ends their hold.
pub const CPR_RESTORE_REPLACE_HELD: u64 = 16;
/// Also restores what is of another node, which holds that node's name and addresses, or of another cluster
/// by its CA.
pub const CPR_RESTORE_OTHER_NODE: u64 = 32;

/// How long a call on the store takes at most unless the caller says otherwise.
const USUAL: Duration = Duration::from_mins(10);

/// What a snapshot covers.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_backup_options {
    /// `CPR_BACKUP_*`.
    pub flags: u64,
    /// `CPR_GROUP_*`; the manifests when 0.
    pub groups: u64,
    /// Why it is made, UTF-8; `manual` when empty.
    pub reason: *const c_char,
    /// Its length in bytes.
    pub reason_len: usize,
}

// SAFETY: integers and raw pointers.
unsafe impl Options for cpr_backup_options {
    const NAME: &'static str = "options";
}

/// What of a snapshot is restored, and how.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_restore_options {
    /// `CPR_RESTORE_*` and `CPR_DRY_RUN`.
    pub flags: u64,
    /// Only these groups (`CPR_GROUP_*`); all when 0. Not together with `components`.
    pub groups: u64,
    /// Only the manifests of these components (`CPR_ETCD`, ...).
    pub components: u64,
    /// A folder of the node to restore below, instead of in place; in place when empty.
    pub below: *const c_char,
    /// Its length in bytes.
    pub below_len: usize,
}

// SAFETY: integers and raw pointers.
unsafe impl Options for cpr_restore_options {
    const NAME: &'static str = "options";
}

/// Makes a snapshot of the node's recovery set and writes its index as JSON
/// (`cprecover.dev/snapshot/v1`); it is on stable storage when this returns.
///
/// Errors: `CPR_E_CHANGED` when a file kept changing, `CPR_E_BUSY`, `CPR_E_NO_SPACE`, ...; the store is as
/// it was then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_backup_create(
    node: *mut cpr_node,
    options: *const cpr_backup_options,
    options_size: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, USUAL, json, err, |node, call| {
            let given = args::options(options, options_size)?;
            let reason = args::text(given.reason, given.reason_len, "options.reason")?;
            let options = create_options(given.flags, given.groups, reason)?;
            let snapshot = Store::open(node.options())?.create(&options, call.deadline())?;
            json::buf("cprecover.dev/snapshot/v1", &snapshot)
        })
    }
}

fn create_options(flags: u64, bits: u64, reason: &str) -> Result<CreateOptions, Failure> {
    known_flags(flags, CPR_BACKUP_HEALTH_VERIFIED | CPR_BACKUP_IF_CHANGED, "options.flags")?;
    let mut options = CreateOptions::default();
    options.health_verified = flags & CPR_BACKUP_HEALTH_VERIFIED != 0;
    options.only_if_changed = flags & CPR_BACKUP_IF_CHANGED != 0;
    if bits != 0 {
        options.groups = groups(bits, "options.groups")?;
    }
    if !reason.is_empty() {
        reason.clone_into(&mut options.reason);
    }
    Ok(options)
}

/// Writes the node's snapshots as JSON (`cprecover.dev/backup-list/v1`), by number, damaged ones included.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_backup_list(
    node: *const cpr_node,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        describe(node, json, err, |node| {
            let snapshots = Store::open_read_only(node.options())?.list()?;
            json::buf("cprecover.dev/backup-list/v1", &Listing { snapshots })
        })
    }
}

/// Checks a snapshot against its index and writes what is wrong as JSON (`cprecover.dev/backup-report/v1`).
/// `id` is an id, a number, `latest` or `last-known-good`; damage is no error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_backup_verify(
    node: *const cpr_node,
    id: *const c_char,
    id_len: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, USUAL, json, err, |node, call| {
            let id = args::text(id, id_len, "id")?;
            let store = Store::open_read_only(node.options())?;
            let report = store.verify(&resolve(&store, id)?, call.deadline())?;
            json::buf("cprecover.dev/backup-report/v1", &report)
        })
    }
}

/// Puts files of a snapshot back, all or nothing, and writes what changed as JSON
/// (`cprecover.dev/restore/v1`); what stood there is snapshotted first. `id` as for `cpr_backup_verify`.
///
/// Errors: `CPR_E_CORRUPT` when the snapshot is damaged, `CPR_E_REFUSED` when kubelet would run a pod
/// twice, or when the snapshot is of another node; nothing is changed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_backup_restore(
    node: *mut cpr_node,
    id: *const c_char,
    id_len: usize,
    options: *const cpr_restore_options,
    options_size: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, USUAL, json, err, |node, call| {
            let id = args::text(id, id_len, "id")?;
            let given = args::options(options, options_size)?;
            let mut options = restore_options(given.flags)?;
            options.below = args::path(given.below, given.below_len, "options.below")?;
            let selection = selection(given.groups, given.components)?;
            let store = Store::open(node.options())?;
            let report = store.restore(&resolve(&store, id)?, &selection, &options, call.deadline())?;
            json::buf("cprecover.dev/restore/v1", &report)
        })
    }
}

fn restore_options(flags: u64) -> Result<RestoreOptions, Failure> {
    let known = CPR_DRY_RUN | CPR_RESTORE_EXACT | CPR_RESTORE_REPLACE_HELD | CPR_RESTORE_OTHER_NODE;
    known_flags(flags, known, "options.flags")?;
    let mut options = RestoreOptions::default();
    options.dry_run = flags & CPR_DRY_RUN != 0;
    options.exact = flags & CPR_RESTORE_EXACT != 0;
    options.replace_held = flags & CPR_RESTORE_REPLACE_HELD != 0;
    options.other_node = flags & CPR_RESTORE_OTHER_NODE != 0;
    Ok(options)
}

fn selection(group_bits: u64, component_bits: u64) -> Result<Selection, Failure> {
    let groups = groups(group_bits, "options.groups")?;
    let components = components(component_bits, "options.components")?;
    match (groups.is_empty(), components.is_empty()) {
        (true, true) => Ok(Selection::All),
        (false, true) => Ok(Selection::Groups(groups)),
        (true, false) => Ok(Selection::Components(components)),
        (false, false) => {
            Err(Failure::new(CPR_E_ARGUMENT, "options.groups and options.components exclude each other"))
        }
    }
}

fn resolve(store: &Store, name: &str) -> Result<SnapshotId, Failure> {
    if name.is_empty() {
        return Err(Failure::new(CPR_E_ARGUMENT, "id is empty"));
    }
    Ok(store.resolve(name)?)
}

/// Takes a manifest out of kubelet's sight, durably, so that it can always be put back, and writes what
/// is held as JSON (`cprecover.dev/held/v1`). `name` is a component or a file of the manifests folder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_hold(
    node: *mut cpr_node,
    name: *const c_char,
    name_len: usize,
    reason: *const c_char,
    reason_len: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, USUAL, json, err, |node, call| {
            let name = args::text(name, name_len, "name")?;
            let reason = args::text(reason, reason_len, "reason")?;
            change_hold(node, name, Some(reason), call.deadline())
        })
    }
}

/// Puts a held manifest back under its own name; the same arguments and result as `cpr_hold`.
///
/// Errors: `CPR_E_NOT_FOUND` when it is not held, `CPR_E_ALREADY_EXISTS` when another file of that name
/// stands there; both are kept.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_release(
    node: *mut cpr_node,
    name: *const c_char,
    name_len: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, USUAL, json, err, |node, call| {
            let name = args::text(name, name_len, "name")?;
            change_hold(node, name, None, call.deadline())
        })
    }
}

/// Writes what is held as JSON (`cprecover.dev/held/v1`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_held(
    node: *const cpr_node,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe { describe(node, json, err, |node| held(Store::open_read_only(node.options())?.held()?)) }
}

/// Holds with a reason, releases without.
fn change_hold(
    node: &NodeState,
    name: &str,
    reason: Option<&str>,
    deadline: &Deadline,
) -> Result<cpr_buf, Failure> {
    if name.is_empty() {
        return Err(Failure::new(CPR_E_ARGUMENT, "name is empty"));
    }
    let file = name.parse::<Component>().map_or(name, |component| component.manifest_file());
    let store = Store::open(node.options())?;
    let changed = match reason {
        Some(reason) => store.hold(file, reason, deadline)?,
        None => store.release(file, deadline)?,
    };
    held(vec![changed])
}

fn held(held: Vec<Held>) -> Result<cpr_buf, Failure> {
    json::buf("cprecover.dev/held/v1", &Holds { held })
}

/// The node's snapshots.
#[derive(Serialize)]
struct Listing {
    /// Oldest first, damaged ones included.
    snapshots: Vec<Listed>,
}

/// Manifests that are out of kubelet's sight.
#[derive(Serialize)]
struct Holds {
    /// All of them, or the one that a call changed.
    held: Vec<Held>,
}
