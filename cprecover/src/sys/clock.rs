//! Time, deadlines and cancellation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result};

/// Returns whole milliseconds, as many as there is room for.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Farther off than any work: what a caller asks for beyond it is this.
const FAR: Duration = Duration::from_hours(24 * 365 * 30);

/// Returns `at` moved on by `by`; the standard library panics where the sum has no room.
#[must_use]
pub fn later(at: Instant, by: Duration) -> Instant {
    at.checked_add(by.min(FAR)).unwrap_or(at)
}

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

/// A clock that moves only when somebody advances it or sleeps on it: for simulations and tests.
///
/// Clones share one time; both the monotonic and the wall clock move together.
#[derive(Debug, Clone)]
pub struct ManualClock {
    start: Instant,
    start_unix: Duration,
    elapsed_ns: Arc<AtomicU64>,
}

impl ManualClock {
    /// Starts at `unix` since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn new(unix: Duration) -> Self {
        Self { start: Instant::now(), start_unix: unix, elapsed_ns: Arc::default() }
    }

    /// Moves the clock on.
    pub fn advance(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Returns how far it has moved.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_ns.load(Ordering::Relaxed))
    }

    /// Returns a deadline `timeout` from now by this clock.
    #[must_use]
    pub fn deadline(&self, timeout: Duration) -> Deadline {
        Deadline { at: later(self.now(), timeout), cancel: CancelToken::default(), clock: Some(self.clone()) }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.start + self.elapsed()
    }

    fn unix(&self) -> Duration {
        self.start_unix.saturating_add(self.elapsed())
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

/// Asks running calls to stop; clones share one flag, and any thread may set it.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    parent: Option<Arc<Self>>,
}

impl CancelToken {
    /// Wraps a flag that something else sets, such as a signal handler of the embedding program.
    #[must_use]
    pub fn of_flag(flag: Arc<AtomicBool>) -> Self {
        Self { flag, parent: None }
    }

    /// Returns a token that this one cancels too, and that can be cancelled without this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { flag: Arc::default(), parent: Some(Arc::new(self.clone())) }
    }

    /// Asks every holder of this token, and of its children, to stop.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
    }

    /// Takes this token's own request back, so that it can serve a next call; its parent's stays.
    pub fn reset(&self) {
        self.flag.store(false, Ordering::Release);
    }

    /// Reports whether stopping was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Acquire) || self.parent.as_ref().is_some_and(|parent| parent.is_cancelled())
    }
}

/// A point in time after which work must end, together with a way to end it sooner.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Instant,
    cancel: CancelToken,
    /// By which clock; the machine's when none is given.
    clock: Option<ManualClock>,
}

impl Deadline {
    /// Returns the deadline `timeout` from now, at most 30 years.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self { at: later(Instant::now(), timeout), cancel: CancelToken::default(), clock: None }
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
        let at = self.at.min(later(self.now(), timeout));
        Self { at, cancel: self.cancel.clone(), clock: self.clock.clone() }
    }

    /// Returns the deadline `timeout` from now by the same clock, which no cancel ends: for putting back
    /// what must not stay as it is, whatever became of the caller's time.
    pub(crate) fn renewed(&self, timeout: Duration) -> Self {
        let at = later(self.now(), timeout);
        Self { at, cancel: CancelToken::default(), clock: self.clock.clone() }
    }

    /// Returns what is left, zero when the time is up.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(self.now())
    }

    fn now(&self) -> Instant {
        self.clock.as_ref().map_or_else(Instant::now, Clock::now)
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

    #[test]
    fn no_time_is_too_long() {
        let clock = ManualClock::new(Duration::MAX);
        clock.advance(Duration::MAX);
        assert_eq!(clock.unix(), Duration::MAX);
        for deadline in [
            Deadline::after(Duration::MAX),
            Deadline::after(Duration::MAX).at_most(Duration::MAX),
            Deadline::after(Duration::ZERO).renewed(Duration::MAX),
            clock.deadline(Duration::MAX),
        ] {
            assert!(deadline.remaining() > Duration::from_hours(24 * 365), "{deadline:?}");
            assert!(deadline.at_most(Duration::ZERO).remaining().is_zero());
        }
    }

    #[test]
    fn a_cancel_reaches_children_and_no_parent() {
        let parent = CancelToken::default();
        let (one, other) = (parent.child(), parent.child());
        one.cancel();
        assert!(one.is_cancelled() && !other.is_cancelled() && !parent.is_cancelled());
        one.reset();
        parent.cancel();
        assert!(one.is_cancelled() && other.child().is_cancelled());
        parent.reset();
        assert!(!one.is_cancelled() && !other.is_cancelled());
    }

    #[test]
    fn a_deadline_of_a_manual_clock_ends_only_when_that_clock_moves() {
        let clock = ManualClock::new(Duration::from_hours(500_000));
        let deadline = clock.deadline(Duration::from_mins(1));
        let nearer = deadline.at_most(Duration::from_secs(10));
        clock.sleep(Duration::from_secs(10));
        assert_eq!(nearer.check("x").expect_err("over").kind(), ErrorKind::Timeout);
        assert_eq!(deadline.remaining(), Duration::from_secs(50));
        assert_eq!(clock.unix(), Duration::from_secs(1_800_000_010));
    }
}
