//! Watching a node, on the caller's thread.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use cprecover::policy::contract;
use cprecover::recover::{Host, LeaseLock, LiveNode, RecoverOptions, WatchEvent, WatchOptions, Watcher};
use cprecover::sys::SystemClock;

use crate::args::{self, Options, known_flags};
use crate::call::{Call, LONGEST, cpr_call, cpr_drop_fn};
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::on;
use crate::guard::guard;
use crate::json;
use crate::node::cpr_node;
use crate::plan::policy_or_default;
use crate::policy::cpr_policy;
use crate::status::{CPR_E_ARGUMENT, cpr_status};

/// An outage is recovered from, as far as the policy goes.
pub const CPR_WATCH_RECOVER: u64 = 1;

/// Gets an event as JSON (`cprecover.dev/event/v1`), UTF-8, not NUL-terminated, valid during the call only.
/// Anything but 0 ends the watch.
#[allow(non_camel_case_types, reason = "the name in C")]
pub type cpr_event_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, json: *const c_char, json_len: usize) -> i32>;

/// How a node is watched.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_watch_options {
    /// `CPR_WATCH_*`.
    pub flags: u64,
    /// How long after a look the next one comes while nothing changes, in milliseconds; 0 for 30 s.
    pub every_ms: u64,
    /// How many bad looks in a row make an outage; 0 for 3.
    pub sick_after: u32,
    /// How many recoveries an hour may have; 0 for 3.
    pub recoveries_per_hour: u32,
    /// Gets each event, on the calling thread; may not be NULL.
    pub event: cpr_event_fn,
    /// Handed to `event` and `event_drop`.
    pub event_user: *mut c_void,
    /// Called once with `event_user` before the call returns, whatever it returns, when the struct itself
    /// could be read; may be NULL.
    pub event_drop: cpr_drop_fn,
}

// SAFETY: integers, raw pointers and optional function pointers.
unsafe impl Options for cpr_watch_options {
    const NAME: &'static str = "options";
}

/// The caller's callback, dropped by the caller's function.
struct Listener {
    event: cpr_event_fn,
    user: *mut c_void,
    drop: cpr_drop_fn,
}

impl Listener {
    /// Tells an event; returns whether the watch goes on.
    ///
    /// # Safety
    /// The callback may be called with its pointer on this thread.
    unsafe fn tell(&self, event: &WatchEvent) -> Result<bool, Failure> {
        let text = json::bytes("cprecover.dev/event/v1", event)?;
        let tell = self.event.ok_or_else(|| Failure::new(CPR_E_ARGUMENT, "options.event is NULL"))?;
        // SAFETY: by this function's contract; the text lives until it returns.
        Ok(unsafe { tell(self.user, text.as_ptr().cast(), text.len()) } == 0)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the caller of `cpr_watch` promised that it may be called until now; it is called once.
            unsafe { drop(self.user) };
        }
    }
}

/// Watches the node until the time of `call` is up (never, unless it says so), the call is cancelled or
/// `event` says so: backs up what works after each change of a manifest and, every 10 minutes, what else
/// changed; tells each turn, an outage before the recovery from it; and recovers when `CPR_WATCH_RECOVER`
/// is set, by a policy (the default one for NULL). Works on the calling thread.
///
/// Errors: `CPR_E_CANCELLED`. A backup or a recovery that fails is an event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_watch(
    node: *const cpr_node,
    policy: *const cpr_policy,
    options: *const cpr_watch_options,
    options_size: usize,
    call: *const cpr_call,
    call_size: usize,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        guard(err, || {
            // Both are read before either may fail: the caller's callbacks are dropped whatever is wrong.
            let given = args::options(options, options_size);
            let listener = given.as_ref().ok().map(|given| Listener {
                event: given.event,
                user: given.event_user,
                drop: given.event_drop,
            });
            let call = Call::start(call, call_size, LONGEST)?;
            on(node, &call, |node| {
                let policy = policy_or_default(policy)?;
                let options = watch_options(&given?)?;
                let listener = listener.as_ref().filter(|listener| listener.event.is_some());
                let listener =
                    listener.ok_or_else(|| Failure::new(CPR_E_ARGUMENT, "options.event is NULL"))?;
                let decide = |seen: &contract::Observation| policy.decide(seen);
                let host = Host::new(node.options());
                let mut live = LiveNode::new(&host, &decide, RecoverOptions::default())
                    .with_cluster_lock(LeaseLock::new(&host));
                let mut watcher = Watcher::new(node.options(), &mut live, &SystemClock, options);
                while let Some(event) = watcher.next(call.deadline(), &mut |_| {})? {
                    if !listener.tell(&event)? {
                        return Ok(());
                    }
                }
                // Time that is up is how a watch ends; a cancel is told.
                if call.cancel().is_cancelled() {
                    call.deadline().check("watch")?;
                }
                Ok(())
            })
        })
    }
}

fn watch_options(given: &cpr_watch_options) -> Result<WatchOptions, Failure> {
    known_flags(given.flags, CPR_WATCH_RECOVER, "options.flags")?;
    let mut options = WatchOptions::default();
    options.recover = given.flags & CPR_WATCH_RECOVER != 0;
    if given.every_ms != 0 {
        options.probe_every = Duration::from_millis(given.every_ms).min(LONGEST);
        options.recheck_every = options.recheck_every.min(options.probe_every);
    }
    if given.sick_after != 0 {
        options.sick_after = given.sick_after;
    }
    if given.recoveries_per_hour != 0 {
        options.recoveries_per_hour = given.recoveries_per_hour;
    }
    Ok(options)
}
