//! What `policy.rs` and `policies/rivals` measure, and how: one observation, one clock, one view of memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cprecover::policy::Observation;
use cprecover::policy::contract::{Component, ManifestState};

/// A recorded node whose manifests are lost, with three of them in the backup: three decisions.
pub(crate) fn observation() -> Observation {
    let text = include_str!("../../../policies/testdata/manifests-lost.json");
    let mut value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    value.remove("schema");
    let mut seen: Observation = serde_json::from_value(value.into()).unwrap();
    for manifest in &mut seen.manifests {
        if manifest.component == Some(Component::KubeScheduler) {
            manifest.state = ManifestState::Present;
        }
    }
    seen
}

/// Heads the columns of [`measure`].
pub(crate) fn times_head() {
    println!("{:<44} {:>10} {:>10} {:>10}", "", "p50", "p99", "min");
}

/// Dropping the result is not measured.
pub(crate) fn measure<T>(name: &str, rounds: usize, mut work: impl FnMut() -> T) {
    for _ in 0..rounds / 10 {
        black_box(work());
    }
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            let result = black_box(work());
            let took = begun.elapsed();
            drop(result);
            took
        })
        .collect();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    println!("{name:<44} {:>10.1?} {:>10.1?} {:>10.1?}", at(50), at(99), times[0]);
}

fn status_kb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs this program once for each case, with the case's name before `args`: each in a process of its own.
pub(crate) fn memory_of_each(cases: &[&str], args: &[&std::path::Path]) {
    println!("\n{:<44} {:>12} {:>14}", "added to a process", "RSS kB", "address kB");
    for case in cases {
        let mut program = std::process::Command::new(std::env::current_exe().unwrap());
        let output = program.arg(case).args(args).output().unwrap();
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Prints what `work` added to this process.
pub(crate) fn memory(name: &str, work: impl FnOnce()) {
    let (rss, address) = (status_kb("VmRSS:"), status_kb("VmSize:"));
    work();
    // The high-water marks: also what was given back in between.
    let (rss, address) = (status_kb("VmHWM:") - rss, status_kb("VmPeak:") - address);
    println!("{name:<44} {rss:>12} {address:>14}");
}
