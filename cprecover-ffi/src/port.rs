//! Who holds a port, and ending an orphan that does.

use std::ffi::c_char;
use std::net::IpAddr;
use std::time::Duration;

use cprecover::model::{Pid, Port, ProcessId};
use cprecover::recover::{Host, PortQuestion, end_holder, port_report};

use crate::args::{self, Options, known_flags};
use crate::buf::cpr_buf;
use crate::call::cpr_call;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::on_node;
use crate::json;
use crate::names::components;
use crate::node::cpr_node;
use crate::status::{CPR_E_ARGUMENT, CPR_E_INVALID, cpr_status};

/// Says what would be done and changes nothing.
pub const CPR_DRY_RUN: u64 = 1;

/// Which port is asked about.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_port {
    /// The TCP port, 1 to 65535.
    pub port: u32,
    /// Must be 0.
    pub reserved: u32,
    /// The address that somebody wants to bind, as text (`127.0.0.1`, `::1`); any when empty.
    pub address: *const c_char,
    /// Its length in bytes.
    pub address_len: usize,
    /// The one component whose port it should be (`CPR_ETCD`, ...); the manifests tell when 0.
    pub wanted_by: u64,
}

// SAFETY: integers and raw pointers.
unsafe impl Options for cpr_port {
    const NAME: &'static str = "port";
}

/// Reads the question.
///
/// # Safety
/// As [`args::options`], with the address valid for its length.
unsafe fn question(port: *const cpr_port, size: usize) -> Result<PortQuestion, Failure> {
    // SAFETY: by this function's contract.
    let (port, address) = unsafe {
        let port = args::options(port, size)?;
        (port, args::text(port.address, port.address_len, "port.address")?)
    };
    known_flags(port.reserved.into(), 0, "port.reserved")?;
    let number = u16::try_from(port.port).ok().and_then(Port::new);
    let number =
        number.ok_or_else(|| Failure::new(CPR_E_ARGUMENT, format!("port.port {} is no port", port.port)))?;
    let mut question = PortQuestion::new(number);
    if !address.is_empty() {
        let parsed: IpAddr = address
            .parse()
            .map_err(|_| Failure::new(CPR_E_INVALID, format!("port.address {address:?} is no IP address")))?;
        question.address = Some(parsed);
    }
    question.wanted_by = match components(port.wanted_by, "port.wanted_by")?.as_slice() {
        [] => None,
        [one] => Some(*one),
        _ => return Err(Failure::new(CPR_E_ARGUMENT, "port.wanted_by names more than one component")),
    };
    Ok(question)
}

/// Looks up who listens on a TCP port of the node and judges every holder; writes it as JSON
/// (`cprecover.dev/port/v1`) and changes nothing. Takes 30 s at most unless `call` says otherwise.
///
/// Errors: `CPR_E_PERMISSION` when neither netlink nor procfs may be read. An owner that cannot be read
/// is no error: the state is `owner-unknown`, never `free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_port_holder(
    node: *const cpr_node,
    port: *const cpr_port,
    port_size: usize,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, Duration::from_secs(30), json, err, |node, call| {
            let question = question(port, port_size)?;
            let report = port_report(&Host::new(node.options()), &question, call.deadline())?;
            json::buf("cprecover.dev/port/v1", &report)
        })
    }
}

/// Ends the process `pid` that started at `start_ticks` (both as `cpr_port_holder` wrote them) when it
/// holds the port and is judged an orphan now: SIGTERM, the node's grace time, SIGKILL, then port and lock
/// are waited for. As a recovery does, it holds the node's lock, writes to the audit log, and ends an etcd
/// member only with the cluster's lease, where the quorum allows it and its data are saved. A dry run does
/// none of that. Writes what was done as JSON (`cprecover.dev/termination/v1`). Takes 5 min at most
/// unless `call` says otherwise. `flags` may be `CPR_DRY_RUN`.
///
/// Errors: `CPR_E_REFUSED` when it is no proven orphan or an etcd member that has to stay, `CPR_E_CHANGED` when
/// it does not hold the port, `CPR_E_BUSY` when somebody else works on the node or the cluster.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_terminate(
    node: *mut cpr_node,
    port: *const cpr_port,
    port_size: usize,
    pid: i32,
    start_ticks: u64,
    flags: u64,
    call: *const cpr_call,
    call_size: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        on_node(node, call, call_size, Duration::from_mins(5), json, err, |node, call| {
            known_flags(flags, CPR_DRY_RUN, "flags")?;
            let question = question(port, port_size)?;
            let pid = Pid::new(pid)
                .ok_or_else(|| Failure::new(CPR_E_ARGUMENT, format!("pid {pid} is no process id")))?;
            let process = ProcessId { pid, start_ticks };
            let host = Host::new(node.options());
            let outcome = end_holder(&host, &question, process, flags & CPR_DRY_RUN != 0, call.deadline())?;
            json::buf("cprecover.dev/termination/v1", &outcome)
        })
    }
}
