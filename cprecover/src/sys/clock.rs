//! Time, deadlines and cancellation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result};

/// The source of time and of waiting.
pub trait Clock {
    /// Returns the monotonic time.
    fn now(&self) -> Instant;

    /// Returns the wall clock as the duration since 1970-01-01T00:00:00Z.
    fn unix(&self) -> Duration;

    /// Waits for `duration`.
    fn sleep(&self, duration: Duration);
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix(&self) -> Duration {
        // A clock before 1970 reads as 0; the clock-sanity finding reports it.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// Asks running calls to stop; clones share one flag, and any thread may set it.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Wraps a flag that something else sets, such as a signal handler of the embedding program.
    #[must_use]
    pub fn of_flag(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// Asks every holder of this token to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Takes the request back, so that the token can serve a next call.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Reports whether stopping was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A point in time after which work must end, together with a way to end it sooner.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Instant,
    cancel: CancelToken,
}

impl Deadline {
    /// Returns the deadline `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, cancel: CancelToken::default() }
    }

    /// Lets `cancel` end the work early.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Returns a deadline at most `timeout` from now that never outlasts this one.
    #[must_use]
    pub fn at_most(&self, timeout: Duration) -> Self {
        Self { at: self.at.min(Instant::now() + timeout), cancel: self.cancel.clone() }
    }

    /// Returns what is left, zero when the time is up.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Reports whether the caller cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Fails when the time is up or the caller cancelled; `doing` names the work.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] or [`ErrorKind::Cancelled`].
    pub fn check(&self, doing: &str) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, format!("{doing}: cancelled")));
        }
        if self.remaining().is_zero() {
            return Err(Error::new(ErrorKind::Timeout, format!("{doing}: deadline passed")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_ends_by_time_and_by_cancel() {
        assert_eq!(Deadline::after(Duration::ZERO).check("x").expect_err("over").kind(), ErrorKind::Timeout);
        let cancel = CancelToken::default();
        let deadline = Deadline::after(Duration::from_mins(1)).with_cancel(cancel.clone());
        deadline.check("x").expect("time left");
        cancel.cancel();
        assert_eq!(
            deadline.at_most(Duration::from_secs(1)).check("x").expect_err("cancelled").kind(),
            ErrorKind::Cancelled
        );
    }
}
