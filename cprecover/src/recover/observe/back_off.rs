//! What is left of kubelet's crash-loop pauses: from its log and from what the runtime tells of containers.

use std::path::Path;
use std::time::Duration;

use crate::cri::{Container, ContainerDetail, RuntimeState, RuntimeView, UnixNanos};
use crate::logs::{LogMatch, SignatureId};
use crate::model::{Component, Observed};
use crate::recover::observation::BackOffFact;
use crate::sys::{Deadline, millis, read_bounded};

/// kubelet's first pause and the longest one (kubernetes `pkg/kubelet/kubelet.go`: `MaxContainerBackOff` is
/// 300 s, `backOffPeriod` 10 s; each crash doubles it).
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// A container that ran for longer leaves no pause behind: kubelet drops what it has not touched for twice the
/// longest one (client-go `util/flowcontrol/backoff.go`: `hasExpired`; it is touched when the container is made).
/// It is kept in memory, so that a boot empties it.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// The counters of a machine with many processors.
const MAX_STAT_BYTES: usize = 4 << 20;

/// When a component's newest container and the one before it ended.
pub(super) struct Crash {
    component: Component,
    attempt: u32,
    made_at: UnixNanos,
    ended_at: UnixNanos,
    /// When the container before it ended, where the runtime still knows that one.
    before_ended_at: Option<UnixNanos>,
}

/// Asks the runtime when the components' newest containers ended, where they did.
pub(super) fn crashes(
    runtime: Option<&dyn RuntimeView>,
    state: &Observed<RuntimeState>,
    deadline: &Deadline,
) -> Vec<Crash> {
    let (Some(runtime), Observed::Present(state)) = (runtime, state) else { return Vec::new() };
    let ended_at = |container: &Container| {
        // Not told is not told: the log, or the whole pause, is all that is known then.
        let detail: ContainerDetail = runtime.container_detail(&container.id, deadline).ok()?;
        detail.finished_at.filter(|at| at.0 > 0)
    };
    let crash = |component: Component| {
        let all = state.component_containers(component);
        let (newest, older) = all.split_first()?;
        if newest.is_running() {
            return None;
        }
        let before = older.iter().find(|older| older.attempt < newest.attempt);
        Some(Crash {
            component,
            attempt: newest.restart_count().unwrap_or(newest.attempt),
            made_at: newest.created_at,
            ended_at: ended_at(newest)?,
            before_ended_at: before.and_then(|before| ended_at(before)),
        })
    };
    Component::ALL.into_iter().filter_map(crash).collect()
}

/// When the machine was booted, since 1970: `btime` of `proc_stat(5)`.
pub(super) fn booted(proc_dir: &Path) -> Option<Duration> {
    let text = read_bounded(&proc_dir.join("stat"), MAX_STAT_BYTES).ok()?;
    let text = String::from_utf8_lossy(&text);
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Crash-loop pauses that still run, for components whose newest container has ended.
pub(super) fn back_offs(
    matches: &[LogMatch],
    runtime: &Observed<RuntimeState>,
    crashes: &[Crash],
    booted: Option<Duration>,
    now: Duration,
) -> Vec<BackOffFact> {
    let Observed::Present(state) = runtime else { return Vec::new() };
    let fact = |component: Component| {
        let newest = state.component_containers(component).into_iter().next();
        if newest.is_some_and(Container::is_running) {
            return None;
        }
        let crash = crashes.iter().find(|crash| crash.component == component);
        let remaining = match crash {
            // The log may be of a crash before this one, or of a kubelet before this one.
            Some(crash) if booted.is_some_and(|booted| since_1970(crash.ended_at) < booted) => Duration::ZERO,
            Some(crash) => left(computed(crash), crash.ended_at, now),
            // When it began is not known, so all of it may be left.
            None => logged(matches, component)?,
        };
        let remaining_ms = millis(remaining);
        (remaining_ms > 0).then_some(BackOffFact { component, remaining_ms })
    };
    Component::ALL.into_iter().filter_map(fact).collect()
}

/// The pause that kubelet's log tells of; it only grows, so the longest one is the last one.
fn logged(matches: &[LogMatch], component: Component) -> Option<Duration> {
    let of_component = |found: &&LogMatch| {
        found.signature == SignatureId::CrashLoopBackOff
            && found.param("container").and_then(|name| name.parse::<Component>().ok()) == Some(component)
    };
    let pauses = matches.iter().filter(of_component);
    pauses.filter_map(|found| found.param("backOff").and_then(go_duration)).max()
}

/// The pause after a crash: none after the first, then 10 s, doubled each time. A kubelet that was restarted
/// begins anew, which the pause before shows: the next one is at most twice as long. One that ran for long is
/// started again at once, and its pauses begin anew.
fn computed(crash: &Crash) -> Duration {
    let ran = crash.ended_at.0.saturating_sub(crash.made_at.0);
    if Duration::from_nanos(u64::try_from(ran).unwrap_or_default()) > FORGOTTEN_AFTER {
        return Duration::ZERO;
    }
    let Some(doublings) = crash.attempt.checked_sub(1) else { return Duration::ZERO };
    let by_count = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings.min(16)));
    let by_gap = crash.before_ended_at.map(|before| {
        let nanos = crash.made_at.0.saturating_sub(before.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or_default()).saturating_mul(2).max(FIRST_PAUSE)
    });
    by_count.min(by_gap.unwrap_or(LONGEST_PAUSE)).min(LONGEST_PAUSE)
}

fn left(pause: Duration, ended_at: UnixNanos, now: Duration) -> Duration {
    // A clock that was set back must not make the pause longer than it is.
    (since_1970(ended_at) + pause).saturating_sub(now).min(pause)
}

