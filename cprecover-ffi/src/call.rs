//! What every longer call takes: its time, its end by the caller, its log.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use cprecover::sys::{CancelToken, Deadline};
use tracing::subscriber::DefaultGuard;

use crate::args::{self, Options};
use crate::cancel::cpr_cancel;
use crate::failure::Failure;
use crate::handle;
use crate::log::{Callback, LogSubscriber, is_inside_callback};
use crate::node::{NodeState, Running};
use crate::status::{CPR_E_ARGUMENT, CPR_E_HANDLE, CPR_E_UNSUPPORTED};

/// Something failed.
pub const CPR_LOG_ERROR: i32 = 1;
/// Something is odd.
pub const CPR_LOG_WARN: i32 = 2;
/// What was done.
pub const CPR_LOG_INFO: i32 = 3;
/// How it was done.
pub const CPR_LOG_DEBUG: i32 = 4;
/// Everything.
pub const CPR_LOG_TRACE: i32 = 5;

/// Gets a log line: its level (`CPR_LOG_*`), the part of the library that wrote it, and the text. The
/// strings are UTF-8, not NUL-terminated, and valid during the call only.
#[allow(non_camel_case_types, reason = "the name in C")]
pub type cpr_log_fn = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        level: i32,
        target: *const c_char,
        target_len: usize,
        message: *const c_char,
        message_len: usize,
    ),
>;

/// Frees what belongs to a callback.
#[allow(non_camel_case_types, reason = "the name in C")]
pub type cpr_drop_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// How one call is bounded and watched. All zero, or NULL with size 0, is the default.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_call {
    /// How long the call may take, in milliseconds; 0 for the function's own default.
    pub timeout_ms: u64,
    /// Ends the call early; may be NULL. It may be freed while the call runs.
    pub cancel: *const cpr_cancel,
    /// Gets the call's log lines, on the calling thread; may be NULL. A call that is made in it has no
    /// log of its own.
    pub log: cpr_log_fn,
    /// Handed to `log` and `log_drop`.
    pub log_user: *mut c_void,
    /// Called once with `log_user` before the call returns, whatever it returns, when `log` or
    /// `log_drop` is given and the struct itself could be read; may be NULL.
    pub log_drop: cpr_drop_fn,
    /// The least important level that `log` gets (`CPR_LOG_*`); 0 is `CPR_LOG_INFO`.
    pub log_level: i32,
    /// Must be 0.
    pub reserved: i32,
}

// SAFETY: integers, raw pointers and optional function pointers.
unsafe impl Options for cpr_call {
    const NAME: &'static str = "call";
}

/// Ten years: what a caller who wants no end gives; an `Instant` must not overflow.
pub(crate) const LONGEST: Duration = Duration::from_hours(10 * 366 * 24);

/// A running call; dropping it ends the log and forgets the cancel.
pub(crate) struct Call {
    deadline: Deadline,
    cancel: CancelToken,
    // Fields are dropped in this order: no log line may come after the callback was dropped.
    _log: Option<DefaultGuard>,
    _callback: Option<Callback>,
}

impl Call {
    /// Starts a call that may take `usual` when the caller does not say how long.
    ///
    /// # Safety
    /// `call` is NULL or valid for reads of `size` bytes, and its callbacks may be called until the
    /// exported function returns.
    pub(crate) unsafe fn start(call: *const cpr_call, size: usize, usual: Duration) -> Result<Self, Failure> {
        // SAFETY: by this function's contract.
        let call = unsafe { args::options(call, size) }?;
        // First of all, so that the callback is dropped whatever else is wrong.
        // SAFETY: by this function's contract.
        let callback = unsafe { Callback::new(call.log, call.log_user, call.log_drop) };
        if call.reserved != 0 {
            return Err(Failure::new(CPR_E_UNSUPPORTED, "call.reserved is not 0"));
        }
        let level = level(call.log_level)?;
        let cancel = if call.cancel.is_null() {
            CancelToken::default()
        } else {
            // One of the call's own: `cpr_node_cancel` ends this call, not all that the caller's ends.
            handle::peek(call.cancel, CancelToken::child)
                .ok_or_else(|| Failure::new(CPR_E_HANDLE, "call.cancel is no live cancel"))?
        };
        let time = if call.timeout_ms == 0 { usual } else { Duration::from_millis(call.timeout_ms) };
        let deadline = Deadline::after(time.min(LONGEST)).with_cancel(cancel.clone());
        let log = callback
            .as_ref()
            .and_then(Callback::lines)
            .filter(|_| !is_inside_callback())
            .map(|lines| tracing::subscriber::set_default(LogSubscriber::new(lines, level)));
        Ok(Self { deadline, cancel, _log: log, _callback: callback })
    }

    /// Lets `cpr_node_cancel` end this call as long as the result lives.
    pub(crate) fn on<'a>(&self, node: &'a NodeState) -> Running<'a> {
        node.register(self.cancel.clone())
    }

    /// Returns when the call must end.
    pub(crate) const fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// Returns what ends the call early.
    pub(crate) const fn cancel(&self) -> &CancelToken {
        &self.cancel
    }
}

fn level(level: i32) -> Result<tracing::Level, Failure> {
    Ok(match level {
        CPR_LOG_ERROR => tracing::Level::ERROR,
        CPR_LOG_WARN => tracing::Level::WARN,
        0 | CPR_LOG_INFO => tracing::Level::INFO,
        CPR_LOG_DEBUG => tracing::Level::DEBUG,
        CPR_LOG_TRACE => tracing::Level::TRACE,
        other => return Err(Failure::new(CPR_E_ARGUMENT, format!("call.log_level {other} is no level"))),
    })
}
