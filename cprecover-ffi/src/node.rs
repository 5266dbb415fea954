//! The node.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cprecover::NodeOptions;
use cprecover::sys::CancelToken;

use crate::args::{self, Options, known_flags};
use crate::buf::cpr_buf;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::{describe, produce};
use crate::guard::guard_free;
use crate::handle::{self, Opaque};
use crate::json;
use crate::status::{CPR_E_INVALID, cpr_status};

/// One control-plane node: where its files are, how its services are controlled.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_node {
    _private: (),
}

impl Opaque for cpr_node {
    type Inner = NodeState;
    const NAME: &'static str = "node";
}

/// What a node handle holds.
pub(crate) struct NodeState {
    options: NodeOptions,
    running: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    next: u64,
    tokens: BTreeMap<u64, CancelToken>,
}

impl NodeState {
    fn new(options: NodeOptions) -> Self {
        Self { options, running: Mutex::default() }
    }

    /// Returns where things are on the node.
    pub(crate) const fn options(&self) -> &NodeOptions {
        &self.options
    }

    /// Notes a running call.
    pub(crate) fn register(&self, token: CancelToken) -> Running<'_> {
        let mut calls = self.calls();
        let id = calls.next;
        calls.next += 1;
        calls.tokens.insert(id, token);
        drop(calls);
        Running { node: self, id }
    }

    fn cancel(&self) {
        self.calls().tokens.values().for_each(CancelToken::cancel);
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Every change to the map is one statement, so a panic leaves it whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running call that `cpr_node_cancel` reaches.
pub(crate) struct Running<'a> {
    node: &'a NodeState,
    id: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.node.calls().tokens.remove(&self.id);
    }
}

/// Which node. All zero, or NULL with size 0, is this machine.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_node_options {
    /// The node's file system root, absolute; `/` when empty.
    pub root: *const c_char,
    /// Its length in bytes.
    pub root_len: usize,
    /// The node's configuration, YAML or JSON, as `/etc/cprecover/config.yaml` has it; that file below
    /// the root is read when empty.
    pub config: *const c_char,
    /// Its length in bytes.
    pub config_len: usize,
    /// Must be 0.
    pub flags: u64,
}

// SAFETY: integers and raw pointers.
unsafe impl Options for cpr_node_options {
    const NAME: &'static str = "options";
}

/// Opens a node: reads its configuration and changes nothing. `*node` is freed with `cpr_node_free`.
///
/// Errors: `CPR_E_INVALID` for a relative root or a malformed configuration.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_node_open(
    options: *const cpr_node_options,
    options_size: usize,
    node: *mut *mut cpr_node,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        produce(node, err, || {
            let options = args::options(options, options_size)?;
            known_flags(options.flags, 0, "options.flags")?;
            let root = args::path(options.root, options.root_len, "options.root")?;
            let config = args::bytes(options.config, options.config_len, "options.config")?;
            Ok(handle::create(open(root, config)?))
        })
    }
}

fn open(root: Option<PathBuf>, config: &[u8]) -> Result<NodeState, Failure> {
    let root = root.unwrap_or_else(|| PathBuf::from("/"));
    if config.is_empty() {
        return Ok(NodeState::new(NodeOptions::load(root)?));
    }
    let mut options: NodeOptions =
        cprecover::parse::yaml::from_slice(config).map_err(|error| error.context("options.config"))?;
    if !root.is_absolute() {
        return Err(Failure::new(
            CPR_E_INVALID,
            format!("options.root {} is not an absolute path", root.display()),
        ));
    }
    options.root = root;
    Ok(NodeState::new(options))
}

/// Writes the node's options as they are in force as JSON (`cprecover.dev/node-options/v1`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_node_json(
    node: *const cpr_node,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe { describe(node, json, err, |node| json::buf("cprecover.dev/node-options/v1", node.options())) }
}

/// Asks every call that runs on the node to end with `CPR_E_CANCELLED`; calls that start later are not
/// concerned. From any thread and from callbacks; nothing happens for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_node_cancel(node: *const cpr_node) {
    guard_free(|| {
        handle::peek(node, NodeState::cancel);
    });
}

/// Frees a node. A call that another thread runs on it goes on undisturbed. Nothing happens for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn cpr_node_free(node: *mut cpr_node) {
    guard_free(|| handle::destroy(node));
}
