//! When to say something, to back up, and to recover: pure, from looks and changes.

use std::collections::VecDeque;
use std::time::Duration;

use super::WatchOptions;

/// Recoveries are counted over this time.
const WINDOW: Duration = Duration::from_hours(1);

/// The longest pause between two tries of a backup that fails.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// How long after a backup the next one is made although no manifest changed: only their folder is watched, and
/// certificates, kubeconfigs and kubelet's own files change without it.
const REFRESH: Duration = Duration::from_mins(10);

/// What follows from a look, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Do {
    /// The node's state has changed for good, or is known for the first time.
    Announce { healthy: bool },
    /// What is there now works: keep it.
    BackUp,
    /// So does what is not watched and may have changed since the last backup.
    Refresh,
    /// The node is down for good, and a recovery may be tried now.
    Recover,
    /// A recovery has to wait.
    Hold { for_ms: u64 },
}

/// The state between looks.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    /// What was announced last.
    announced: Option<bool>,
    /// Looks in a row that were otherwise.
    against: u32,
    /// Healthy looks in a row since the last change of a manifest.
    healthy_in_a_row: u32,
    /// Something changed that no backup holds yet; at the beginning that is not known.
    unsaved: Option<bool>,
    /// How many backups failed in a row, and when the next one is tried.
    failed_backups: u32,
    backup_at: Duration,
    /// When a backup was last known to hold what is there.
    saved_at: Duration,
    /// When recoveries began, since the watch began.
    recoveries: VecDeque<Duration>,
    /// A hold was announced for this time; it is not said again until it is over.
    held_until: Option<Duration>,
}

impl Vigil {
    /// A manifest changed: what was healthy before says nothing about it.
    pub(super) fn changed(&mut self) {
        self.unsaved = Some(true);
        self.healthy_in_a_row = 0;
        self.backup_at = Duration::ZERO;
    }

    /// Takes a look at the node; `now` is the time since the watch began.
    pub(super) fn looked(&mut self, healthy: bool, now: Duration, options: &WatchOptions) -> Vec<Do> {
        if healthy {
            self.healthy_in_a_row = self.healthy_in_a_row.saturating_add(1);
        } else {
            self.healthy_in_a_row = 0;
            // What runs afterwards need not be what could not be called good before.
            self.backup_at = Duration::ZERO;
        }
        let mut what = Vec::new();
        if self.turned(healthy, options) {
            self.announced = Some(healthy);
            self.against = 0;
            what.push(Do::Announce { healthy });
        }
        let proven = self.announced == Some(true) && self.healthy_in_a_row >= options.well_after;
        if proven && now >= self.backup_at {
            if self.unsaved.unwrap_or(true) {
                what.push(Do::BackUp);
            } else if now.saturating_sub(self.saved_at) >= REFRESH {
                what.push(Do::Refresh);
            }
        }
        if self.announced == Some(false) && !healthy && options.recover {
            what.extend(self.recovery(now, options));
        }
        what
    }

    /// One look is a hint, several in a row are a state; the first of all is one as well.
    fn turned(&mut self, healthy: bool, options: &WatchOptions) -> bool {
        match self.announced {
            Some(announced) if announced == healthy => {
                self.against = 0;
                false
            }
            Some(_) => {
                self.against = self.against.saturating_add(1);
                self.against >= if healthy { options.well_after } else { options.sick_after }
            }
            // A node that is down when the watch begins may just be starting.
            None if !healthy => {
                self.against = self.against.saturating_add(1);
                self.against >= options.sick_after
            }
            None => true,
        }
    }

    fn recovery(&mut self, now: Duration, options: &WatchOptions) -> Option<Do> {
        while self.recoveries.front().is_some_and(|at| now.saturating_sub(*at) >= WINDOW) {
            self.recoveries.pop_front();
        }
        let pause = self.recoveries.back().map(|last| (*last).saturating_add(options.recover_pause));
        let limit = usize::try_from(options.recoveries_per_hour).unwrap_or(usize::MAX);
        let full = if self.recoveries.len() >= limit {
            Some(self.recoveries.front().map_or(Duration::MAX, |first| first.saturating_add(WINDOW)))
        } else {
            None
        };
        match pause.max(full).filter(|until| *until > now) {
            None => {
                self.recoveries.push_back(now);
                self.held_until = None;
                Some(Do::Recover)
            }
            Some(until) if self.held_until == Some(until) => None,
            Some(until) => {
                self.held_until = Some(until);
                let wait = until.saturating_sub(now).as_millis();
                Some(Do::Hold { for_ms: u64::try_from(wait).unwrap_or(u64::MAX) })
            }
        }
    }

    /// A backup holds what is there now.
    pub(super) fn saved(&mut self, now: Duration) {
        self.unsaved = Some(false);
        self.saved_at = now;
        self.failed_backups = 0;
        self.backup_at = Duration::ZERO;
    }

    /// A backup failed: what keeps it from being made, such as a full disk, may last.
    pub(super) fn not_saved(&mut self, now: Duration, options: &WatchOptions) {
        let pause = options.recheck_every.saturating_mul(2_u32.saturating_pow(self.failed_backups));
        self.failed_backups = self.failed_backups.saturating_add(1);
        self.backup_at = now.saturating_add(pause.min(LONGEST_PAUSE));
    }

    /// A recovery has verified the node: that is as good as several looks.
    pub(super) fn recovered(&mut self) -> bool {
        self.against = 0;
        // What the recovery put in place is a change that nothing but the next looks proves.
        self.changed();
        self.announced.replace(true) != Some(true)
    }

