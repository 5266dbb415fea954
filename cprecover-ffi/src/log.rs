//! Log lines of one call for the caller's callback; nothing global.

use std::cell::Cell;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::thread::ThreadId;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::call::{
    CPR_LOG_DEBUG, CPR_LOG_ERROR, CPR_LOG_INFO, CPR_LOG_TRACE, CPR_LOG_WARN, cpr_drop_fn, cpr_log_fn,
};

/// A callback of the caller, dropped by the caller's function.
pub(crate) struct Callback {
    log: cpr_log_fn,
    user: *mut c_void,
    drop: cpr_drop_fn,
}

impl Callback {
    /// Takes a callback over; `None` when there is none.
    ///
    /// # Safety
    /// `log` and `drop` may be called with `user` on this thread until the result is dropped.
    pub(crate) unsafe fn new(log: cpr_log_fn, user: *mut c_void, drop: cpr_drop_fn) -> Option<Self> {
        (log.is_some() || drop.is_some()).then_some(Self { log, user, drop })
    }

    /// Returns where lines go, if anywhere.
    pub(crate) fn lines(&self) -> Option<Lines> {
        Some(Lines { log: self.log?, user: self.user, thread: std::thread::current().id() })
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: `new`'s caller promised that it may be called until now; it is called once.
            unsafe { drop(self.user) };
        }
    }
}

/// Where lines go; only the thread that it was made on writes.
pub(crate) struct Lines {
    log: unsafe extern "C" fn(
        *mut c_void,
        i32,
        *const std::ffi::c_char,
        usize,
        *const std::ffi::c_char,
        usize,
    ),
    user: *mut c_void,
    thread: ThreadId,
}

// SAFETY: `user` is only handed to `log`, and `write` does that on no thread but the first one.
unsafe impl Send for Lines {}
// SAFETY: as above.
unsafe impl Sync for Lines {}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a callback: tracing panics when a subscriber is set while another one runs, so
/// a call that is made there has no log of its own.
pub(crate) fn is_inside_callback() -> bool {
    INSIDE.get()
}

/// A callback runs. Callbacks do not nest: a call made in one logs nothing.
struct Inside;

impl Inside {
    fn enter() -> Self {
        INSIDE.set(true);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

impl Lines {
    fn write(&self, level: Level, target: &str, message: &str) {
        if std::thread::current().id() != self.thread {
            return;
        }
        let level = match level {
            Level::ERROR => CPR_LOG_ERROR,
            Level::WARN => CPR_LOG_WARN,
            Level::INFO => CPR_LOG_INFO,
            Level::DEBUG => CPR_LOG_DEBUG,
            Level::TRACE => CPR_LOG_TRACE,
        };
        let (target, target_len) = (target.as_ptr().cast(), target.len());
        let _inside = Inside::enter();
        // SAFETY: the callback lives as long as this call, this is its thread, and both strings live
        // until it returns.
        unsafe { (self.log)(self.user, level, target, target_len, message.as_ptr().cast(), message.len()) };
    }
}

/// Turns events into lines.
pub(crate) struct LogSubscriber {
    lines: Lines,
    level: Level,
}

impl LogSubscriber {
    /// Writes events up to `level`.
    pub(crate) const fn new(lines: Lines, level: Level) -> Self {
        Self { lines, level }
    }
}

impl Subscriber for LogSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Spans are not enabled; tracing asks for an id all the same when a span is made by hand.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let Text { mut message, fields } = text;
        message.push_str(&fields);
        self.lines.write(*event.metadata().level(), event.metadata().target(), &message);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            // Writing to a String does not fail.
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}
