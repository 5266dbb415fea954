//! kubelet's crash-loop back-off, which lives in memory only and so ends with a restart of kubelet.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The longest pause (kubernetes `pkg/kubelet/kubelet.go`, `MaxCrashLoopBackOff`).
const MAX: Duration = Duration::from_mins(5);
/// An entry is forgotten after twice the longest pause (`k8s.io/client-go/util/flowcontrol`).
const FORGET: Duration = Duration::from_mins(10);

/// Pauses between restarts, per container.
pub(super) struct BackOff {
    initial: Duration,
    entries: HashMap<String, (Duration, Instant)>,
}

impl BackOff {
    /// Starts with no pauses; the first one will be `initial` (kubelet: 10 s).
    pub(super) fn new(initial: Duration) -> Self {
        Self { initial, entries: HashMap::new() }
    }

    /// Says how long to wait before a restart of `key`, whose container ended at `ended`.
    ///
    /// `None` means now, and doubles the next pause.
    pub(super) fn pause(&mut self, key: &str, ended: Instant, now: Instant) -> Option<Duration> {
        match self.entries.get(key) {
            Some((_, updated)) if now.duration_since(*updated) > FORGET => {}
            Some((pause, _)) if now.duration_since(ended) < *pause => {
                return Some(*pause);
            }
            Some((pause, _)) => {
                self.entries.insert(key.to_owned(), ((*pause * 2).min(MAX), now));
                return None;
            }
            None => {}
        }
        self.entries.insert(key.to_owned(), (self.initial, now));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_then_pauses_double_up_to_five_minutes() {
        let second = Duration::from_secs(1);
        let mut backoff = BackOff::new(10 * second);
        let mut now = Instant::now();
        let mut waited = Vec::new();
        for _ in 0..8 {
            let ended = now;
            let mut pause = 0;
            while backoff.pause("etcd", ended, now).is_some() {
                now += second;
                pause += 1;
            }
            waited.push(pause);
        }
        assert_eq!(waited, [0, 10, 20, 40, 80, 160, 300, 300]);
    }
}