    /// Reports whether the next look should not be waited for as long as usual.
    pub(super) fn is_unsettled(&self) -> bool {
        let is_to_be_saved = self.unsaved.unwrap_or(true) && self.failed_backups == 0;
        self.against > 0 || self.announced != Some(true) || is_to_be_saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> WatchOptions {
        WatchOptions { recover: true, ..WatchOptions::default() }
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Looks every ten seconds; returns what followed from each.
    fn looks(vigil: &mut Vigil, from: u64, looks: &str, options: &WatchOptions) -> Vec<Vec<Do>> {
        let looks = (0_u64..).zip(looks.chars());
        looks.map(|(count, look)| vigil.looked(look == '+', at(from + 10 * count), options)).collect()
    }

    #[test]
    fn one_bad_look_is_no_outage_and_one_good_look_is_no_recovery() {
        let mut vigil = Vigil::default();
        let options = WatchOptions { recover: false, ..options() };
        let said = looks(&mut vigil, 0, "+-+--+---+++", &options).concat();
        let said: Vec<Do> = said.into_iter().filter(|what| *what != Do::BackUp).collect();
        let announced = [true, false, true].map(|healthy| Do::Announce { healthy });
        assert_eq!(said, announced);
    }

    #[test]
    fn a_change_is_backed_up_only_after_health_that_followed_it() {
        let mut vigil = Vigil::default();
        let options = options();
        let first = looks(&mut vigil, 0, "++", &options);
        assert_eq!(first.last().map(Vec::as_slice), Some(&[Do::BackUp][..]), "the first state is kept too");
        vigil.saved(at(10));
        assert!(looks(&mut vigil, 20, "+++", &options).concat().is_empty(), "nothing changed");
        vigil.changed();
        assert!(looks(&mut vigil, 50, "+", &options).concat().is_empty(), "one look is not proof enough");
        vigil.changed();
        assert_eq!(
            looks(&mut vigil, 60, "+-+", &options).concat(),
            [],
            "nor are looks with a bad one between"
        );
        assert_eq!(looks(&mut vigil, 90, "+", &options).concat(), [Do::BackUp]);
        // One that failed is tried again.
        assert_eq!(looks(&mut vigil, 100, "+", &options).concat(), [Do::BackUp]);
        vigil.saved(at(100));
        assert!(looks(&mut vigil, 110, "+", &options).concat().is_empty());
    }

    #[test]
    fn a_backup_that_fails_each_time_is_tried_less_and_less_often() {
        let mut vigil = Vigil::default();
        let options = options();
        let mut tries = Vec::new();
        for second in (0..30_000).step_by(5) {
            if vigil.looked(true, at(second), &options).contains(&Do::BackUp) {
                tries.push(second);
                vigil.not_saved(at(second), &options);
            }
        }
        assert_eq!(tries.iter().take(5).collect::<Vec<_>>(), [&5, &10, &20, &40, &80]);
        assert!((14..20).contains(&tries.len()), "{tries:?}");
        // A change is backed up without regard to that, so is what an outage came before, and a success begins anew.
        assert_eq!(looks(&mut vigil, 29_960, "-++", &options).concat(), [Do::BackUp]);
        vigil.not_saved(at(29_980), &options);
        assert!(looks(&mut vigil, 29_990, "+", &options).concat().is_empty());
        vigil.changed();
        assert_eq!(looks(&mut vigil, 30_000, "++", &options).concat(), [Do::BackUp]);
        vigil.saved(at(30_010));
        vigil.changed();
        assert_eq!(looks(&mut vigil, 30_100, "++", &options).concat(), [Do::BackUp]);
        vigil.not_saved(at(30_110), &options);
        assert_eq!(looks(&mut vigil, 30_115, "+", &options).concat(), [Do::BackUp]);
    }

    #[test]
    fn what_no_change_tells_of_is_backed_up_while_the_node_is_healthy() {
        let mut vigil = Vigil::default();
        let options = WatchOptions { recover: false, ..options() };
        assert_eq!(looks(&mut vigil, 0, "++", &options).concat().last(), Some(&Do::BackUp));
        vigil.saved(at(10));
        assert!(looks(&mut vigil, 20, "+++", &options).concat().is_empty(), "too soon");
        assert!(looks(&mut vigil, 610, "-+", &options).concat().is_empty(), "not proven");
        assert_eq!(looks(&mut vigil, 630, "+", &options).concat(), [Do::Refresh]);
        vigil.not_saved(at(630), &options);
        assert_eq!(looks(&mut vigil, 640, "+", &options).concat(), [Do::Refresh], "tried again");
        vigil.saved(at(640));
        assert!(looks(&mut vigil, 650, "++", &options).concat().is_empty());
        // A change goes first, and is enough.
        vigil.changed();
        assert_eq!(looks(&mut vigil, 1300, "++", &options).concat(), [Do::BackUp]);
    }

    #[test]
    fn recoveries_are_few_and_far_between() {
        let mut vigil = Vigil::default();
        let options =
            WatchOptions { recover_pause: Duration::from_mins(5), recoveries_per_hour: 2, ..options() };
        let said = looks(&mut vigil, 0, "-------------------------------------", &options).concat();
        let recoveries = said.iter().filter(|what| **what == Do::Recover).count();
        assert_eq!(recoveries, 2, "{said:?}");
        let holds = said.iter().filter(|what| matches!(what, Do::Hold { .. })).count();
        assert_eq!(holds, 2, "each hold is said once: {said:?}");
        let later = looks(&mut vigil, 3700, "-", &options).concat();
        assert_eq!(later, [Do::Recover], "an hour later there is room again");
    }

    #[test]
    fn without_the_callers_word_nothing_is_recovered() {
        let mut vigil = Vigil::default();
        let options = WatchOptions { recover: false, ..options() };
        let said = looks(&mut vigil, 0, "----------", &options).concat();
        assert_eq!(said, [Do::Announce { healthy: false }]);
    }
}