fn since_1970(at: UnixNanos) -> Duration {
    Duration::from_nanos(u64::try_from(at.0).unwrap_or_default())
}

/// Reads a Go duration of the forms that kubelet prints: `10s`, `1m20s`, `5m0s`.
fn go_duration(text: &str) -> Option<Duration> {
    let (minutes, seconds) = match text.split_once('m') {
        Some((minutes, rest)) => (minutes.parse().ok()?, rest),
        None => (0_u64, text),
    };
    let seconds: u64 = match seconds.strip_suffix('s') {
        Some(seconds) => seconds.parse().ok()?,
        None if seconds.is_empty() && text.ends_with('m') => 0,
        None => return None,
    };
    Some(Duration::from_secs(minutes.checked_mul(60)?.checked_add(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::{ContainerState, parse};
    use crate::logs::{ScanOptions, scan_bytes};

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn durations_as_kubelet_prints_them() {
        let read = |text| go_duration(text).map(|d| d.as_secs());
        assert_eq!(
            (read("10s"), read("1m20s"), read("5m0s"), read("5m")),
            (Some(10), Some(80), Some(300), Some(300))
        );
        assert_eq!((read("x"), read("1h"), read("")), (None, None, None));
    }

    fn crash(attempt: u32, made: i64, ended: i64, before_ended: Option<i64>) -> Crash {
        Crash {
            component: Component::Etcd,
            attempt,
            made_at: UnixNanos(made * SECOND),
            ended_at: UnixNanos(ended * SECOND),
            before_ended_at: before_ended.map(|at| UnixNanos(at * SECOND)),
        }
    }

    #[test]
    fn the_pause_doubles_from_ten_seconds_to_five_minutes() {
        let pauses: Vec<u64> =
            (0..9).map(|attempt| computed(&crash(attempt, 0, 1, None)).as_secs()).collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        // Made 12 s after the one before it ended: kubelet was restarted, and has begun anew.
        assert_eq!(computed(&crash(7, 1012, 1013, Some(1000))).as_secs(), 24);
        assert_eq!(computed(&crash(7, 1001, 1002, Some(1000))).as_secs(), 10);
    }

    #[test]
    fn one_that_ran_for_long_is_started_again_at_once() {
        assert_eq!(computed(&crash(7, 1000, 1000 + 3600, None)), Duration::ZERO);
        assert_eq!(computed(&crash(7, 1000, 1000 + 601, Some(990))), Duration::ZERO);
        assert_eq!(computed(&crash(7, 1000, 1000 + 600, None)).as_secs(), 300);
        // And the next pause is the first one.
        assert_eq!(computed(&crash(8, 4601, 4602, Some(4600))).as_secs(), 10);
    }

    #[test]
    fn the_boot_is_read_from_proc() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(booted(dir.path()), None);
        std::fs::write(dir.path().join("stat"), "cpu  1 2\nctxt 7\nbtime 1795479000\nprocesses 9\n")
            .expect("write");
        assert_eq!(booted(dir.path()), Some(Duration::from_mins(29_924_650)));
    }

    /// Of a real node: kubelet's recorded log names 10 s, the pause of an earlier crash; the runtime knows of
    /// five restarts.
    #[test]
    fn what_is_left_of_the_recorded_etcds_pause_is_told_by_the_runtime() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/incident-deadlock/");
        let read = |name: &str| std::fs::read(format!("{folder}{name}")).expect("recorded");
        let sandboxes = parse::pods(&read("crictl-pods.json")).expect("parses");
        let containers = parse::containers(&read("crictl-ps.json")).expect("parses");
        let state = RuntimeState { sandboxes, containers, ..RuntimeState::default() };
        let newest = state.component_containers(Component::Etcd).into_iter().next().expect("listed").clone();
        assert_eq!((newest.state, newest.restart_count()), (ContainerState::Exited, Some(5)));
        let made = newest.created_at.0 / SECOND;
        // The list has no finishedAt; etcd ended within its first second, of the port in use.
        let crashes = [crash(5, made, made + 1, None)];
        let matches = scan_bytes("kubelet", &read("kubelet.log"), &ScanOptions::default()).matches;
        assert_eq!(logged(&matches, Component::Etcd), Some(Duration::from_secs(10)));
        let state = Observed::Present(state);
        let at = |seconds: i64, crashes: &[Crash]| {
            let now = Duration::from_secs(u64::try_from(made + 1 + seconds).expect("after 1970"));
            let all = back_offs(&matches, &state, crashes, None, now);
            all.iter().find(|fact| fact.component == Component::Etcd).map(|fact| fact.remaining_ms)
        };
        assert_eq!(at(0, &crashes), Some(160_000));
        assert_eq!(at(100, &crashes), Some(60_000));
        assert_eq!(at(160, &crashes), None, "it is over");
        assert_eq!(at(-4000, &crashes), Some(160_000), "the clock was set back");
        // What ended before the boot is not in the memory of the kubelet that runs now.
        let ended = Duration::from_secs(u64::try_from(made + 1).expect("after 1970"));
        for (booted, waits) in [(ended, true), (ended + Duration::from_secs(1), false)] {
            let all = back_offs(&matches, &state, &crashes, Some(booted), ended);
            let is_waiting = all.iter().any(|fact| fact.component == Component::Etcd);
            assert_eq!(is_waiting, waits, "{all:?}");
        }
        // When the runtime does not tell when it ended, the whole pause of the log is what is known.
        assert_eq!(at(100, &[]), Some(10_000));
        // What runs has no pause.
        assert!(
            back_offs(&matches, &state, &crashes, None, Duration::ZERO)
                .iter()
                .all(|f| f.component != Component::KubeScheduler)
        );
    }
}
